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
        let marker = Generation(self.counters.next_generation);
        let mut record = before.clone().unwrap_or(TombstoneRecord {
            generation,
            deleted_ms: now_ms,
            holders: Vec::new(),
            marker,
        });
        if generation > record.generation {
            record.generation = generation;
            record.deleted_ms = now_ms;
            record.marker = marker;
        }
        for node in holders {
            if self.is_removed(*node)? {
                continue;
            }
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

#[cfg(test)]
mod tests {
    use super::super::fixture::{EXPIRES, Fixture, generation, hash};

    #[test]
    fn i03_a_tombstone_stays_until_every_holder_has_confirmed() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        fixture.delete(1);
        fixture.confirm_all(2);
        assert_eq!(fixture.buried(1), Some((1, vec![1, 3])));
        fixture.confirm_all(1);
        fixture.expire(EXPIRES * 1000);
        assert_eq!(fixture.buried(1), Some((1, vec![3])));
        fixture.confirm_all(3);
        assert_eq!(fixture.buried(1), None);
        let counts = fixture.view().counts().unwrap();
        assert_eq!((counts.tombstones, counts.commands), (0, 0));
    }

    #[test]
    fn a_confirmed_tombstone_waits_for_the_writes_that_are_older() {
        let fixture = Fixture::new();
        let slow = fixture.allocate();
        fixture.upload(1, &[1]);
        fixture.delete(1);
        fixture.confirm_all(1);
        assert_eq!(fixture.buried(1), Some((2, vec![])));
        fixture.expire(0);
        assert_eq!(fixture.buried(1), Some((2, vec![])));
        fixture.abandon(slow);
        // A younger write does not hold it up.
        fixture.allocate();
        fixture.expire(0);
        assert_eq!(fixture.buried(1), None);
    }

    #[test]
    fn a_second_delete_joins_the_tombstone_of_the_first() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        fixture.delete(1);
        fixture.upload(1, &[2, 3]);
        fixture.delete(1);
        assert_eq!(fixture.buried(1), Some((2, vec![1, 2, 3])));
        // One command a holder, however often a file comes and goes.
        assert_eq!(fixture.deletes(1), [(hash(1), generation(1))]);
        assert_eq!(fixture.deletes(2), [(hash(1), generation(2))]);
        for node in 1..=3 {
            fixture.confirm_all(node);
        }
        assert_eq!(fixture.buried(1), None);
    }

    #[test]
    fn the_delete_of_a_file_without_replicas_leaves_nothing() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.removed(1, 1, 1);
        fixture.delete(1);
        assert_eq!((fixture.file(1), fixture.buried(1)), (None, None));
    }
}
