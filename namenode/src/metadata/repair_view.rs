//! What repair looks at in a [`View`]: files recorded short or in surplus, what a lost node held, and what is under way.
//! Each in pages by key, so that nothing here ever walks all files.

use std::ops::Bound;

use redb::{ReadableTable, TableDefinition};
use richardstore_proto::{CommandId, ContentHash, Generation};

use super::codec;
use super::tables::{
    COMMANDS, FILES, HashKey, NODE_FILES, OVER_REPLICATED, REPAIRS, UNDER_REPLICATED, ViewError,
    WRITES, node_file_key, read_command, split_node_file_key,
};
use super::view::{View, guarded};
use crate::record::{CommandRecord, FileRecord, NodeIndex};

/// A copy, trim or quarantine that was not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairUnderWay {
    /// The file.
    pub hash: ContentHash,
    /// Whose command it is.
    pub node: NodeIndex,
    /// The command.
    pub id: CommandId,
    /// What it says.
    pub record: CommandRecord,
}

/// A page of a walk over all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalkedFiles {
    /// Those that could be read.
    pub files: Vec<(ContentHash, FileRecord)>,
    /// Where the page ends.
    pub last: Option<ContentHash>,
    /// There may be more behind it.
    pub more: bool,
}

impl View {
    /// At most `limit` files with fewer replicas recorded than their target, by hash, from the one behind `after`.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn under_replicated(
        &self,
        after: Option<ContentHash>,
        limit: usize,
    ) -> Result<Vec<ContentHash>, ViewError> {
        self.hashes(UNDER_REPLICATED, after, limit)
    }

    /// At most `limit` files with more replicas recorded than their target, by hash, from the one behind `after`.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn over_replicated(
        &self,
        after: Option<ContentHash>,
        limit: usize,
    ) -> Result<Vec<ContentHash>, ViewError> {
        self.hashes(OVER_REPLICATED, after, limit)
    }

    /// At most `limit` replicas that a node is recorded to hold, oldest first, from the one behind `after`.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn held_by(
        &self,
        node: NodeIndex,
        after: Option<(Generation, ContentHash)>,
        limit: usize,
    ) -> Result<Vec<(Generation, ContentHash)>, ViewError> {
        guarded(|| {
            let first = node_file_key(node, Generation(0), &ContentHash::new([0; 32]));
            let last = node_file_key(node, Generation(u64::MAX), &ContentHash::MAX);
            let behind = after.map(|(generation, hash)| node_file_key(node, generation, &hash));
            let start = match &behind {
                Some(key) => Bound::Excluded(key),
                None => Bound::Included(&first),
            };
            let table = self.table(NODE_FILES)?;
            let range = (start, Bound::Included(&last));
            let mut page = Vec::new();
            for row in table.range::<&[u8; 44]>(range)?.take(limit) {
                let (_, generation, hash) = split_node_file_key(row?.0.value());
                page.push((generation, hash));
            }
            Ok(page)
        })
    }

    /// The next `limit` files by hash, from the one behind `after`, and the hash of the last. Files whose record is damaged
    /// are left out: a walk over all files must not end at one of them.
    ///
    /// # Errors
    /// The database failed.
    pub fn walk_files(
        &self,
        after: Option<ContentHash>,
        limit: usize,
    ) -> Result<WalkedFiles, ViewError> {
        guarded(|| {
            let start = match &after {
                Some(after) => Bound::Excluded(after.as_bytes()),
                None => Bound::Unbounded,
            };
            let mut walked = WalkedFiles::default();
            let mut rows = 0;
            let table = self.table(FILES)?;
            for row in table
                .range::<&[u8; 32]>((start, Bound::Unbounded))?
                .take(limit)
            {
                let (key, frame) = row?;
                let hash = ContentHash::new(*key.value());
                rows += 1;
                walked.last = Some(hash);
                if let Ok(record) = codec::decode_file(&hash, frame.value()) {
                    walked.files.push((hash, record));
                }
            }
            walked.more = rows == limit;
            Ok(walked)
        })
    }

    /// At most `limit` of the copies, trims and quarantines under way.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn repairs(&self, limit: usize) -> Result<Vec<RepairUnderWay>, ViewError> {
        guarded(|| {
            let commands = self.table(COMMANDS)?;
            let mut under_way = Vec::new();
            for row in self.table(REPAIRS)?.iter()?.take(limit) {
                let (key, work) = row?;
                let hash = ContentHash::new(*key.value());
                let (node, id) = work.value();
                let record = read_command(&commands, (node, id))?.ok_or_else(|| {
                    ViewError::Corrupt(format!("the repair of {hash} has no command"))
                })?;
                under_way.push(RepairUnderWay {
                    hash,
                    node: NodeIndex(node),
                    id: CommandId(id),
                    record,
                });
            }
            Ok(under_way)
        })
    }

    /// The copy, trim or quarantine that is under way for a file.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn repair_of(&self, hash: &ContentHash) -> Result<Option<CommandRecord>, ViewError> {
        guarded(|| {
            let work = self.table(REPAIRS)?.get(hash.as_bytes())?;
            let Some(key) = work.map(|work| work.value()) else {
                return Ok(None);
            };
            read_command(&self.table(COMMANDS)?, key)
        })
    }

    /// Whether a write that was allocated before `generation` is in flight.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn write_open_before(&self, generation: Generation) -> Result<bool, ViewError> {
        guarded(|| {
            let writes = self.table(WRITES)?;
            let first = writes.first()?;
            // A row is removed with its last write, so the first row has one. That it may be a later one of the same row
            // only makes the answer careful.
            Ok(first.is_some_and(|(first, _)| first.value() < generation.0))
        })
    }

    /// The generation of the next write.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn next_generation(&self) -> Result<Generation, ViewError> {
        Ok(Generation(self.counters()?.next_generation))
    }

    /// The command of this id, if the node has not confirmed it.
    ///
    /// # Errors
    /// As all methods of [`View`].
    pub fn command(
        &self,
        node: NodeIndex,
        id: CommandId,
    ) -> Result<Option<CommandRecord>, ViewError> {
        guarded(|| {
            let key = (node.0, id.0);
            let table = self.table(COMMANDS)?;
            let frame = table.get(key)?;
            frame
                .map(|frame| codec::decode_command(key, frame.value()))
                .transpose()
        })
    }

    fn hashes(
        &self,
        table: TableDefinition<'static, HashKey, u32>,
        after: Option<ContentHash>,
        limit: usize,
    ) -> Result<Vec<ContentHash>, ViewError> {
        guarded(|| {
            let start = match &after {
                Some(after) => Bound::Excluded(after.as_bytes()),
                None => Bound::Unbounded,
            };
            self.table(table)?
                .range::<&[u8; 32]>((start, Bound::Unbounded))?
                .take(limit)
                .map(|row| Ok(ContentHash::new(*row?.0.value())))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, NOW, hash};
    use super::*;
    use crate::mutation::{CommandEnd, Mutation};
    use crate::record::CommandRecordAction;

    fn copy(file: u8) -> CommandRecordAction {
        CommandRecordAction::Replicate {
            hash: hash(file),
            targets: vec![NodeIndex(4)],
        }
    }

    fn trim(file: u8, keep: &[u32]) -> CommandRecordAction {
        CommandRecordAction::Trim {
            hash: hash(file),
            generation: Generation(1),
            keep: keep.iter().map(|node| NodeIndex(*node)).collect(),
        }
    }

    fn issue(fixture: &Fixture, node: u32, action: CommandRecordAction) {
        let mutation = Mutation::IssueCommands {
            commands: vec![(NodeIndex(node), action)],
            now_ms: NOW,
        };
        fixture.apply(mutation).unwrap();
    }

    #[test]
    fn shortage_and_surplus_are_listed_in_pages() {
        let fixture = Fixture::new();
        for file in [5, 1, 9] {
            fixture.upload(file, &[1, 2]);
        }
        fixture.upload(7, &[1, 2, 3, 4]);
        fixture.upload(6, &[1, 2, 3]);
        let view = fixture.view();
        let first = view.under_replicated(None, 2).unwrap();
        assert_eq!(first, [hash(1), hash(5)]);
        let rest = view.under_replicated(Some(hash(5)), 2).unwrap();
        assert_eq!(rest, [hash(9)]);
        assert_eq!(view.over_replicated(None, 9).unwrap(), [hash(7)]);
    }

    #[test]
    fn what_a_node_holds_is_listed_from_a_cursor() {
        let fixture = Fixture::new();
        for file in [5, 1, 9] {
            fixture.upload(file, &[2]);
        }
        fixture.upload(6, &[1]);
        let view = fixture.view();
        let first = view.held_by(NodeIndex(2), None, 2).unwrap();
        assert_eq!(first, [(Generation(1), hash(5)), (Generation(2), hash(1))]);
        let rest = view.held_by(NodeIndex(2), Some(first[1]), 2).unwrap();
        assert_eq!(rest, [(Generation(3), hash(9))]);
        assert_eq!(view.held_by(NodeIndex(2), Some(rest[0]), 2).unwrap(), []);
    }

    #[test]
    fn i10_a_file_has_at_most_one_repair_under_way() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        issue(&fixture, 1, copy(1));
        issue(&fixture, 2, copy(1));
        assert_eq!(fixture.commands(2), []);
        let under_way = fixture.view().repairs(10).unwrap();
        assert_eq!((under_way.len(), under_way[0].node), (1, NodeIndex(1)));
        let id = under_way[0].id;
        assert!(fixture.view().command(NodeIndex(1), id).unwrap().is_some());
        fixture.confirm(1, vec![(id, CommandEnd::Done)]);
        assert_eq!(fixture.view().repairs(10).unwrap(), []);
        issue(&fixture, 2, copy(1));
        assert_eq!(fixture.commands(2).len(), 1);
    }

    #[test]
    fn a_repair_of_a_file_that_is_gone_is_not_issued() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        fixture.delete(1);
        issue(&fixture, 3, copy(1));
        assert_eq!(fixture.commands(3), []);
    }

    #[test]
    fn i06_a_trim_is_not_issued_when_a_keeper_went_after_it_was_planned() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3, 4]);
        fixture.removed(3, 1, 1);
        issue(&fixture, 4, trim(1, &[1, 2, 3]));
        assert_eq!(fixture.commands(4), []);
        fixture.added(3, 1, 1);
        // The node itself is no keeper.
        issue(&fixture, 4, trim(1, &[1, 2, 4]));
        assert_eq!(fixture.commands(4), []);
        issue(&fixture, 4, trim(1, &[1, 2, 3]));
        assert_eq!(fixture.commands(4).len(), 1);
    }

    #[test]
    fn i04_a_trim_planned_for_an_older_replica_is_not_issued() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3, 4]);
        fixture.upload(1, &[4]);
        issue(&fixture, 4, trim(1, &[1, 2, 3]));
        assert_eq!(fixture.commands(4), []);
    }
}
