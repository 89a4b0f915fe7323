//! Tombstones: who still has to confirm a delete, and how long it must be remembered.
//!
//! A tombstone stays until every holder has confirmed *and* no write that is older than it is in flight. The second half
//! is easily forgotten: a write that began before the delete may have left replicas that the delete commands removed; were
//! its commit accepted once the tombstone is gone, an acknowledged file would have no replica.

use redb::ReadableTable;
use richardstore_proto::{CommandId, ContentHash, Generation};

use super::batch::Batch;
use crate::mutation::MutationError;
use crate::record::{CommandRecordAction, NodeIndex, TombstoneHolder, TombstoneRecord};

impl Batch<'_> {
    /// Declares everything of `hash` up to `generation` dead, and tells `holders` so. Joins with what is buried there
    /// already.
    ///
    /// A holder that is told again gets a new command in place of its old one: it has just been seen to hold a replica,
    /// so a confirmation of the old command, which may be on its way, proves nothing any more.
    pub fn bury(
        &mut self,
        hash: &ContentHash,
        generation: Generation,
        holders: &[NodeIndex],
        now_ms: u64,
    ) -> Result<(), MutationError> {
        let before = self.tombstone(hash)?;
        let mut record = before.clone().unwrap_or(TombstoneRecord {
            generation,
            deleted_ms: now_ms,
            holders: Vec::new(),
        });
        if generation > record.generation {
            record.generation = generation;
            record.deleted_ms = now_ms;
        }
        for node in holders {
            let action = CommandRecordAction::Delete {
                hash: *hash,
                generation: record.generation,
            };
            let command = self.add_command(*node, action, now_ms)?;
            let holder = TombstoneHolder {
                node: *node,
                command,
            };
            match record
                .holders
                .binary_search_by_key(node, |known| known.node)
            {
                Ok(at) => {
                    self.remove_command(*node, record.holders[at].command)?;
                    record.holders[at] = holder;
                }
                Err(at) => record.holders.insert(at, holder),
            }
        }
        self.keep_or_drop(hash, before.as_ref(), &record)
    }

    /// Strikes off the holder that has carried out `command`.
    pub fn confirm_delete(
        &mut self,
        hash: &ContentHash,
        node: NodeIndex,
        command: CommandId,
    ) -> Result<(), MutationError> {
        let Some(before) = self.tombstone(hash)? else {
            return Ok(());
        };
        let mut record = before.clone();
        record
            .holders
            .retain(|holder| *holder != TombstoneHolder { node, command });
        if record.holders.len() == before.holders.len() {
            return Ok(());
        }
        self.keep_or_drop(hash, Some(&before), &record)
    }

    /// Drops at most `limit` tombstones that every holder has confirmed and that no write in flight is older than.
    pub fn drop_spent_tombstones(&mut self, limit: usize) -> Result<(), MutationError> {
        let oldest = self.oldest_open_write()?;
        for _ in 0..limit {
            let Some((generation, hash)) = self.first_spent()? else {
                return Ok(());
            };
            if oldest.is_some_and(|oldest| oldest <= generation) {
                return Ok(());
            }
            match self.tombstone(&hash)? {
                Some(record) if record.holders.is_empty() && record.generation == generation => {
                    self.replace_tombstone(&hash, Some(&record), None)?;
                }
                _ => {
                    return Err(MutationError::Corrupt(format!(
                        "tombstone {hash} is listed as spent and is not"
                    )));
                }
            }
        }
        Ok(())
    }

    fn first_spent(&self) -> Result<Option<(Generation, ContentHash)>, MutationError> {
        Ok(self.tables.spent_tombstones.first()?.map(|(key, _)| {
            let (generation, hash) = key.value();
            (Generation(generation), ContentHash::new(*hash))
        }))
    }

    fn keep_or_drop(
        &mut self,
        hash: &ContentHash,
        before: Option<&TombstoneRecord>,
        record: &TombstoneRecord,
    ) -> Result<(), MutationError> {
        let waits_for_write = self
            .oldest_open_write()?
            .is_some_and(|oldest| oldest <= record.generation);
        let keep = !record.holders.is_empty() || waits_for_write;
        if !keep && before.is_none() {
            return Ok(());
        }
        self.replace_tombstone(hash, before, keep.then_some(record))?;
        Ok(())
    }
}
