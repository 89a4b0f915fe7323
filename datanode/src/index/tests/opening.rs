use std::fs;
use std::io;

use super::super::database::{Database, SCHEMA};
use super::*;
use crate::index::IndexError;
use richardstore_migrations::DATANODE_SCHEMA;
use richardstore_proto::Generation;

#[test]
fn a_clean_close_keeps_journal_sequence_entries_and_events() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    for number in 1..=300 {
        index.add(&meta(number, number)).unwrap();
    }
    index.remove(&hash(7), Generation(7)).unwrap();
    index.mark_verified(&hash(8), 123).unwrap();
    let before = holdings(&index);
    let events = index.events(Sequence(1), 1000).unwrap();
    let identity = close(&index);

    let index = place.reopen();
    assert_eq!((index.journal_id(), index.next_sequence()), identity);
    assert_eq!(holdings(&index), before);
    assert_eq!(index.events(Sequence(1), 1000).unwrap(), events);
    assert_eq!(
        index.get(&hash(8)).unwrap().unwrap().last_verified_ms,
        Some(123)
    );
    assert_eq!(index.add(&meta(999, 999)).unwrap(), identity.1);
}

#[test]
fn i09_an_index_without_its_mark_is_begun_anew_under_another_journal() {
    let place = Place::new();
    let first = place.begin(&RebuildReason::FirstStart);
    first.add(&meta(1, 1)).unwrap();
    let first_journal = first.journal_id();
    drop(first);

    let second = place.begin(&RebuildReason::NoCleanMark);
    assert_ne!(second.journal_id(), first_journal);
    assert_eq!((second.count(), second.next_sequence()), (0, Sequence(1)));
}

#[test]
fn i09_the_mark_is_gone_as_soon_as_the_index_is_open() {
    let place = Place::new();
    close(&place.begin(&RebuildReason::FirstStart));
    assert!(place.mark().exists());
    let index = place.reopen();
    assert!(!place.mark().exists());
    drop(index);
    place.begin(&RebuildReason::NoCleanMark);
}

#[test]
fn i09_a_mark_without_its_index_rebuilds() {
    let place = Place::new();
    close(&place.begin(&RebuildReason::FirstStart));
    fs::remove_dir_all(place.dir()).unwrap();
    let opened = place.open();
    assert!(matches!(opened.rebuild, Some(RebuildReason::Damaged(_))));
}

#[test]
fn i09_a_mark_of_another_index_is_not_believed() {
    let (place, other) = (Place::new(), Place::new());
    let index = place.begin(&RebuildReason::FirstStart);
    index.add(&meta(1, 1)).unwrap();
    close(&index);
    close(&other.begin(&RebuildReason::FirstStart));
    fs::copy(other.mark(), place.mark()).unwrap();
    let opened = place.open();
    assert!(matches!(opened.rebuild, Some(RebuildReason::Damaged(_))));
    assert_eq!(opened.index.count(), 0);
}

/// Also a newer one, as an older version finds it after going back: nothing but time is lost by making the cache anew.
#[test]
fn i09_an_index_of_another_schema_is_begun_anew() {
    for (schema, words) in [
        (DATANODE_SCHEMA + 1, "use a newer build"),
        (0, "does not exist"),
    ] {
        let place = Place::new();
        let index = place.begin(&RebuildReason::FirstStart);
        index.add(&meta(1, 1)).unwrap();
        let (journal_id, _) = close(&index);
        let path = place.dir().join(journal_id.to_string());
        let database = Database::open(&path, &IndexOptions::default()).unwrap();
        database.set_meta(SCHEMA, &schema).unwrap();
        database.close().unwrap();

        let opened = place.open();
        let Some(RebuildReason::OpenFailed(reason)) = opened.rebuild else {
            panic!("{:?}", opened.rebuild);
        };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(
            (opened.index.count(), opened.index.is_complete()),
            (0, false)
        );
        assert_ne!(opened.index.journal_id(), journal_id);
        opened.index.finish_rebuild();
        close(&opened.index);
        place.reopen();
    }
}

#[test]
fn i09_an_index_put_back_to_an_earlier_state_is_not_believed() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    index.add(&meta(1, 1)).unwrap();
    close(&index);
    let earlier: Vec<_> = place
        .files()
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    let index = place.reopen();
    index.add(&meta(2, 2)).unwrap();
    close(&index);
    fs::remove_dir_all(place.dir()).unwrap();
    for (bytes, path) in earlier {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert!(place.open().rebuild.is_some());
}

#[test]
fn i09_a_rebuild_that_was_cut_off_is_begun_again() {
    let place = Place::new();
    let opened = place.open();
    opened.index.restore(&meta(1, 1)).unwrap();
    assert!(!opened.index.is_complete());
    opened.index.close(|| Ok(())).unwrap();
    assert!(!place.mark().exists());
    place.begin(&RebuildReason::NoCleanMark);
}

#[test]
fn a_sync_that_failed_leaves_no_mark() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    let closed = index.close(|| Err(io::Error::other("EIO")));
    assert!(matches!(closed, Err(IndexError::Io { .. })), "{closed:?}");
    assert!(!place.mark().exists());
}

#[test]
fn a_closed_index_answers_that_it_is_closed() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    close(&index);
    assert!(matches!(index.get(&hash(1)), Err(IndexError::Closed)));
    assert!(matches!(index.add(&meta(1, 1)), Err(IndexError::Closed)));
    assert!(matches!(index.close(|| Ok(())), Err(IndexError::Closed)));
}

#[test]
fn i09_the_rebuild_gives_the_same_digests_and_entries() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    for number in 1..=500 {
        index.add(&meta(number, number + 3)).unwrap();
    }
    let before = holdings(&index);
    drop(index);

    let opened = place.open();
    let index = opened.index;
    assert_eq!(opened.rebuild, Some(RebuildReason::NoCleanMark));
    // New writes go on while the directory is walked, and the walk meets them too.
    index.add(&meta(77, 80)).unwrap();
    for number in (1..=500).rev() {
        index.restore(&meta(number, number + 3)).unwrap();
        index.restore(&meta(number, number)).unwrap();
    }
    index.finish_rebuild();
    assert_eq!(holdings(&index), before);
    assert_eq!(index.next_sequence(), Sequence(2));
}

#[test]
fn a_file_in_the_place_of_the_index_is_replaced() {
    let place = Place::new();
    fs::write(place.dir(), b"noise").unwrap();
    let index = place.begin(&RebuildReason::NoCleanMark);
    index.add(&meta(1, 1)).unwrap();
}
