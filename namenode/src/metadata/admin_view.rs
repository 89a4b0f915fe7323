//! What operators look up in a [`View`]: what is under way for one hash, and counts that nobody else needs.

use redb::{ReadableTable, ReadableTableMetadata};
use richardstore_proto::{CommandId, ContentHash, Generation};

use super::codec;
use super::repair_view::RepairUnderWay;
use super::tables::{COMMANDS, OVER_REPLICATED, REPAIRS, ViewError, WRITES, read_command};
use super::view::{View, guarded};
use crate::record::{NodeIndex, ParkedReplica};

impl View {
    /// The copy, trim or quarantine that is under way for a file, with its number and its node.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn repair_under_way(
        &self,
        hash: &ContentHash,
    ) -> Result<Option<RepairUnderWay>, ViewError> {
        guarded(|| {
            let Some((node, id)) = self.repair_key(hash)? else {
                return Ok(None);
            };
            let record = read_command(&self.table(COMMANDS)?, (node, id))?;
            Ok(record.map(|record| RepairUnderWay {
                hash: *hash,
                node: NodeIndex(node),
                id: CommandId(id),
                record,
            }))
        })
    }

    /// At most `limit` replicas of `hash` that were reported under writes in flight. Reads all of those, so it is blocking
    /// work.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn parked(
        &self,
        hash: &ContentHash,
        limit: usize,
    ) -> Result<Vec<ParkedReplica>, ViewError> {
        guarded(|| {
            let mut parked = Vec::new();
            for row in self.table(WRITES)?.iter()? {
                let (first, frame) = row?;
                let write = codec::decode_write(Generation(first.value()), frame.value())?;
                let of_hash = write.parked.iter().filter(|replica| replica.hash == *hash);
                parked.extend(of_hash.take(limit - parked.len()));
                if parked.len() >= limit {
                    break;
                }
            }
            Ok(parked)
        })
    }

    /// Files with more replicas recorded than their target.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn over_replicated_count(&self) -> Result<u64, ViewError> {
        guarded(|| Ok(self.table(OVER_REPLICATED)?.len()?))
    }

    fn repair_key(&self, hash: &ContentHash) -> Result<Option<(u32, u64)>, ViewError> {
        let repairs = self.table(REPAIRS)?;
        let work = repairs.get(hash.as_bytes())?;
        Ok(work.map(|work| work.value()))
    }
}
