//! The records of the metadata: what the namenode remembers about files, nodes, deletes, commands and writes in flight.
//!
//! These are the domain types; how they lie on disk is the business of `metadata::codec`.

use serde::{Deserialize, Serialize};

use richardstore_proto::{
    Blake3Root, CommandId, ContentHash, FileInfo, Generation, JournalId, NodeId, Sequence,
    SessionEpoch,
};

/// Short number of a datanode inside records. Given at its first registration and never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NodeIndex(pub u32);

/// A datanode that holds a file, and the write its replica came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Who.
    pub node: NodeIndex,
    /// Which write. May be older or newer than the file's: the bytes are the same.
    pub generation: Generation,
}

/// A committed file. The record stays when its last replica is lost: the file is then unreadable, not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// Bytes.
    pub size: u64,
    /// What the bytes are verified by.
    pub blake3_root: Blake3Root,
    /// How many replicas there should be.
    pub replication: u32,
    /// The newest committed write.
    pub generation: Generation,
    /// When it was first committed, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Who holds it, ascending by node, each node once.
    pub replicas: Vec<Replica>,
}

impl FileRecord {
    /// The file as it goes over the wire.
    pub fn info(&self, hash: ContentHash) -> FileInfo {
        FileInfo {
            hash,
            size: self.size,
            blake3_root: self.blake3_root,
            generation: self.generation,
            replication: self.replication,
            created_ms: self.created_ms,
        }
    }

    /// The replica that `node` is believed to hold.
    pub fn replica(&self, node: NodeIndex) -> Option<Replica> {
        self.replicas
            .binary_search_by_key(&node, |replica| replica.node)
            .ok()
            .map(|at| self.replicas[at])
    }

    /// Replicas recorded above the target.
    pub fn surplus(&self) -> u32 {
        let recorded = u32::try_from(self.replicas.len()).unwrap_or(u32::MAX);
        recorded.saturating_sub(self.replication)
    }

    /// Replicas missing to the target.
    pub fn missing(&self) -> u32 {
        let recorded = u32::try_from(self.replicas.len()).unwrap_or(u32::MAX);
        self.replication.saturating_sub(recorded)
    }
}

/// What the operator wants of a datanode. In records it is a number, in dumps a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAdmin {
    /// To be used.
    #[default]
    InService,
    /// To be emptied.
    Decommissioning,
    /// Emptied.
    Decommissioned,
}

/// A datanode that has registered at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its identity.
    pub node_id: NodeId,
    /// Its number inside records.
    pub index: NodeIndex,
    /// A name for people.
    pub name: String,
    /// `host:port` it was last reached at.
    pub address: String,
    /// The failure domain; empty is "not set".
    pub rack: String,
    /// The newest start of this node; older ones are fenced.
    pub session_epoch: SessionEpoch,
    /// The life of its index that `next_sequence` counts in.
    pub journal_id: Option<JournalId>,
    /// The first journal event that has not been applied.
    pub next_sequence: Sequence,
    /// What the operator wants.
    pub admin: NodeAdmin,
    /// When it first registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
    /// Replicas it is believed to hold.
    pub replicas: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Commands it has not confirmed.
    pub commands: u64,
}

/// A datanode that the operator removed from the cluster. Its [`NodeRecord`] stays, so that it is known when it returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedNode {
    /// When, milliseconds since the Unix epoch.
    pub removed_ms: u64,
}

/// A holder of a deleted file, and the command that tells it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneHolder {
    /// Who.
    pub node: NodeIndex,
    /// The delete command whose confirmation strikes this holder off. Only this one counts: the confirmation of a
    /// command for an older generation says nothing about a newer replica.
    pub command: CommandId,
}

/// A delete that must not be forgotten yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    /// Replicas and commits up to this write are dead.
    pub generation: Generation,
    /// When it was deleted, milliseconds since the Unix epoch.
    pub deleted_ms: u64,
    /// Nodes that have not confirmed, ascending, each once. Empty: all have, and the tombstone waits for the writes
    /// that are older than it and still in flight.
    pub holders: Vec<TombstoneHolder>,
    /// The next generation when it was made: where in the life of this database the delete lies. Datanodes remember the
    /// delete at least until every copy of the metadata that is kept was taken after this.
    pub marker: Generation,
}

impl TombstoneRecord {
    /// Whether `node` has yet to confirm.
    pub fn is_held_by(&self, node: NodeIndex) -> bool {
        self.holders.iter().any(|holder| holder.node == node)
    }
}

/// What a durable command asks a datanode to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandRecordAction {
    /// Remove the replica unless it is newer than this (I4).
    Delete {
        /// The file.
        hash: ContentHash,
        /// The newest generation to remove.
        generation: Generation,
    },
    /// Copy the file to other nodes.
    Replicate {
        /// The file.
        hash: ContentHash,
        /// Where to.
        targets: Vec<NodeIndex>,
    },
    /// Remove a replica that is one too many, unless it is newer than this.
    Trim {
        /// The file.
        hash: ContentHash,
        /// The newest generation to remove.
        generation: Generation,
        /// Who has to hold it still when the command is handed out; at least as many as the target.
        keep: Vec<NodeIndex>,
    },
    /// Look at a replica that somebody reported as bad, and put it aside if it is.
    Quarantine {
        /// The file.
        hash: ContentHash,
        /// The newest generation that is meant.
        generation: Generation,
        /// Who held a good replica; at least one.
        keep: Vec<NodeIndex>,
    },
}

impl CommandRecordAction {
    /// The file that it is about.
    pub fn hash(&self) -> &ContentHash {
        match self {
            Self::Delete { hash, .. }
            | Self::Replicate { hash, .. }
            | Self::Trim { hash, .. }
            | Self::Quarantine { hash, .. } => hash,
        }
    }

    /// The file of a copy, trim or quarantine: of these a file has at most one at a time. Deletes follow the tombstones.
    pub fn repairs(&self) -> Option<&ContentHash> {
        match self {
            Self::Delete { .. } => None,
            Self::Replicate { hash, .. }
            | Self::Trim { hash, .. }
            | Self::Quarantine { hash, .. } => Some(hash),
        }
    }
}

/// A command that was not confirmed yet (I10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// The work.
    pub action: CommandRecordAction,
    /// How often it failed.
    pub attempts: u32,
    /// Not handed out before this time, milliseconds since the Unix epoch.
    pub not_before_ms: u64,
    /// When it was issued, milliseconds since the Unix epoch.
    pub issued_ms: u64,
}

/// A replica that was reported before its write was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedReplica {
    /// Who holds it.
    pub node: NodeIndex,
    /// Which write.
    pub generation: Generation,
    /// The file.
    pub hash: ContentHash,
}

/// Up to [`MAX_WRITES_PER_ALLOCATION`] generations that were handed out together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRecord {
    /// How many generations, from the record's key upwards.
    pub count: u32,
    /// One bit per generation, lowest first: still in flight.
    pub open: u64,
    /// When those in flight are given up, milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// Replicas reported under those in flight.
    pub parked: Vec<ParkedReplica>,
}

/// Generations one allocation can hold: the bits of [`WriteRecord::open`].
pub const MAX_WRITES_PER_ALLOCATION: u32 = 64;

impl WriteRecord {
    /// The bit of `generation` in a record whose key is `first`; `None` where the record does not hold it.
    pub fn bit(&self, first: Generation, generation: Generation) -> Option<u64> {
        let offset = generation.0.checked_sub(first.0)?;
        (offset < u64::from(self.count)).then(|| 1u64 << offset)
    }

    /// Whether `generation` is in flight.
    pub fn is_open(&self, first: Generation, generation: Generation) -> bool {
        self.bit(first, generation)
            .is_some_and(|bit| self.open & bit != 0)
    }
}
