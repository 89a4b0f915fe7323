//! [`Mutation`]: every change of the metadata as a value, [`Reply`]: what it answers.
//!
//! Ids and times are in the mutation, so that applying it needs no clock and no chance: the reply depends on the state
//! and the mutation alone. A log of these is what a replicated namenode would replicate.

use richardstore_proto::{
    Blake3Root, CommandId, ContentHash, ErrorCode, Generation, JournalEvent, JournalId,
    NamenodeEpoch, NodeId, RememberedDelete, Sequence, SessionEpoch, StoreError,
};

use crate::metadata::Tight;
use crate::record::{CommandRecordAction, NodeAdmin, NodeIndex};

/// A change. All times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// The namenode started: a new epoch. Writes in flight get time to be finished.
    StartEpoch {
        /// The time.
        now_ms: u64,
        /// No write in flight is given up before this.
        writes_expire_at_ms: u64,
    },
    /// Hands out generations for writes.
    AllocateWrites {
        /// How many, 1 to [`crate::record::MAX_WRITES_PER_ALLOCATION`].
        count: u32,
        /// When they are given up unless renewed.
        expires_at_ms: u64,
    },
    /// Keeps writes in flight alive.
    RenewWrites {
        /// Which. The whole allocation of each is renewed.
        generations: Vec<Generation>,
        /// Until when.
        expires_at_ms: u64,
    },
    /// Makes a written file readable.
    CommitFile {
        /// The write.
        generation: Generation,
        /// The file.
        hash: ContentHash,
        /// Bytes.
        size: u64,
        /// What the bytes are verified by.
        blake3_root: Blake3Root,
        /// The replication target, 1 to [`richardstore_proto::MAX_REPLICATION`].
        replication: u32,
        /// Who acknowledged; at least one.
        nodes: Vec<NodeId>,
        /// The time.
        now_ms: u64,
    },
    /// Gives writes back. Replicas that were published under them are removed.
    AbandonWrites {
        /// Which. Those not in flight are ignored.
        generations: Vec<Generation>,
        /// The time.
        now_ms: u64,
    },
    /// Gives up the writes whose time has run out, and drops tombstones that only waited for a write. To be sent
    /// regularly.
    ExpireWrites {
        /// The time.
        now_ms: u64,
        /// Allocations, and tombstones, at most.
        limit: usize,
    },
    /// Removes a file: the record goes, a tombstone and the commands to its holders come.
    DeleteFile {
        /// The file.
        hash: ContentHash,
        /// The time.
        now_ms: u64,
    },
    /// A datanode started, or was asked to register again.
    RegisterNode {
        /// Its identity.
        node_id: NodeId,
        /// Its start, counted.
        session_epoch: SessionEpoch,
        /// A name for people.
        name: String,
        /// `host:port`.
        address: String,
        /// The failure domain; empty is "not set".
        rack: String,
        /// The life of its index.
        journal_id: JournalId,
        /// The time.
        now_ms: u64,
    },
    /// A datanode has another address now.
    UpdateNode {
        /// Which.
        index: NodeIndex,
        /// `host:port`.
        address: String,
    },
    /// The operator wants something else of a datanode, or it was emptied. Only one that is being emptied becomes emptied, and
    /// an emptied one is not emptied again: both are left as they are.
    SetNodeAdmin {
        /// Which.
        index: NodeIndex,
        /// What is wanted of it.
        admin: NodeAdmin,
    },
    /// A datanode is expected to be away for a time.
    SetMaintenance {
        /// Which.
        index: NodeIndex,
        /// Until when; `None` ends it.
        until_ms: Option<u64>,
    },
    /// A datanode is gone for good. Its replicas and commands go a page at a time: to be sent again until nothing is left.
    RemoveNode {
        /// Which.
        index: NodeIndex,
        /// The last replica of the page before.
        after: Option<(Generation, ContentHash)>,
        /// Replicas, and then commands, at most.
        limit: usize,
        /// The time.
        now_ms: u64,
    },
    /// The next events of a datanode's journal.
    ApplyReport {
        /// Whose.
        index: NodeIndex,
        /// The session that sends them.
        session_epoch: SessionEpoch,
        /// The journal they are from.
        journal_id: JournalId,
        /// The events, ascending.
        events: Vec<JournalEvent>,
        /// The time.
        now_ms: u64,
    },
    /// A datanode says how commands ended.
    ConfirmCommands {
        /// Whose commands.
        index: NodeIndex,
        /// How they ended. Those no longer known are ignored.
        outcomes: Vec<(CommandId, CommandEnd)>,
    },
    /// A datanode says which deletes it remembers. Only metadata that was restored has use for it.
    RecallDeletes {
        /// The deletes.
        deletes: Vec<RememberedDelete>,
        /// The time.
        now_ms: u64,
    },
    /// The metadata was restored and is about to hear what the datanodes hold. Done by itself at the first start on metadata
    /// that was loaded.
    Recover {
        /// Replication target of files that come back.
        replication: u32,
        /// The newest epoch that a datanode has seen.
        epoch: NamenodeEpoch,
        /// The newest generation that a datanode has.
        generation: Generation,
        /// The time.
        now_ms: u64,
    },
    /// New commands.
    IssueCommands {
        /// For whom, and what.
        commands: Vec<(NodeIndex, CommandRecordAction)>,
        /// The time.
        now_ms: u64,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    /// Done for good.
    Done,
    /// To be tried again.
    Failed {
        /// Not before this time, milliseconds since the Unix epoch.
        retry_at_ms: u64,
    },
}

/// What a mutation answers once it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Mutation::StartEpoch`].
    Epoch(NamenodeEpoch),
    /// To [`Mutation::AllocateWrites`].
    Writes {
        /// The first generation; the others follow without gaps.
        first: Generation,
    },
    /// To [`Mutation::RenewWrites`].
    Renewed {
        /// Those that are not in flight.
        unknown: Vec<Generation>,
    },
    /// To [`Mutation::CommitFile`].
    Committed {
        /// `false`: the file was there already.
        created: bool,
        /// Replicas recorded now.
        replicas: u32,
        /// When the file was first committed.
        created_ms: u64,
    },
    /// To [`Mutation::DeleteFile`].
    Deleted {
        /// `false`: there was no such file.
        existed: bool,
    },
    /// To [`Mutation::RegisterNode`].
    Registered {
        /// Its number.
        index: NodeIndex,
        /// The first journal event to send.
        next_sequence: Sequence,
        /// The journal is another one than before, or the node is new: only a full report says what it holds.
        journal_changed: bool,
    },
    /// To [`Mutation::SetNodeAdmin`].
    NodeAdmin {
        /// What is wanted of the node now.
        admin: NodeAdmin,
    },
    /// To [`Mutation::RemoveNode`].
    Removed {
        /// Something may be left.
        more: bool,
        /// The last replica of this page; `None` when all replicas are gone.
        after: Option<(Generation, ContentHash)>,
    },
    /// To [`Mutation::ApplyReport`].
    Applied {
        /// The first journal event that has not been applied.
        next_sequence: Sequence,
        /// The newest write in flight whose replica on this node was removed. Its commit may name the node all the same.
        newest_lost: Option<Generation>,
    },
    /// To [`Mutation::ExpireWrites`].
    Expired {
        /// Generations given up.
        count: u64,
    },
    /// To those that only can succeed.
    Done,
}

/// Why a mutation was refused. A refused mutation has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MutationError {
    /// The write ran out, was abandoned, or never was.
    #[error("write {generation} is not in flight")]
    WriteUnknown {
        /// The write.
        generation: Generation,
    },
    /// The file was deleted after this write had begun (I3).
    #[error("{hash} was deleted while write {generation} uploaded it")]
    DeletedMeanwhile {
        /// The file.
        hash: ContentHash,
        /// The write.
        generation: Generation,
    },
    /// Another size or BLAKE3 root than the file of this hash has.
    #[error("{hash} has {size} bytes and root {blake3_root}; the commit says otherwise")]
    SizeConflict {
        /// The file.
        hash: ContentHash,
        /// Its size.
        size: u64,
        /// Its root.
        blake3_root: Blake3Root,
    },
    /// An argument outside its limits.
    #[error("{argument} is {value}, allowed is {allowed}")]
    Limit {
        /// Which.
        argument: &'static str,
        /// What it was.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// A newer session of the node has registered.
    #[error("node {node_id}: session {session_epoch} is fenced by session {newest}")]
    Fenced {
        /// The node.
        node_id: NodeId,
        /// The session that asks.
        session_epoch: SessionEpoch,
        /// The newest.
        newest: SessionEpoch,
    },
    /// The journal or session is not the registered one: the node has to register again.
    #[error("node {node_id} reports from a journal or session that is not registered")]
    JournalUnknown {
        /// The node.
        node_id: NodeId,
    },
    /// The node was removed from the cluster, and has come back.
    #[error(
        "node {node_id} was removed from this cluster; wipe its directory and start it again as a new one"
    )]
    NodeRemoved {
        /// The node.
        node_id: NodeId,
    },
    /// No node has this number.
    #[error("no node has number {}", .0.0)]
    NodeUnknown(NodeIndex),
    /// No node has this id.
    #[error("node {0} never registered")]
    NodeIdUnknown(NodeId),
    /// The disk under the database is too full for it.
    #[error("{0}")]
    NoRoom(Tight),
    /// A record is damaged. Others are not concerned.
    #[error("damaged metadata: {0}")]
    Corrupt(String),
    /// The database failed; the process must exit and open it again.
    #[error("the metadata database failed: {0}")]
    Storage(String),
    /// The metadata is being closed.
    #[error("the metadata is closed")]
    Closed,
}

impl From<MutationError> for StoreError {
    fn from(error: MutationError) -> Self {
        let code = match &error {
            MutationError::WriteUnknown { .. } => ErrorCode::Conflict,
            MutationError::DeletedMeanwhile { .. } => ErrorCode::DeletedMeanwhile,
            MutationError::SizeConflict { .. } | MutationError::Limit { .. } => {
                ErrorCode::InvalidArgument
            }
            MutationError::Fenced { .. }
            | MutationError::JournalUnknown { .. }
            | MutationError::NodeRemoved { .. } => ErrorCode::Fenced,
            MutationError::NodeUnknown(_) | MutationError::NodeIdUnknown(_) => ErrorCode::NotFound,
            MutationError::NoRoom(_) => ErrorCode::StorageFull,
            MutationError::Corrupt(_) => ErrorCode::Internal,
            MutationError::Storage(_) | MutationError::Closed => ErrorCode::Unavailable,
        };
        StoreError::new(code, error.to_string())
    }
}
