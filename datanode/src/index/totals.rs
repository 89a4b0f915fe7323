//! [`Totals`]: the digests, count and bytes of everything in the index, kept in step with every change in constant time.

use richardstore_proto::{ContentHash, RangeDigests};

use super::record::ReplicaRecord;

/// What the index holds, summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    digests: RangeDigests,
    count: u64,
    bytes: u64,
}

impl Totals {
    /// Takes out what was known about `hash` and takes in what is known now.
    pub fn replace(
        &mut self,
        hash: &ContentHash,
        before: Option<&ReplicaRecord>,
        after: Option<&ReplicaRecord>,
    ) {
        if let Some(record) = before {
            self.digests.remove(hash, record.generation);
            self.count = self.count.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(record.size);
        }
        if let Some(record) = after {
            self.digests.add(hash, record.generation);
            self.count = self.count.saturating_add(1);
            self.bytes = self.bytes.saturating_add(record.size);
        }
    }

    pub fn digests(&self) -> &RangeDigests {
        &self.digests
    }

    /// Replicas.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of their sizes in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
