//! Deletes, generations, and walking what is left.

// Clippy takes only #[test] functions for tests; the helpers around them may panic and cut test data as well.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use richardstore_proto::{ContentHash, Generation};
use richardstore_store::{DeleteOutcome, Depth, Layout, ReplicaMeta, Store, StoreOptions};
use tempfile::TempDir;

fn open(layout: Option<Layout>) -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        layout,
        headroom_bytes: 0,
        capacity_bytes: None,
    };
    let store = Store::open(directory.path(), &options).unwrap();
    (directory, store)
}

fn walk(store: &Store) -> Vec<ReplicaMeta> {
    let mut found = Vec::new();
    let summary = store
        .walk(&mut |meta| {
            found.push(meta);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(summary.complete);
    assert_eq!(summary.replicas, found.len() as u64);
    found
}

#[test]
fn i04_a_delete_never_removes_a_newer_replica() {
    let (_directory, store) = open(None);
    let meta = store.put(&b"again"[..], Generation(5)).unwrap();
    let outcome = store.delete(&meta.hash, Generation(4), |_| panic!("deleted"));
    assert_eq!(outcome.unwrap(), DeleteOutcome::Newer(Generation(5)));
    assert_eq!(store.meta(&meta.hash).unwrap(), Some(meta));
    let outcome = store.delete(&meta.hash, Generation(5), |_| {}).unwrap();
    assert_eq!(outcome, DeleteOutcome::Deleted(meta));
    let outcome = store.delete(&meta.hash, Generation(5), |_| {}).unwrap();
    assert_eq!(outcome, DeleteOutcome::Absent);
}

#[test]
fn i04_the_generation_survives_the_process_and_never_goes_down() {
    let (directory, store) = open(None);
    let meta = store.put(&b"again"[..], Generation(9)).unwrap();
    let older = store.put(&b"again"[..], Generation(3)).unwrap();
    assert_eq!(older.generation, Generation(9));
    drop(store);
    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    assert_eq!(store.meta(&meta.hash).unwrap(), Some(meta));
    let newer = store.put(&b"again"[..], Generation(12)).unwrap();
    assert_eq!(newer.generation, Generation(12));
}

#[test]
fn a_delete_takes_the_sidecar_along_and_a_damaged_replica_can_be_deleted() {
    let (directory, store) = open(None);
    let meta = store.put(&vec![1u8; 200_000][..], Generation(1)).unwrap();
    let path = directory
        .path()
        .join(store.layout().relative_path(&meta.hash));
    fs::write(&path, "damage").unwrap();
    let outcome = store.delete(&meta.hash, Generation(1), |_| {}).unwrap();
    assert_eq!(outcome, DeleteOutcome::Deleted(meta));
    assert_eq!(files_under(&directory.path().join("trees")), 0);
    assert_eq!(store.space().used, 0);
}

#[test]
fn directories_of_a_deep_layout_go_with_their_last_file() {
    let (directory, store) = open(Some(Layout::new(5, Depth::Full).unwrap()));
    let entries = || fs::read_dir(directory.path()).unwrap().count();
    let before = entries();
    let metas: Vec<ReplicaMeta> = (0..20u8)
        .map(|number| store.put(&[number][..], Generation(1)).unwrap())
        .collect();
    assert_eq!(entries(), before + 20);
    for meta in &metas {
        store.delete(&meta.hash, Generation(1), |_| {}).unwrap();
    }
    assert_eq!(entries(), before);
    assert!(walk(&store).is_empty());
}

#[test]
fn directories_made_by_formatting_stay() {
    let (directory, store) = open(None);
    let meta = store.put(&b"x"[..], Generation(1)).unwrap();
    store.delete(&meta.hash, Generation(1), |_| {}).unwrap();
    let path = directory
        .path()
        .join(store.layout().relative_path(&meta.hash));
    assert!(path.parent().unwrap().is_dir());
}

#[test]
fn i09_a_walk_finds_every_replica_in_the_order_of_hashes() {
    for layout in [
        Layout::default(),
        Layout::new(1, Depth::Levels(2)).unwrap(),
        Layout::new(5, Depth::Full).unwrap(),
        Layout::new(7, Depth::Levels(2)).unwrap(),
    ] {
        let (_directory, store) = open(Some(layout));
        let mut metas: Vec<ReplicaMeta> = (0..50u64)
            .map(|number| {
                store
                    .put(&number.to_le_bytes()[..], Generation(number))
                    .unwrap()
            })
            .collect();
        metas.sort_by_key(|meta| meta.hash);
        assert_eq!(walk(&store), metas, "{layout}");
        assert_eq!(store.space().used, 50 * 8);
    }
}

#[test]
fn a_walk_counts_strays_and_damage_and_touches_neither() {
    let (directory, store) = open(None);
    let good = store.put(&b"good"[..], Generation(1)).unwrap();
    let damaged = store.put(&b"damaged"[..], Generation(1)).unwrap();
    let root = directory.path();
    let cut = root.join(store.layout().relative_path(&damaged.hash));
    fs::write(cut, "d").unwrap();
    let wrong_directory = root.join("00").join(good.hash.to_hex());
    fs::write(&wrong_directory, "good").unwrap();
    fs::write(root.join("00").join("notes.txt"), "mine").unwrap();
    fs::create_dir(root.join("00").join("directory")).unwrap();
    fs::write(root.join("README"), "mine").unwrap();
    fs::create_dir_all(root.join("photos/2024")).unwrap();
    let mut found = Vec::new();
    let summary = store
        .walk(&mut |meta| {
            found.push(meta);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, [good]);
    assert_eq!(
        (summary.replicas, summary.strays, summary.damaged),
        (1, 5, 1)
    );
    assert!(wrong_directory.exists() && root.join("README").exists());
}

#[test]
fn a_walk_that_is_broken_off_says_so() {
    let (_directory, store) = open(None);
    for number in 0..3u8 {
        store.put(&[number][..], Generation(1)).unwrap();
    }
    let summary = store.walk(&mut |_| ControlFlow::Break(())).unwrap();
    assert!(!summary.complete);
    assert_eq!(summary.replicas, 1);
}

#[test]
fn i09_a_replica_copied_in_by_hand_is_found_and_a_forged_one_is_not() {
    let (directory, store) = open(None);
    let meta = store.put(&b"copied"[..], Generation(1)).unwrap();
    store.delete(&meta.hash, Generation(1), |_| {}).unwrap();
    let path = |hash: &ContentHash| directory.path().join(store.layout().relative_path(hash));
    fs::write(path(&meta.hash), "copied").unwrap();
    fs::write(path(&ContentHash::EMPTY), "not empty").unwrap();
    let found = walk(&store);
    let expected = ReplicaMeta {
        generation: Generation(0),
        ..meta
    };
    assert_eq!(found, [expected]);
}

fn files_under(directory: &Path) -> usize {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files_under(&path) } else { 1 })
        .sum()
}
