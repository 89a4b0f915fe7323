//! I3, I4 and I5 on one hash in every order that a scheduler can think of: a delete, its redelivery, an upload of the same bytes
//! again, a read. Where the schedules that it finds by chance end, the tests of `store/tests/races.rs` begin.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use richardstore_proto::{ContentHash, Generation};
use richardstore_store_explored::{
    DeleteOutcome, Depth, Layout, Publication, ReadError, ReplicaMeta, Store, StoreOptions,
    open_explored,
};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex;
use shuttle::{Config, Runner, thread};
use tempfile::TempDir;

const CONTENT: &[u8] = b"the same bytes, uploaded, deleted and uploaded again";
const OLD: Generation = Generation(1);
const NEW: Generation = Generation(2);
/// Hashing takes more than a thread of the explorer has by default.
const STACK_BYTES: usize = 1 << 20;

/// What was seen under the lock of the hash, as the datanode's index sees it.
type Index = Arc<Mutex<BTreeMap<ContentHash, Generation>>>;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn upload(store: &Store, index: &Index, generation: Generation) {
    let mut writer = store.writer(0).unwrap();
    writer.write(CONTENT).unwrap();
    let added = |meta: &ReplicaMeta| {
        index.lock().unwrap().insert(meta.hash, meta.generation);
    };
    let replica = writer.finish().unwrap();
    // As a datanode does it: among others, unless somebody is at this very file.
    let published = match store
        .publish_all(vec![(replica, generation)], added)
        .remove(0)
    {
        Publication::Ended(published) => published,
        Publication::Busy(busy) => busy.0.publish(busy.1, added),
    };
    assert!(published.unwrap().generation >= generation);
}

/// The delete of what was there first, which knows nothing of the second upload.
fn delete_old(store: &Store, index: &Index, hash: &ContentHash) {
    let outcome = store.delete(hash, OLD, |meta| {
        assert_eq!(meta.generation, OLD);
        assert_eq!(index.lock().unwrap().remove(&meta.hash), Some(OLD));
    });
    match outcome.unwrap() {
        DeleteOutcome::Deleted(meta) => assert_eq!(meta.generation, OLD),
        DeleteOutcome::Newer(generation) => assert_eq!(generation, NEW),
        DeleteOutcome::Absent => {}
    }
}

fn read(store: &Store, hash: &ContentHash) {
    let mut reader = match store.read(hash, 0, None) {
        Ok(reader) => reader,
        Err(ReadError::NotFound { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let mut read = Vec::new();
    loop {
        thread::yield_now();
        match reader.next_chunk().unwrap() {
            Some(chunk) => read.extend(chunk),
            None => break,
        }
    }
    assert_eq!(read, CONTENT);
}

/// One schedule.
fn race(root: &Path) {
    let options = StoreOptions {
        // Directories come and go with their files.
        layout: Some(Layout::new(5, Depth::Full).unwrap()),
        headroom_bytes: 0,
        capacity_bytes: None,
    };
    let store = open_explored(root, &options).unwrap();
    let index = Index::default();
    upload(&store, &index, OLD);
    let hash = *index.lock().unwrap().keys().next().unwrap();
    let steps: [fn(&Store, &Index, &ContentHash); 4] = [
        delete_old,
        delete_old,
        |store, index, _| upload(store, index, NEW),
        |store, _, hash| read(store, hash),
    ];
    let threads = steps.map(|step| {
        let (store, index) = (store.clone(), index.clone());
        thread::spawn(move || step(&store, &index, &hash))
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let mut found = BTreeMap::new();
    let walked = store.walk(&mut |meta| {
        found.insert(meta.hash, meta.generation);
        ControlFlow::Continue(())
    });
    let summary = walked.unwrap();
    // What was uploaded again is there, whatever the delete did and when.
    assert_eq!(found, BTreeMap::from([(hash, NEW)]));
    assert_eq!(found, *index.lock().unwrap());
    assert_eq!((summary.strays, summary.damaged), (0, 0));
    assert_eq!(store.space().used, CONTENT.len() as u64);
    assert_eq!(store.failed(), None);
    read(&store, &hash);
}

#[allow(clippy::print_stdout)] // the figure
fn explore(name: &str, schedules: u64, scheduler: impl Scheduler + 'static) {
    let place = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let run = Arc::new(AtomicU64::new(0));
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    let (roots, counted) = (place.path().to_owned(), run.clone());
    Runner::new(scheduler, config).run(move || {
        let root = roots.join(counted.fetch_add(1, Ordering::Relaxed).to_string());
        race(&root);
        std::fs::remove_dir_all(&root).unwrap();
    });
    let run = run.load(Ordering::Relaxed);
    println!(
        "{name}: {run} schedules of two deletes, an upload and a read of one hash, none went wrong"
    );
    assert_eq!(run, schedules);
}

fn seed_and_schedules(name: &str) -> (u64, u64) {
    let now = UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let seed = number("SCHEDULE_SEED", u64::from(now));
    let schedules = number("SCHEDULES", 400);
    eprintln!("{name}: SCHEDULE_SEED={seed} SCHEDULES={schedules}");
    (seed, schedules)
}

#[test]
fn i03_i04_i05_one_hash_survives_schedules_of_any_kind() {
    let (seed, schedules) = seed_and_schedules("random");
    let count = usize::try_from(schedules).unwrap();
    explore(
        "random",
        schedules,
        RandomScheduler::new_from_seed(seed, count),
    );
}

#[test]
fn i03_i04_i05_one_hash_survives_schedules_with_few_and_unlucky_switches() {
    let (seed, schedules) = seed_and_schedules("pct");
    let count = usize::try_from(schedules).unwrap();
    explore(
        "pct",
        schedules,
        PctScheduler::new_from_seed(seed, 3, count),
    );
}
