//! The audit: everything that is derived, recounted from the files, tombstones and writes themselves.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;
use richardstore_proto::{ContentHash, Generation, RangeDigests};

use super::codec;
use super::counters::Counters;
use super::tables::{
    COMMANDS, DELETE_MARKERS, FILES, NODE_FILES, OVER_REPLICATED, REPAIRS, SPENT_TOMBSTONES,
    TOMBSTONES, UNDER_REPLICATED, WRITES, split_node_file_key,
};
use super::view::View;
use crate::record::NodeIndex;

/// Recounts everything that is derived, and panics where it differs.
pub fn audit(view: &View) {
    let recounted = Recount::of(view);
    let counters = view.counters().unwrap();
    assert_eq!(counters, recounted.counters(&counters));
    for node in view.nodes().unwrap() {
        let digests = recounted.digests.get(&node.index).cloned();
        assert_eq!(
            view.digests(node.index).unwrap(),
            digests.unwrap_or_default()
        );
        let (replicas, bytes) = recounted.held.get(&node.index).copied().unwrap_or((0, 0));
        assert_eq!((node.replicas, node.bytes), (replicas, bytes), "{node:?}");
        let commands = recounted
            .commands
            .iter()
            .filter(|key| key.0 == node.index.0);
        assert_eq!(node.commands, u64::try_from(commands.count()).unwrap());
    }
}

#[derive(Default)]
struct Recount {
    files: u64,
    bytes: u64,
    short: u64,
    writes: u64,
    tombstones: u64,
    commands: BTreeSet<(u32, u64)>,
    digests: BTreeMap<NodeIndex, RangeDigests>,
    held: BTreeMap<NodeIndex, (u64, u64)>,
}

impl Recount {
    fn of(view: &View) -> Self {
        let mut recount = Self::default();
        recount.count_files(view);
        recount.count_commands(view);
        for row in view.table(WRITES).unwrap().iter().unwrap() {
            let (first, frame) = row.unwrap();
            let record = codec::decode_write(Generation(first.value()), frame.value()).unwrap();
            assert_ne!(record.open, 0, "a finished allocation is removed");
            for parked in &record.parked {
                assert!(record.is_open(Generation(first.value()), parked.generation));
            }
            recount.writes += u64::from(record.open.count_ones());
        }
        recount
    }

    fn count_files(&mut self, view: &View) {
        let mut held = BTreeSet::new();
        let (mut short, mut surplus) = (BTreeMap::new(), BTreeMap::new());
        for row in view.table(FILES).unwrap().iter().unwrap() {
            let (key, frame) = row.unwrap();
            let hash = ContentHash::new(*key.value());
            let record = codec::decode_file(&hash, frame.value()).unwrap();
            self.files += 1;
            self.bytes += record.size;
            if record.missing() > 0 {
                short.insert(hash, record.replication - record.missing());
            }
            if record.surplus() > 0 {
                surplus.insert(hash, record.replication + record.surplus());
            }
            for replica in &record.replicas {
                held.insert((replica.node, replica.generation, hash));
                let digests = self.digests.entry(replica.node).or_default();
                digests.add(&hash, replica.generation);
                let (replicas, bytes) = self.held.entry(replica.node).or_default();
                *replicas += 1;
                *bytes += record.size;
            }
        }
        let node_files: BTreeSet<_> = view
            .table(NODE_FILES)
            .unwrap()
            .iter()
            .unwrap()
            .map(|row| split_node_file_key(row.unwrap().0.value()))
            .collect();
        assert_eq!(node_files, held);
        for (table, counted) in [(UNDER_REPLICATED, &short), (OVER_REPLICATED, &surplus)] {
            let listed: BTreeMap<_, _> = view
                .table(table)
                .unwrap()
                .iter()
                .unwrap()
                .map(|row| row.map(|(key, n)| (ContentHash::new(*key.value()), n.value())))
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(&listed, counted);
        }
        self.short = u64::try_from(short.len()).unwrap();
    }

    fn count_commands(&mut self, view: &View) {
        let mut repairs = BTreeMap::new();
        for row in view.table(COMMANDS).unwrap().iter().unwrap() {
            let (key, frame) = row.unwrap();
            let record = codec::decode_command(key.value(), frame.value()).unwrap();
            self.commands.insert(key.value());
            if let Some(hash) = record.action.repairs() {
                assert_eq!(repairs.insert(*hash, key.value()), None, "two for {hash}");
            }
        }
        let under_way: BTreeMap<_, _> = view
            .table(REPAIRS)
            .unwrap()
            .iter()
            .unwrap()
            .map(|row| row.map(|(key, work)| (ContentHash::new(*key.value()), work.value())))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(under_way, repairs);
        let (mut spent, mut marked) = (BTreeSet::new(), BTreeSet::new());
        for row in view.table(TOMBSTONES).unwrap().iter().unwrap() {
            let (key, frame) = row.unwrap();
            let hash = ContentHash::new(*key.value());
            let record = codec::decode_tombstone(&hash, frame.value()).unwrap();
            self.tombstones += 1;
            marked.insert((record.marker.0, hash));
            if record.holders.is_empty() {
                spent.insert((record.generation.0, hash));
            }
            for holder in &record.holders {
                let key = (holder.node.0, holder.command.0);
                assert!(self.commands.contains(&key), "{hash}: {holder:?}");
            }
        }
        for (table, counted) in [(SPENT_TOMBSTONES, spent), (DELETE_MARKERS, marked)] {
            let listed: BTreeSet<_> = view
                .table(table)
                .unwrap()
                .iter()
                .unwrap()
                .map(|row| {
                    let (key, _) = row.unwrap();
                    let (number, hash) = key.value();
                    (number, ContentHash::new(*hash))
                })
                .collect();
            assert_eq!(listed, counted);
        }
    }

    /// `counters` with what can be recounted set to what was counted.
    fn counters(&self, counters: &Counters) -> Counters {
        Counters {
            files: self.files,
            bytes: self.bytes,
            tombstones: self.tombstones,
            commands: u64::try_from(self.commands.len()).unwrap(),
            writes: self.writes,
            under_replicated: self.short,
            ..counters.clone()
        }
    }
}
