use std::sync::Barrier;
use std::thread;

use super::*;
use crate::index::IndexError;

#[test]
fn an_event_says_what_happened_to_the_replica() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    index.add(&meta(1, 5)).unwrap();
    index.remove(&hash(1), Generation(5)).unwrap();
    index.remove(&hash(1), Generation(6)).unwrap();
    let events = index.events(Sequence(1), 10).unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.sequence.0, event.replica.generation.0, event.removed))
        .collect();
    assert_eq!(told, [(1, 5, false), (2, 5, true), (3, 6, true)]);
    assert_eq!((events[1].size, events[2].size), (10, 0));
    assert_eq!(events[1].blake3_root, Some(Blake3Root::new([7; 32])));
    assert_eq!(events[2].blake3_root, None);
    assert_eq!(events[0].replica.hash, hash(1));
}

#[test]
fn i04_an_older_generation_neither_lowers_nor_removes_a_newer_one() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    index.add(&meta(1, 9)).unwrap();
    let before = holdings(&index);
    index.add(&meta(1, 4)).unwrap();
    index.remove(&hash(1), Generation(8)).unwrap();
    index.restore(&meta(1, 3)).unwrap();
    assert_eq!(holdings(&index), before);
    let generations: Vec<_> = index
        .events(Sequence(1), 10)
        .unwrap()
        .iter()
        .map(|event| (event.replica.generation.0, event.removed))
        .collect();
    assert_eq!(generations, [(9, false), (9, false), (8, true)]);
}

#[test]
fn i10_events_are_numbered_without_gaps_in_the_order_of_their_effect() {
    const THREADS: u64 = 8;
    const EACH: u64 = 200;
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (index, start) = (&index, &start);
            scope.spawn(move || {
                start.wait();
                let mut last = Sequence(0);
                for turn in 0..EACH {
                    // All threads meet at the same few hashes.
                    let number = turn % 20;
                    let generation = turn * THREADS + thread + 1;
                    let sequence = match turn % 4 {
                        3 => index.remove(&hash(number), Generation(generation)),
                        _ => index.add(&meta(number, generation)),
                    };
                    assert!(sequence.as_ref().unwrap() > &last);
                    last = sequence.unwrap();
                }
            });
        }
    });
    let events = index.events(Sequence(1), usize::MAX).unwrap();
    assert_eq!(events.len() as u64, THREADS * EACH);
    let mut replayed = std::collections::BTreeMap::new();
    for (at, event) in (1..).zip(&events) {
        assert_eq!(event.sequence, Sequence(at));
        let (hash, generation) = (event.replica.hash, event.replica.generation);
        if !event.removed {
            replayed.insert(hash, generation);
        } else if replayed
            .get(&hash)
            .is_some_and(|present| *present <= generation)
        {
            replayed.remove(&hash);
        }
    }
    let entries = index.entries(None, ContentHash::MAX, usize::MAX).unwrap();
    let held: std::collections::BTreeMap<_, _> = entries
        .iter()
        .map(|entry| (entry.hash, entry.generation))
        .collect();
    assert_eq!(held, replayed);
}

#[test]
fn trimmed_events_are_refused_and_numbers_go_on_across_restarts() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    for number in 1..=2_500 {
        index.add(&meta(number, 1)).unwrap();
    }
    index.trim(Sequence(2_401)).unwrap();
    index.trim(Sequence(5)).unwrap();
    let refused = index.events(Sequence(2_400), 10);
    assert!(
        matches!(
            refused,
            Err(IndexError::Trimmed {
                first: Sequence(2_401)
            })
        ),
        "{refused:?}"
    );
    assert_eq!(index.events(Sequence(2_401), 1_000).unwrap().len(), 100);
    index.trim(Sequence(u64::MAX)).unwrap();
    close(&index);

    let index = place.reopen();
    assert_eq!(index.next_sequence(), Sequence(2_501));
    assert_eq!(index.events(Sequence(2_501), 10).unwrap(), []);
    assert!(matches!(
        index.events(Sequence(1), 10),
        Err(IndexError::Trimmed {
            first: Sequence(2_501)
        })
    ));
    assert_eq!(index.count(), 2_500);
}

#[test]
fn events_are_read_while_others_trim_and_add() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=2_000 {
                index.add(&meta(number, 1)).unwrap();
                if number % 50 == 0 {
                    index.trim(Sequence(number - 20)).unwrap();
                }
            }
        });
        let mut from = Sequence(1);
        while from <= Sequence(2_000) {
            match index.events(from, 64) {
                Ok(events) => {
                    from = events.last().map_or(from, |event| event.sequence.next());
                }
                Err(IndexError::Trimmed { first }) => from = first,
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn a_reader_that_is_ahead_of_the_journal_asks_for_a_rebuild() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    index.add(&meta(1, 1)).unwrap();
    assert_eq!(index.events(Sequence(2), 5).unwrap(), []);
    let ahead = index.events(Sequence(3), 5).unwrap_err();
    assert!(matches!(ahead, IndexError::Ahead { next: Sequence(2) }));
    assert!(ahead.needs_rebuild());
    // Its next event would have a number that the reader takes for a repetition.
    assert!(matches!(index.add(&meta(2, 2)), Err(IndexError::Broken(_))));
    assert!(matches!(index.close(|| Ok(())), Err(IndexError::Broken(_))));
    assert!(!place.mark().exists());
}

#[test]
fn entries_come_in_pages_with_an_open_start_and_a_closed_end() {
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    let mut hashes: Vec<_> = (0..50).map(hash).collect();
    hashes.sort();
    for number in 0..50 {
        index.add(&meta(number, 1)).unwrap();
    }
    let page = |after, through, limit| -> Vec<ContentHash> {
        let entries = index.entries(after, through, limit).unwrap();
        entries.iter().map(|entry| entry.hash).collect()
    };
    assert_eq!(page(None, ContentHash::MAX, 10), hashes[..10]);
    assert_eq!(page(Some(hashes[9]), hashes[12], 10), hashes[10..=12]);
    assert!(page(Some(hashes[12]), hashes[9], 10).is_empty());
    assert!(page(Some(hashes[9]), hashes[9], 10).is_empty());
    assert!(page(None, ContentHash::MIN, 10).is_empty());
}
