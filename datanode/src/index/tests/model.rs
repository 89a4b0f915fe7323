use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_oneof, proptest};

use super::*;
use crate::index::IndexError;

#[derive(Debug, Clone)]
enum Operation {
    Add(u64, u64),
    Remove(u64, u64),
    Restore(u64, u64),
    Verify(u64, u64),
    Trim(u64),
    Events(u64, usize),
    Reopen,
    Crash,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (number, generation) = (|| 0..24u64, || 1..12u64);
    prop_oneof![
        8 => (number(), generation()).prop_map(|(n, g)| Operation::Add(n, g)),
        4 => (number(), generation()).prop_map(|(n, g)| Operation::Remove(n, g)),
        3 => (number(), generation()).prop_map(|(n, g)| Operation::Restore(n, g)),
        2 => (number(), 1..99u64).prop_map(|(n, at)| Operation::Verify(n, at)),
        2 => (0..60u64).prop_map(Operation::Trim),
        3 => (1..60u64, 0..20usize).prop_map(|(from, limit)| Operation::Events(from, limit)),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Crash),
    ]
}

/// What the index has to hold, in the plainest form.
#[derive(Default)]
struct Model {
    replicas: BTreeMap<ContentHash, (ReplicaMeta, Option<u64>)>,
    /// Hash, generation and whether it was removed, of every event since the journal began.
    events: Vec<(ContentHash, Generation, bool)>,
    first: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            first: 1,
            ..Self::default()
        }
    }

    fn next(&self) -> u64 {
        self.events.len() as u64 + 1
    }

    fn put(&mut self, meta: ReplicaMeta) -> Generation {
        let slot = self.replicas.entry(meta.hash).or_insert((meta, None));
        if slot.0.generation <= meta.generation {
            slot.0 = meta;
        }
        slot.0.generation
    }

    fn remove(&mut self, hash: ContentHash, generation: Generation) {
        if self
            .replicas
            .get(&hash)
            .is_some_and(|(meta, _)| meta.generation <= generation)
        {
            self.replicas.remove(&hash);
        }
        self.events.push((hash, generation, true));
    }

    fn check(&self, index: &Index) {
        let mut digests = RangeDigests::default();
        let mut entries = Vec::new();
        for (hash, (meta, verified)) in &self.replicas {
            digests.add(hash, meta.generation);
            entries.push(ReplicaEntry {
                hash: *hash,
                generation: meta.generation,
            });
            let entry = index.get(hash).unwrap().unwrap();
            assert_eq!((entry.size, entry.last_verified_ms), (meta.size, *verified));
        }
        let bytes = self.replicas.values().map(|(meta, _)| meta.size).sum();
        let count = entries.len() as u64;
        let expected = Holdings {
            digests,
            entries,
            count,
            bytes,
        };
        assert_eq!(holdings(index), expected);
        assert_eq!(index.next_sequence(), Sequence(self.next()));
    }

    fn check_events(&self, index: &Index, from: u64, limit: usize) {
        let from = from.min(self.next());
        match index.events(Sequence(from), limit) {
            Ok(events) => {
                assert!(from >= self.first);
                let expected = (from..).zip(&self.events[usize::try_from(from - 1).unwrap()..]);
                let expected: Vec<_> = expected
                    .take(limit)
                    .map(|(at, &(hash, generation, removed))| (at, hash, generation, removed))
                    .collect();
                let read: Vec<_> = events
                    .iter()
                    .map(|event| {
                        let ReplicaEntry { hash, generation } = event.replica;
                        (event.sequence.0, hash, generation, event.removed)
                    })
                    .collect();
                assert_eq!(read, expected);
            }
            Err(IndexError::Trimmed { first }) => {
                assert_eq!(first, Sequence(self.first));
                assert!(from < self.first);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(operations: Vec<Operation>) {
    let place = Place::new();
    let mut index = place.begin(&RebuildReason::FirstStart);
    let mut model = Model::new();
    for operation in operations {
        match operation {
            Operation::Add(number, generation) => {
                let sequence = index.add(&meta(number, generation)).unwrap();
                assert_eq!(sequence, Sequence(model.next()));
                let generation = model.put(meta(number, generation));
                model.events.push((hash(number), generation, false));
            }
            Operation::Remove(number, generation) => {
                let generation = Generation(generation);
                let sequence = index.remove(&hash(number), generation).unwrap();
                assert_eq!(sequence, Sequence(model.next()));
                model.remove(hash(number), generation);
            }
            Operation::Restore(number, generation) => {
                index.restore(&meta(number, generation)).unwrap();
                model.put(meta(number, generation));
            }
            Operation::Verify(number, at) => {
                index.mark_verified(&hash(number), at).unwrap();
                if let Some((_, verified)) = model.replicas.get_mut(&hash(number)) {
                    *verified = Some(at);
                }
            }
            Operation::Trim(before) => {
                index.trim(Sequence(before)).unwrap();
                model.first = model.first.max(before.min(model.next()));
            }
            Operation::Events(from, limit) => model.check_events(&index, from, limit),
            Operation::Reopen => {
                let identity = close(&index);
                index = place.reopen();
                assert_eq!((index.journal_id(), index.next_sequence()), identity);
            }
            Operation::Crash => {
                let journal_id = index.journal_id();
                // The old one is still in use while the new one begins, as when an owner replaces a broken index.
                let next = place.begin(&RebuildReason::NoCleanMark);
                drop(index);
                index = next;
                assert_ne!(index.journal_id(), journal_id);
                for (meta, verified) in model.replicas.values_mut() {
                    index.restore(meta).unwrap();
                    *verified = None;
                }
                model.events.clear();
                model.first = 1;
            }
        }
        model.check(&index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn i09_the_index_holds_what_a_plain_map_holds_across_restarts_and_rebuilds(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        run(operations);
    }
}
