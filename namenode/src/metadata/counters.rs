//! [`Counters`]: the numbers that are kept in the transaction that changes what they count.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::codec;
use super::tables::{Frame, META_COUNTERS, ViewError};

/// The `counters` row of `meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// Starts of the namenode on this database.
    pub epoch: u64,
    /// The next generation to hand out. Durable with the allocation itself, so no crash can make it step back.
    pub next_generation: u64,
    pub next_command: u64,
    pub next_node: u32,
    pub files: u64,
    pub bytes: u64,
    pub tombstones: u64,
    pub commands: u64,
    /// Generations in flight.
    pub writes: u64,
    pub under_replicated: u64,
    pub foreign_replicas: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            epoch: 0,
            // 0 means "not known" for each of these.
            next_generation: 1,
            next_command: 1,
            next_node: 1,
            files: 0,
            bytes: 0,
            tombstones: 0,
            commands: 0,
            writes: 0,
            under_replicated: 0,
            foreign_replicas: 0,
        }
    }
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Committed files.
    pub files: u64,
    /// Their bytes, each file once.
    pub bytes: u64,
    /// Deletes that must not be forgotten yet.
    pub tombstones: u64,
    /// Commands that were not confirmed.
    pub commands: u64,
    /// Generations in flight.
    pub writes: u64,
    /// Files with fewer replicas recorded than their target.
    pub under_replicated: u64,
    /// Reports of replicas newer than this database, ever: not 0 means that the database is an old copy.
    pub foreign_replicas: u64,
}

impl Counters {
    pub fn read(meta: &impl ReadableTable<&'static str, Frame>) -> Result<Self, ViewError> {
        let frame = meta
            .get(META_COUNTERS)?
            .ok_or_else(|| ViewError::Corrupt("meta has no counters".to_owned()))?;
        codec::decode("meta counters", frame.value())
    }

    pub fn counts(&self) -> Counts {
        Counts {
            files: self.files,
            bytes: self.bytes,
            tombstones: self.tombstones,
            commands: self.commands,
            writes: self.writes,
            under_replicated: self.under_replicated,
            foreign_replicas: self.foreign_replicas,
        }
    }
}
