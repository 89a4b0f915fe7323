//! The namenode: what files there are, who holds them, and what the datanodes are to do next.
//!
//! `metadata` is the durable part: one database, one writer, changed by [`Mutation`]s only.

mod cluster;
mod cluster_status;
mod delivery;
mod known_node;
mod liveness;
mod metadata;
mod mutation;
mod placement;
mod read_order;
mod reconcile;
mod record;
mod report_progress;
mod safe_mode;
mod suspects;

pub use metadata::{
    Counts, Metadata, MetadataOptions, OpenError, Table, UnknownTable, View, ViewError,
};
pub use mutation::{CommandEnd, Mutation, MutationError, Reply};
pub use record::{
    CommandRecord, CommandRecordAction, FileRecord, MAX_WRITES_PER_ALLOCATION, NodeAdmin,
    NodeIndex, NodeRecord, ParkedReplica, Replica, TombstoneHolder, TombstoneRecord, WriteRecord,
};
