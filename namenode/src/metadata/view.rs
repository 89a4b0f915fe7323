//! [`View`]: one snapshot of the metadata. It never waits for the writer and does not change while it is held.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition};
use richardstore_proto::{
    CommandId, ContentHash, Generation, NamenodeEpoch, NodeId, RANGES, RangeDigests, ReplicaEntry,
};

use serde::de::DeserializeOwned;

use super::codec;
use super::counters::{Counters, Counts};
use super::ledger::Ledger;
use super::tables::{
    COMMANDS, DIGESTS, FILES, Frame, MAINTENANCE, META, NODE_IDS, NODES, REMOVED_NODES, TOMBSTONES,
    ViewError, WRITES, read_file, read_node, read_tombstone, read_write,
};
use crate::delivery::is_due;
use crate::record::{
    CommandRecord, FileRecord, NodeIndex, NodeRecord, RemovedNode, TombstoneRecord,
};

/// A snapshot. Point reads take microseconds and may run on async threads; listings and dumps should not.
pub struct View {
    pub(super) transaction: ReadTransaction,
    // Keeps the lock on the directory while the file may still be read.
    _ledger: Arc<Ledger>,
}

impl View {
    pub(super) fn new(transaction: ReadTransaction, ledger: Arc<Ledger>) -> Self {
        Self {
            transaction,
            _ledger: ledger,
        }
    }

    /// The file of this hash.
    ///
    /// # Errors
    /// As all methods of this type: [`ViewError::Corrupt`] for a damaged record, [`ViewError::Storage`] when the
    /// database fails.
    pub fn file(&self, hash: &ContentHash) -> Result<Option<FileRecord>, ViewError> {
        guarded(|| read_file(&self.transaction.open_table(FILES)?, hash))
    }

    /// At most `limit` files whose hashes begin with the hex digits `prefix`, in the order of their hashes, from the one
    /// behind `after`.
    ///
    /// # Errors
    /// [`ViewError::Prefix`] where the prefix is not up to 64 lower-case hex digits.
    pub fn files(
        &self,
        after: Option<ContentHash>,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(ContentHash, FileRecord)>, ViewError> {
        let (low, high) = prefix_bounds(prefix)?;
        guarded(|| {
            let table = self.transaction.open_table(FILES)?;
            let start = match &after {
                Some(after) if *after >= low => Bound::Excluded(after.as_bytes()),
                _ => Bound::Included(low.as_bytes()),
            };
            if after.is_some_and(|after| after >= high) {
                return Ok(Vec::new());
            }
            let mut page = Vec::new();
            for row in table
                .range::<&[u8; 32]>((start, Bound::Included(high.as_bytes())))?
                .take(limit)
            {
                let (key, frame) = row?;
                let hash = ContentHash::new(*key.value());
                let record = codec::decode_file(&hash, frame.value())?;
                page.push((hash, record));
            }
            Ok(page)
        })
    }

    /// The node of this number.
    pub fn node(&self, index: NodeIndex) -> Result<Option<NodeRecord>, ViewError> {
        guarded(|| read_node(&self.transaction.open_table(NODES)?, index))
    }

    /// The node of this id.
    pub fn node_by_id(&self, node_id: &NodeId) -> Result<Option<NodeRecord>, ViewError> {
        guarded(|| {
            let ids = self.transaction.open_table(NODE_IDS)?;
            let Some(index) = ids.get(node_id.as_bytes())? else {
                return Ok(None);
            };
            read_node(
                &self.transaction.open_table(NODES)?,
                NodeIndex(index.value()),
            )
        })
    }

    /// All nodes that ever registered and were not removed, by number.
    pub fn nodes(&self) -> Result<Vec<NodeRecord>, ViewError> {
        let removed = self.removed_nodes()?;
        let mut nodes = self.nodes_on_record()?;
        nodes.retain(|node| !removed.contains_key(&node.index));
        Ok(nodes)
    }

    /// All nodes that ever registered, by number: those that were removed, too, which are not let in again.
    pub fn nodes_on_record(&self) -> Result<Vec<NodeRecord>, ViewError> {
        guarded(|| {
            let table = self.transaction.open_table(NODES)?;
            let mut nodes = Vec::new();
            for row in table.iter()? {
                let (index, frame) = row?;
                nodes.push(codec::decode_node(NodeIndex(index.value()), frame.value())?);
            }
            Ok(nodes)
        })
    }

    /// The nodes that were removed from the cluster.
    pub fn removed_nodes(&self) -> Result<BTreeMap<NodeIndex, RemovedNode>, ViewError> {
        self.by_node(REMOVED_NODES, "removed node")
    }

    /// Until when nodes are expected to be away, milliseconds since the Unix epoch.
    pub fn maintenance(&self) -> Result<BTreeMap<NodeIndex, u64>, ViewError> {
        self.by_node(MAINTENANCE, "maintenance")
    }

    /// The tombstone of this hash.
    pub fn tombstone(&self, hash: &ContentHash) -> Result<Option<TombstoneRecord>, ViewError> {
        guarded(|| read_tombstone(&self.transaction.open_table(TOMBSTONES)?, hash))
    }

    /// At most `limit` commands of a node that are due at `now_ms`, oldest first, without those of `except`, which is ascending.
    pub fn commands(
        &self,
        index: NodeIndex,
        except: &[CommandId],
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<(CommandId, CommandRecord)>, ViewError> {
        guarded(|| {
            let table = self.transaction.open_table(COMMANDS)?;
            let mut due = Vec::new();
            for row in table.range((index.0, 0)..=(index.0, u64::MAX))? {
                if due.len() >= limit {
                    break;
                }
                let (key, frame) = row?;
                let id = CommandId(key.value().1);
                if except.binary_search(&id).is_ok() {
                    continue;
                }
                let record = codec::decode_command(key.value(), frame.value())?;
                if is_due(record.not_before_ms, now_ms) {
                    due.push((id, record));
                }
            }
            Ok(due)
        })
    }

    /// Commands that a node has not confirmed, due or not.
    pub fn command_count(&self, index: NodeIndex) -> Result<u64, ViewError> {
        Ok(self.node(index)?.map_or(0, |node| node.commands))
    }

    /// Generations in flight.
    pub fn writes_open(&self) -> Result<u64, ViewError> {
        Ok(self.counters()?.writes)
    }

    /// Whether this generation is in flight.
    pub fn write_is_open(&self, generation: Generation) -> Result<bool, ViewError> {
        guarded(|| {
            let write = read_write(&self.transaction.open_table(WRITES)?, generation)?;
            Ok(write.is_some_and(|(first, record)| record.is_open(first, generation)))
        })
    }

    /// How much there is of everything.
    pub fn counts(&self) -> Result<Counts, ViewError> {
        Ok(self.counters()?.counts())
    }

    /// Which start of the namenode this is; 0 before the first.
    pub fn epoch(&self) -> Result<NamenodeEpoch, ViewError> {
        Ok(NamenodeEpoch(self.counters()?.epoch))
    }

    /// The digests of what a node is believed to hold.
    pub fn digests(&self, index: NodeIndex) -> Result<RangeDigests, ViewError> {
        guarded(|| {
            let table = self.transaction.open_table(DIGESTS)?;
            let mut digests = RangeDigests::default();
            for row in table.range((index.0, 0)..=(index.0, u16::MAX))? {
                let (key, frame) = row?;
                let (_, range) = key.value();
                debug_assert!(usize::from(range) < RANGES);
                digests.set(
                    usize::from(range),
                    codec::decode_digest(key.value(), frame.value())?,
                );
            }
            Ok(digests)
        })
    }

    /// At most `limit` replicas that a node is believed to hold with `after` < hash <= `through`, ascending. Reads every
    /// file in between, so it is to be asked for a range of hashes that is known to differ.
    pub fn replicas_in(
        &self,
        index: NodeIndex,
        after: Option<ContentHash>,
        through: ContentHash,
        limit: usize,
    ) -> Result<Vec<ReplicaEntry>, ViewError> {
        if after.is_some_and(|after| after >= through) {
            return Ok(Vec::new());
        }
        guarded(|| {
            let table = self.transaction.open_table(FILES)?;
            let start = match &after {
                Some(after) => Bound::Excluded(after.as_bytes()),
                None => Bound::Unbounded,
            };
            let mut entries = Vec::new();
            for row in table.range::<&[u8; 32]>((start, Bound::Included(through.as_bytes())))? {
                if entries.len() >= limit {
                    break;
                }
                let (key, frame) = row?;
                let hash = ContentHash::new(*key.value());
                let record = codec::decode_file(&hash, frame.value())?;
                entries.extend(record.replica(index).map(|replica| ReplicaEntry {
                    hash,
                    generation: replica.generation,
                }));
            }
            Ok(entries)
        })
    }

    /// A table by node number, which an older database may not have.
    fn by_node<T: DeserializeOwned>(
        &self,
        definition: TableDefinition<'static, u32, Frame>,
        what: &str,
    ) -> Result<BTreeMap<NodeIndex, T>, ViewError> {
        guarded(|| {
            let table = match self.transaction.open_table(definition) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = BTreeMap::new();
            for row in table.iter()? {
                let (index, frame) = row?;
                rows.insert(
                    NodeIndex(index.value()),
                    codec::decode(what, frame.value())?,
                );
            }
            Ok(rows)
        })
    }

    pub(super) fn counters(&self) -> Result<Counters, ViewError> {
        guarded(|| Counters::read(&self.transaction.open_table(META)?))
    }

    pub(super) fn table<K: redb::Key, V: redb::Value>(
        &self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, ViewError> {
        Ok(self.transaction.open_table(definition)?)
    }
}

/// redb trusts pages whose damage its quick open did not look for, and may panic over them: an error for this reader, and
/// no more.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, ViewError>) -> Result<T, ViewError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(ViewError::Corrupt(
            "reading a page of it panicked".to_owned(),
        ))
    })
}

/// The first and last hash that begin with `prefix`.
fn prefix_bounds(prefix: &str) -> Result<(ContentHash, ContentHash), ViewError> {
    let bound = |fill: char| {
        if prefix.len() > 64 || !prefix.is_ascii() {
            return Err(ViewError::Prefix(prefix.chars().take(80).collect()));
        }
        let mut digits = prefix.to_owned();
        digits.extend(std::iter::repeat_n(fill, 64 - prefix.len()));
        digits
            .parse::<ContentHash>()
            .map_err(|_| ViewError::Prefix(prefix.to_owned()))
    };
    Ok((bound('0')?, bound('f')?))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, hash};
    use super::*;

    fn numbers(page: &[(ContentHash, FileRecord)]) -> Vec<u8> {
        page.iter().map(|(hash, _)| hash.as_bytes()[0]).collect()
    }

    #[test]
    fn pages_of_files_follow_each_other_without_gaps_or_repeats() {
        let fixture = Fixture::new();
        for file in [0x10, 0x2f, 0x20, 0xff, 0x21] {
            fixture.upload(file, &[1]);
        }
        let view = fixture.view();
        let first = view.files(None, "", 2).unwrap();
        assert_eq!(numbers(&first), [0x10, 0x20]);
        let second = view.files(Some(hash(0x20)), "", 10).unwrap();
        assert_eq!(numbers(&second), [0x21, 0x2f, 0xff]);
        assert_eq!(view.files(Some(hash(0xff)), "", 10).unwrap(), []);
        assert_eq!(view.files(Some(ContentHash::MAX), "", 10).unwrap().len(), 0);
    }

    #[test]
    fn a_prefix_of_any_length_narrows_the_listing() {
        let fixture = Fixture::new();
        for file in [0x10, 0x20, 0x21, 0x2f, 0x30] {
            fixture.upload(file, &[1]);
        }
        let view = fixture.view();
        let under = |after, prefix: &str| numbers(&view.files(after, prefix, 10).unwrap());
        assert_eq!(under(None, "2"), [0x20, 0x21, 0x2f]);
        assert_eq!(under(None, "21"), [0x21]);
        assert_eq!(under(None, "212"), [0x21]);
        assert!(under(None, "213").is_empty());
        assert_eq!(under(None, &hash(0x2f).to_hex()), [0x2f]);
        assert_eq!(under(Some(hash(0x20)), "2"), [0x21, 0x2f]);
        assert_eq!(under(Some(hash(0x10)), "2"), [0x20, 0x21, 0x2f]);
        assert!(under(Some(hash(0x30)), "2").is_empty());
        for bad in ["G", "A", "\u{e9}", &"0".repeat(65), "0x"] {
            assert!(matches!(
                view.files(None, bad, 10),
                Err(ViewError::Prefix(_))
            ));
        }
    }

    #[test]
    fn a_view_does_not_change_while_it_is_held() {
        let fixture = Fixture::new();
        let before = fixture.view();
        fixture.upload(1, &[1]);
        assert_eq!(before.file(&hash(1)).unwrap(), None);
        assert_eq!(before.counts().unwrap().files, 0);
        assert!(fixture.file(1).is_some());
    }

    #[test]
    fn what_a_node_is_believed_to_hold_is_listed_by_hash_in_pages() {
        let fixture = Fixture::new();
        for file in [5, 1, 9, 7] {
            fixture.upload(file, &[1, 2]);
        }
        fixture.upload(6, &[2]);
        let view = fixture.view();
        let page = |after, through, limit| -> Vec<u8> {
            view.replicas_in(NodeIndex(1), after, through, limit)
                .unwrap()
                .iter()
                .map(|entry| entry.hash.as_bytes()[0])
                .collect()
        };
        assert_eq!(page(None, ContentHash::MAX, 10), [1, 5, 7, 9]);
        assert_eq!(page(None, ContentHash::MAX, 2), [1, 5]);
        assert_eq!(page(Some(hash(5)), hash(7), 10), [7]);
        assert!(page(Some(hash(7)), hash(7), 10).is_empty());
    }

    #[test]
    fn a_damaged_record_is_an_error_for_that_record_only() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.upload(2, &[1]);
        fixture.damage(1);
        let view = fixture.view();
        let error = view.file(&hash(1)).unwrap_err();
        assert!(error.to_string().contains(&hash(1).to_hex()), "{error}");
        assert!(view.file(&hash(2)).unwrap().is_some());
    }
}
