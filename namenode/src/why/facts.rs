//! [`Facts`]: what there is to say about one hash, as it was looked up. No words yet.

use std::collections::BTreeMap;

use richardstore_proto::{CommandId, ContentHash, Generation, NodeState};

use crate::file_history::Story;
use crate::record::{CommandRecord, FileRecord, NodeIndex, ParkedReplica};

/// Everything that bears on one hash. Times are milliseconds since the Unix epoch unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The hash.
    pub hash: ContentHash,
    /// When this was looked up.
    pub now_ms: u64,
    /// The same by the clock of deadlines, see [`crate::shared::Shared::deadline_ms`].
    pub deadline_now_ms: u64,
    /// What the metadata says of it.
    pub subject: Subject,
    /// All datanodes.
    pub nodes: BTreeMap<NodeIndex, NodeFacts>,
    /// Replicas that were reported under uploads that are not committed.
    pub parked: Vec<ParkedReplica>,
    /// The copy, trim or quarantine that was ordered for the file.
    pub planned: Option<Planned>,
    /// Why nothing at all is copied or removed now.
    pub halted: Option<String>,
    /// The last attempts failed: repair lets the file rest for so long yet, in milliseconds.
    pub rests_ms: u64,
    /// Files that wait for their turn to be copied.
    pub waiting: usize,
    /// A delete of an earlier life of the file, which somebody has not confirmed.
    pub buried: Option<Buried>,
    /// What is remembered of what happened to it.
    pub story: Story,
}

/// A file was deleted and stored again since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buried {
    /// Replicas and uploads up to this write are dead.
    pub generation: Generation,
    /// When.
    pub deleted_ms: u64,
    /// Datanodes that have not confirmed.
    pub holders: usize,
}

/// What the metadata says of a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// It is a file.
    File {
        /// Its record.
        record: FileRecord,
        /// Its replicas, in the order of the record.
        holders: Vec<HolderFacts>,
    },
    /// It was a file, and somebody who held it has not confirmed the delete.
    Deleted {
        /// Replicas and uploads up to this write are dead.
        generation: Generation,
        /// When.
        deleted_ms: u64,
        /// Who has to confirm.
        deletes: Vec<DeleteFacts>,
    },
    /// Neither.
    Unknown,
}

/// A replica on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderFacts {
    /// Who.
    pub node: NodeIndex,
    /// Which write it came with.
    pub generation: Generation,
    /// Somebody reported it as bad.
    pub suspect: bool,
    /// Its node was told to remove it and has not reported whether it did.
    pub unsettled: bool,
}

/// A datanode that has to confirm a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteFacts {
    /// Who.
    pub node: NodeIndex,
    /// The command that tells it so.
    pub id: CommandId,
    /// What it says; `None` where it is not on record.
    pub command: Option<CommandRecord>,
    /// The node has it in its hands.
    pub handed_out: bool,
}

/// A command of repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Who is to carry it out.
    pub node: NodeIndex,
    /// Its number.
    pub id: CommandId,
    /// What it says.
    pub command: CommandRecord,
    /// The node has it in its hands.
    pub handed_out: bool,
    /// When it is given up unless it is done: copies only.
    pub deadline_ms: Option<u64>,
}

/// A datanode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name for people.
    pub name: String,
    /// Its failure domain; empty is "not set".
    pub rack: String,
    /// How it is doing.
    pub state: NodeState,
    /// Its good replicas count.
    pub counts: bool,
    /// It registered since the namenode started.
    pub registered: bool,
    /// It takes no writes.
    pub read_only: bool,
    /// Bytes that may still be written there.
    pub available_bytes: u64,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u64,
}

impl NodeFacts {
    /// Its replicas can be read now.
    pub fn is_readable(&self) -> bool {
        self.registered && self.state != NodeState::Dead
    }

    /// Why it cannot take a copy of `bytes`; `None`: it can.
    pub fn obstacle(&self, bytes: u64) -> Option<String> {
        if !self.registered {
            return Some("has not registered since the namenode started".to_owned());
        }
        match self.state {
            NodeState::Live if self.read_only => Some("takes no writes".to_owned()),
            NodeState::Live if self.available_bytes < bytes => Some(format!(
                "has room for {} bytes and {bytes} are needed",
                self.available_bytes
            )),
            NodeState::Live => None,
            state => Some(format!("is {}", state.as_str())),
        }
    }
}
