//! A datanode: keeps replicas, takes part in pipelines, and tells the namenode what it holds.
//!
//! The directory is the truth; the index beside it is a cache that reports are read from (I9). A datanode serves reads
//! and running writes whether or not its namenode can be reached.

mod admin_service;
mod backoff;
mod bad_replicas;
mod commands;
mod config;
mod copy;
mod datanode;
mod delete_log;
#[cfg(test)]
mod fixture;
mod identity;
mod index;
mod inventory;
mod membership;
mod memory;
mod metrics;
mod namenode;
mod node;
mod pipeline;
mod prove;
mod read;
mod read_ahead;
mod read_whole;
mod rebuild;
mod recent_uploads;
mod reports;
mod scrub;
mod service;
mod session;
mod volume;

pub use config::DatanodeConfig;
pub use datanode::{Datanode, DatanodeError};
pub use identity::{Identity, IdentityError};
pub use index::{Index, IndexEntry, IndexError, IndexOptions, OpenedIndex, RebuildReason};
pub use volume::VolumeError;
