//! Whole verification, quarantine, and the healing of a damaged replica in place.

// Clippy takes only #[test] functions for tests; the helpers around them may panic and cut test data as well.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use richardstore_proto::{ContentHash, Generation};
use richardstore_store::{
    Depth, Layout, QuarantineOutcome, ReplicaMeta, Store, StoreOptions, Verification,
};
use tempfile::TempDir;

const GROUP: usize = 64 << 10;
const SEGMENT: usize = 256 * GROUP;

fn open() -> (TempDir, Store) {
    open_as(None)
}

fn open_as(layout: Option<Layout>) -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        layout,
        headroom_bytes: 0,
        capacity_bytes: None,
    };
    let store = Store::open(directory.path(), &options).unwrap();
    (directory, store)
}

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at % 253) as u8 ^ (at / GROUP) as u8)
        .collect()
}

fn path_of(store: &Store, hash: &ContentHash) -> PathBuf {
    store.root().join(store.layout().relative_path(hash))
}

/// Changes the file in place, so that its record stays.
fn damage(store: &Store, hash: &ContentHash, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let path = path_of(store, hash);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, &bytes).unwrap();
    bytes
}

fn quarantine(store: &Store, meta: &ReplicaMeta, up_to: u64) -> (QuarantineOutcome, bool) {
    let ran = Cell::new(false);
    let outcome = store.quarantine(&meta.hash, Generation(up_to), &|| true, || ran.set(true));
    (outcome.unwrap(), ran.get())
}

fn kept(store: &Store) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<_> = fs::read_dir(store.root().join("quarantine"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    kept.sort();
    kept
}

fn read_all(store: &Store, hash: &ContentHash) -> Vec<u8> {
    let mut reader = store.read(hash, 0, None).unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        bytes.extend(chunk);
    }
    bytes
}

fn is_corrupt(store: &Store, hash: &ContentHash) -> bool {
    matches!(store.verify(hash).unwrap(), Verification::Corrupt { .. })
}

#[test]
fn i05_a_whole_read_finds_a_flipped_bit_wherever_it_is() {
    let (_directory, store) = open();
    for size in [1, 1000, GROUP, GROUP + 1, 3 * GROUP + 7, SEGMENT + GROUP] {
        let bytes = content(size);
        let meta = store.put(&bytes[..], Generation(1)).unwrap();
        assert_eq!(
            store.verify(&meta.hash).unwrap(),
            Verification::Verified(meta)
        );
        for at in [0, size / 2, size.saturating_sub(GROUP + 1), size - 1] {
            damage(&store, &meta.hash, |bytes| bytes[at] ^= 0x10);
            assert!(is_corrupt(&store, &meta.hash), "byte {at} of {size}");
            damage(&store, &meta.hash, |bytes| bytes[at] ^= 0x10);
        }
        assert_eq!(
            store.verify(&meta.hash).unwrap(),
            Verification::Verified(meta)
        );
    }
    let absent = store.verify(&ContentHash::MIN).unwrap();
    assert_eq!(absent, Verification::Absent);
}

#[test]
fn i05_a_whole_read_finds_truncated_emptied_and_grown_replicas() {
    let (_directory, store) = open();
    let meta = store.put(&content(100_000)[..], Generation(1)).unwrap();
    for size in [0, 1, 99_999, 100_001] {
        damage(&store, &meta.hash, |bytes| bytes.resize(size, 0));
        assert!(is_corrupt(&store, &meta.hash), "{size} bytes");
    }
    // Also where no record says how long it was.
    fs::remove_file(path_of(&store, &meta.hash)).unwrap();
    fs::write(path_of(&store, &meta.hash), b"").unwrap();
    assert!(is_corrupt(&store, &meta.hash));
}

#[test]
fn i06_quarantine_leaves_sound_newer_and_absent_replicas_alone() {
    let (_directory, store) = open();
    let meta = store.put(&content(100_000)[..], Generation(5)).unwrap();
    let (outcome, ran) = quarantine(&store, &meta, 9);
    assert_eq!((outcome, ran), (QuarantineOutcome::Sound(meta), false));
    damage(&store, &meta.hash, |bytes| bytes[3] ^= 1);
    let (outcome, ran) = quarantine(&store, &meta, 4);
    assert_eq!(
        (outcome, ran),
        (QuarantineOutcome::Newer(Generation(5)), false)
    );
    let outcome = store.quarantine(&meta.hash, Generation(5), &|| false, || panic!("ran"));
    assert_eq!(outcome.unwrap(), QuarantineOutcome::Interrupted);
    assert!(path_of(&store, &meta.hash).exists());
    let (outcome, ran) = quarantine(&store, &meta, 5);
    assert!(ran && matches!(outcome, QuarantineOutcome::Quarantined { .. }));
    let (outcome, ran) = quarantine(&store, &meta, 5);
    assert_eq!((outcome, ran), (QuarantineOutcome::Absent, false));
}

#[test]
fn i06_what_is_quarantined_leaves_the_tree_whole_and_can_be_written_again() {
    let (directory, store) = open_as(Some(Layout::new(5, Depth::Full).unwrap()));
    let bytes = content(200_000);
    let meta = store.put(&bytes[..], Generation(7)).unwrap();
    let wrong = damage(&store, &meta.hash, |bytes| bytes[70_000] ^= 1);
    let (outcome, _) = quarantine(&store, &meta, 7);
    let path = store
        .root()
        .join("quarantine")
        .join(format!("{}.7", meta.hash));
    assert_eq!(outcome, QuarantineOutcome::Quarantined { path });
    assert_eq!(kept(&store), [(format!("{}.7", meta.hash), wrong.clone())]);
    assert_eq!(store.meta(&meta.hash).unwrap(), None);
    assert_eq!(store.space().used, 0);
    drop(store);
    // It stays out of the tree, and in quarantine, over a restart.
    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    let summary = store.walk(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(
        (summary.replicas, summary.strays, summary.damaged),
        (0, 0, 0)
    );
    store.put(&bytes[..], Generation(8)).unwrap();
    assert_eq!(read_all(&store, &meta.hash), bytes);
    assert_eq!(kept(&store), [(format!("{}.7", meta.hash), wrong)]);
}

#[test]
fn i06_a_second_bad_replica_does_not_take_the_place_of_the_first() {
    let (_directory, store) = open();
    let bytes = content(1000);
    let mut expected = Vec::new();
    for (round, suffix) in ["", ".1", ".2"].into_iter().enumerate() {
        let meta = store.put(&bytes[..], Generation(3)).unwrap();
        let wrong = damage(&store, &meta.hash, |bytes| bytes[round] ^= 1);
        quarantine(&store, &meta, 3);
        expected.push((format!("{}.3{suffix}", meta.hash), wrong));
        assert_eq!(kept(&store), expected);
    }
}

#[test]
fn i05_writing_the_same_bytes_heals_a_replica_of_another_size_and_keeps_the_bad_one() {
    let (_directory, store) = open();
    let bytes = content(100_000);
    let meta = store.put(&bytes[..], Generation(4)).unwrap();
    let wrong = damage(&store, &meta.hash, |bytes| bytes.truncate(10));
    // An older write: the healed replica keeps the newer generation.
    let healed = store.put(&bytes[..], Generation(2)).unwrap();
    assert_eq!(healed, meta);
    assert_eq!(read_all(&store, &meta.hash), bytes);
    assert_eq!(kept(&store), [(format!("{}.4", meta.hash), wrong)]);
    assert_eq!(store.space().used, 100_000);
}

#[test]
fn i05_writing_the_same_bytes_heals_a_replica_that_a_read_or_a_scrub_found_damaged() {
    let (_directory, store) = open();
    let bytes = content(3 * GROUP);
    let by_read = |hash: &ContentHash| {
        let mut reader = store.read(hash, GROUP as u64, None).unwrap();
        assert!(reader.next_chunk().is_err());
    };
    let by_scrub = |hash: &ContentHash| assert!(is_corrupt(&store, hash));
    let findings: [&dyn Fn(&ContentHash); 2] = [&by_read, &by_scrub];
    for (round, find) in findings.into_iter().enumerate() {
        let meta = store.put(&bytes[..], Generation(4)).unwrap();
        assert_eq!(kept(&store).len(), round);
        damage(&store, &meta.hash, |bytes| bytes[GROUP + 5] ^= 1);
        find(&meta.hash);
        store.put(&bytes[..], Generation(4)).unwrap();
        assert_eq!(read_all(&store, &meta.hash), bytes);
        assert_eq!(kept(&store).len(), round + 1);
    }
    // Of a sound one nothing is kept.
    store.put(&bytes[..], Generation(9)).unwrap();
    assert_eq!(kept(&store).len(), 2);
}

#[test]
fn i06_a_verdict_on_a_replica_that_was_replaced_meanwhile_is_none() {
    let (_directory, store) = open();
    let bytes = content(3 << 20);
    let meta = store.put(&bytes[..], Generation(1)).unwrap();
    damage(&store, &meta.hash, |bytes| bytes[0] ^= 1);
    let mut verifier = store.verifier(&meta.hash);
    verifier.step().unwrap();
    store.put(&bytes[..], Generation(2)).unwrap();
    let ended = loop {
        if let richardstore_store::VerifyStep::Ended(ended) = verifier.step().unwrap() {
            break ended;
        }
    };
    assert_eq!(ended, Verification::Absent);
    assert!(matches!(
        store.verify(&meta.hash).unwrap(),
        Verification::Verified(_)
    ));
}
