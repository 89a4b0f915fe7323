//! The namenode: what files there are, who holds them, and what the datanodes are to do next.
//!
//! `metadata` is the durable part: one database, one writer, changed by [`Mutation`]s only.

mod mutation;
mod record;

pub use mutation::{CommandEnd, Mutation, MutationError, Reply};
pub use record::{
    CommandRecord, CommandRecordAction, FileRecord, MAX_WRITES_PER_ALLOCATION, NodeAdmin,
    NodeIndex, NodeRecord, ParkedReplica, Replica, TombstoneHolder, TombstoneRecord, WriteRecord,
};
