//! Readers, writers and deleters of the same few hashes at once.

// Clippy takes only #[test] functions for tests; the helpers around them may panic and cut test data as well.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use richardstore_proto::{ContentHash, Generation};
use richardstore_store::{DeleteOutcome, Depth, Layout, ReadError, Store, StoreOptions};
use sha2::{Digest, Sha256};

const THREADS: u64 = 12;
const STEPS: u64 = 150;

/// Small enough that threads meet, on both sides of the group size.
const SIZES: [usize; 4] = [0, 10, 70_000, 200_000];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*: good enough to shuffle steps.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

fn seed() -> u64 {
    let given = std::env::var("STORE_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        since.as_nanos() as u64 | 1
    });
    eprintln!("STORE_SEED={seed}");
    seed
}

/// What `then` closures saw under the lock of each hash: the truth the tree must agree with.
type Ledger = Mutex<BTreeMap<ContentHash, Generation>>;

struct Race<'a> {
    store: &'a Store,
    contents: &'a [Vec<u8>],
    ledger: &'a Ledger,
    next_generation: &'a AtomicU64,
}

impl Race<'_> {
    fn step(&self, random: &mut Random) {
        let content = &self.contents[random.below(self.contents.len() as u64) as usize];
        let hash = ContentHash::new(Sha256::digest(content).into());
        match random.below(10) {
            0..4 => self.write(content),
            4..6 => self.delete(&hash),
            6..9 => self.read(&hash, content, random.below(content.len() as u64 + 1)),
            _ => {
                let mut writer = self.store.writer(content.len() as u64).unwrap();
                writer.write(content).unwrap();
                // Given up before or after its end.
                if random.below(2) == 0 {
                    drop(writer.finish().unwrap());
                }
            }
        }
    }

    fn write(&self, content: &[u8]) {
        let generation = Generation(self.next_generation.fetch_add(1, Ordering::SeqCst));
        let mut writer = self.store.writer(content.len() as u64).unwrap();
        for piece in content.chunks(33_000) {
            writer.write(piece).unwrap();
        }
        let publishing = writer.finish().unwrap().publish(generation, |meta| {
            let mut ledger = self.ledger.lock().unwrap();
            let before = ledger.insert(meta.hash, meta.generation);
            let expected = before.map_or(generation, |before| before.max(generation));
            assert_eq!(meta.generation, expected);
        });
        publishing.unwrap();
    }

    fn delete(&self, hash: &ContentHash) {
        // Some of these are old news when they arrive.
        let up_to = Generation(
            self.next_generation
                .load(Ordering::SeqCst)
                .saturating_sub(8),
        );
        let outcome = self.store.delete(hash, up_to, |meta| {
            assert!(meta.generation <= up_to);
            let recorded = self.ledger.lock().unwrap().remove(&meta.hash);
            assert_eq!(recorded, Some(meta.generation));
        });
        if let DeleteOutcome::Newer(generation) = outcome.unwrap() {
            assert!(generation > up_to);
        }
    }

    fn read(&self, hash: &ContentHash, content: &[u8], offset: u64) {
        let mut reader = match self.store.read(hash, offset, None) {
            Ok(reader) => reader,
            Err(ReadError::NotFound { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let mut read = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            read.extend(chunk);
        }
        assert_eq!(read, content[offset as usize..]);
    }
}

fn race(layout: Layout, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        layout: Some(layout),
        headroom_bytes: 0,
        capacity_bytes: None,
    };
    let store = Store::open(directory.path(), &options).unwrap();
    let contents: Vec<Vec<u8>> = SIZES
        .iter()
        .map(|size| (0..*size).map(|at| (at / 3) as u8).collect())
        .collect();
    let race = Race {
        store: &store,
        contents: &contents,
        ledger: &Ledger::default(),
        next_generation: &AtomicU64::new(1),
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let race = &race;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_add(thread * 0x9e37_79b9) | 1);
                for _ in 0..STEPS {
                    race.step(&mut random);
                }
            });
        }
    });

    let mut found = BTreeMap::new();
    let summary = store
        .walk(&mut |meta| {
            found.insert(meta.hash, meta.generation);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, *race.ledger.lock().unwrap());
    assert_eq!((summary.strays, summary.damaged), (0, 0));
    for hash in found.keys() {
        let path = directory.path().join(layout.relative_path(hash));
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(ContentHash::new(Sha256::digest(&bytes).into()), *hash);
    }
    let temp = std::fs::read_dir(directory.path().join("temp")).unwrap();
    assert_eq!(temp.count(), 0);
    assert_eq!(store.space().used, summary.bytes);
    assert_eq!(store.failed(), None);
}

#[test]
fn i04_races_of_one_hash_end_as_its_lock_saw_them_in_premade_directories() {
    race(Layout::default(), seed());
}

#[test]
fn i04_races_of_one_hash_end_as_its_lock_saw_them_while_directories_come_and_go() {
    race(Layout::new(5, Depth::Full).unwrap(), seed());
}
