use std::thread;
use std::time::Instant;

use super::*;

/// Prints rates; asserts only that nothing was lost, since a rate is a property of the machine.
#[test]
fn rates_are_printed_and_no_add_is_lost() {
    let count = std::env::var("INDEX_RATE_COUNT").map_or(4_000, |count| count.parse().unwrap());
    let rate = |since: Instant| {
        let elapsed = since.elapsed();
        format!(
            "{} /s",
            u128::from(count) * 1_000_000 / elapsed.as_micros().max(1)
        )
    };
    let place = Place::new();
    let index = place.begin(&RebuildReason::FirstStart);
    let started = Instant::now();
    for number in 0..count {
        index.add(&meta(number, 1)).unwrap();
    }
    println!("adds, 1 thread: {}", rate(started));

    let started = Instant::now();
    thread::scope(|scope| {
        for thread in 0..8 {
            let index = &index;
            scope.spawn(move || {
                for number in (0..count).filter(|number| number % 8 == thread) {
                    index.add(&meta(count + number, 1)).unwrap();
                }
            });
        }
    });
    println!("adds, 8 threads: {}", rate(started));

    let started = Instant::now();
    let events = index.events(Sequence(1), usize::try_from(count).unwrap());
    println!("events read: {}", rate(started));
    assert_eq!(events.unwrap().len() as u64, count);
    let started = Instant::now();
    index.trim(Sequence(count + 1)).unwrap();
    println!("events trimmed: {}", rate(started));
    close(&index);

    let started = Instant::now();
    let index = place.reopen();
    println!(
        "{} replicas opened in {:?}",
        index.count(),
        started.elapsed()
    );
    assert_eq!(index.count(), 2 * count);
    assert_eq!(index.next_sequence(), Sequence(2 * count + 1));

    let other = Place::new();
    let rebuilt = other.open().index;
    let started = Instant::now();
    for number in 0..count {
        rebuilt.restore(&meta(number, 1)).unwrap();
    }
    println!("restores, 1 thread: {}", rate(started));
}
