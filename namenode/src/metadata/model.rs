//! A model of the metadata made of maps: what the rules mean, said in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;
use richardstore_proto::{ContentHash, Generation};

use super::codec;
use super::tables::{FILES, TOMBSTONES, WRITES};
use super::view::View;

/// Files of the model have numbers below this.
pub const FILE_COUNT: u8 = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFile {
    pub generation: u64,
    pub replicas: BTreeMap<u32, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub epoch: u64,
    pub next_generation: u64,
    pub foreign: u64,
    pub files: BTreeMap<u8, ModelFile>,
    /// Generation and holders.
    pub tombstones: BTreeMap<u8, (u64, BTreeSet<u32>)>,
    /// Generation in flight -> first of its allocation.
    pub open: BTreeMap<u64, u64>,
    /// First of an allocation -> when it runs out.
    pub leases: BTreeMap<u64, u64>,
    /// (generation, node, file).
    pub parked: BTreeSet<(u64, u32, u8)>,
    /// Next journal event of each node.
    pub sequences: BTreeMap<u32, u64>,
}

impl Model {
    pub fn of(view: &View) -> Self {
        let counters = view.counters().unwrap();
        let mut model = Self {
            epoch: counters.epoch,
            next_generation: counters.next_generation,
            foreign: counters.foreign_replicas,
            ..Self::default()
        };
        for row in view.table(FILES).unwrap().iter().unwrap() {
            let (key, frame) = row.unwrap();
            let record =
                codec::decode_file(&ContentHash::new(*key.value()), frame.value()).unwrap();
            let replicas = record.replicas.iter();
            let file = ModelFile {
                generation: record.generation.0,
                replicas: replicas.map(|at| (at.node.0, at.generation.0)).collect(),
            };
            model.files.insert(key.value()[0], file);
        }
        for row in view.table(TOMBSTONES).unwrap().iter().unwrap() {
            let (key, frame) = row.unwrap();
            let record =
                codec::decode_tombstone(&ContentHash::new(*key.value()), frame.value()).unwrap();
            let holders = record.holders.iter().map(|holder| holder.node.0).collect();
            model
                .tombstones
                .insert(key.value()[0], (record.generation.0, holders));
        }
        for row in view.table(WRITES).unwrap().iter().unwrap() {
            let (key, frame) = row.unwrap();
            let first = key.value();
            let record = codec::decode_write(Generation(first), frame.value()).unwrap();
            model.leases.insert(first, record.expires_at_ms);
            for number in first..first + u64::from(record.count) {
                if record.is_open(Generation(first), Generation(number)) {
                    model.open.insert(number, first);
                }
            }
            let parked = record.parked.iter();
            model
                .parked
                .extend(parked.map(|at| (at.generation.0, at.node.0, at.hash.as_bytes()[0])));
        }
        for node in view.nodes().unwrap() {
            model.sequences.insert(node.index.0, node.next_sequence.0);
        }
        model
    }

    /// A generation that was handed out, or the one that will be next.
    pub fn pick(&self, pick: u64) -> u64 {
        1 + pick % self.next_generation
    }

    pub fn bury(&mut self, file: u8, generation: u64, holders: impl IntoIterator<Item = u32>) {
        let tombstone = self.tombstones.entry(file).or_default();
        tombstone.0 = tombstone.0.max(generation);
        tombstone.1.extend(holders);
        self.drop_if_spent(file);
    }

    pub fn drop_if_spent(&mut self, file: u8) {
        let Some((generation, holders)) = self.tombstones.get(&file) else {
            return;
        };
        let older_write = self.open.keys().any(|write| write <= generation);
        if holders.is_empty() && !older_write {
            self.tombstones.remove(&file);
        }
    }

    pub fn close(&mut self, write: u64) -> Vec<(u64, u32, u8)> {
        let first = self.open.remove(&write).unwrap();
        if !self.open.values().any(|other| *other == first) {
            self.leases.remove(&first);
        }
        let parked: Vec<_> = self
            .parked
            .iter()
            .copied()
            .filter(|at| at.0 == write)
            .collect();
        self.parked.retain(|at| at.0 != write);
        parked
    }

    pub fn settle(&mut self, parked: &[(u64, u32, u8)]) {
        for (write, node, file) in parked {
            match self.files.get_mut(file) {
                Some(record) => {
                    let known = record.replicas.entry(*node).or_default();
                    *known = (*known).max(*write);
                }
                None => self.bury(*file, *write, [*node]),
            }
        }
    }

    /// Whether the commit succeeds.
    pub fn commit(&mut self, write: u64, file: u8, nodes: &[u32]) -> bool {
        if !self.open.contains_key(&write) {
            let known = self.files.get(&file);
            return known.is_some_and(|record| record.generation >= write);
        }
        if self
            .tombstones
            .get(&file)
            .is_some_and(|dead| dead.0 >= write)
        {
            return false;
        }
        let (same, other): (Vec<_>, Vec<_>) =
            self.close(write).into_iter().partition(|at| at.2 == file);
        let record = self.files.entry(file).or_default();
        record.generation = record.generation.max(write);
        for node in nodes.iter().copied().chain(same.iter().map(|at| at.1)) {
            let known = record.replicas.entry(node).or_default();
            *known = (*known).max(write);
        }
        self.settle(&other);
        true
    }

    pub fn delete(&mut self, file: u8) -> bool {
        let Some(record) = self.files.remove(&file) else {
            return false;
        };
        let finished = record
            .replicas
            .values()
            .copied()
            .filter(|write| *write < self.next_generation && !self.open.contains_key(write));
        let generation = finished.chain([record.generation]).max().unwrap();
        self.bury(file, generation, record.replicas.into_keys());
        true
    }

    pub fn added(&mut self, node: u32, file: u8, write: u64) {
        if let Some((generation, _)) = self.tombstones.get(&file)
            && *generation >= write
        {
            return self.bury(file, write, [node]);
        }
        if let Some(record) = self.files.get_mut(&file) {
            let known = record.replicas.entry(node).or_default();
            *known = (*known).max(write);
        }
        if self.open.contains_key(&write) {
            self.parked.insert((write, node, file));
        } else if self.files.contains_key(&file) {
        } else if write < self.next_generation {
            self.bury(file, write, [node]);
        } else {
            self.foreign += 1;
        }
    }

    /// The newest write in flight that this takes a replica from.
    pub fn removed(&mut self, node: u32, file: u8, write: u64) -> Option<u64> {
        if let Some(record) = self.files.get_mut(&file)
            && record
                .replicas
                .get(&node)
                .is_some_and(|known| *known <= write)
        {
            record.replicas.remove(&node);
        }
        let gone = self.parked.extract_if(.., |(parked, at, of)| {
            (*at, *of) == (node, file) && *parked <= write
        });
        gone.map(|(parked, ..)| parked).max()
    }

    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let writes: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, first)| self.leases[first] <= now_ms)
            .map(|(write, _)| *write)
            .collect();
        let parked: Vec<_> = writes.iter().flat_map(|write| self.close(*write)).collect();
        self.settle(&parked);
        for file in 0..FILE_COUNT {
            self.drop_if_spent(file);
        }
        u64::try_from(writes.len()).unwrap()
    }
}
