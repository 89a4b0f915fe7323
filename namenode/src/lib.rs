//! The namenode: what files there are, who holds them, and what the datanodes are to do next.
//!
//! `metadata` is the durable part: one database, one writer, changed by [`Mutation`]s only. Decisions are pure:
//! placement, liveness, safe mode, delivery of commands and the comparison of reports know no clock and no I/O.
//! [`Namenode`] is the role: it reads the clocks, serves the calls and carries the decisions out.

mod cluster;
mod cluster_status;
mod config;
mod copies;
mod delivery;
mod event_log;
mod file_history;
mod history_log;
#[doc(hidden)]
pub mod hot_spots;
mod known_node;
mod liveness;
mod location_leases;
mod metadata;
mod metrics;
mod mutation;
mod namenode;
mod placement;
mod read_order;
mod reconcile;
mod record;
mod repair;
mod report_progress;
mod safe_mode;
mod service;
mod shared;
mod soft_state;
mod suspects;
mod ticker;
mod why;

pub use config::{ConfigError, NamenodeConfig};
pub use copies::CopyShelf;
pub use metadata::{
    Counts, DumpError, DumpOf, DumpSummary, HeldReplica, KeptCopy, LoadError, Metadata,
    MetadataOptions, OpenError, Rebuild, RepairUnderWay, Seen, Table, UnknownTable, Upgrade,
    UpgradeError, UpgradeStatus, View, ViewError, load, open_offline, verify_dump,
};
pub use mutation::{CommandEnd, Mutation, MutationError, Reply};
pub use namenode::{Namenode, NamenodeError};
pub use record::{
    CommandRecord, CommandRecordAction, FileRecord, MAX_WRITES_PER_ALLOCATION, NodeAdmin,
    NodeIndex, NodeRecord, ParkedReplica, RemovedNode, Replica, TombstoneHolder, TombstoneRecord,
    WriteRecord,
};
