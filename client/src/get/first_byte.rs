//! [`FirstByteTimes`]: how long datanodes took lately to send their first bytes, and so when a second one should be asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Readings that are remembered. Enough for a 95th percentile, few enough to follow a change of load within a second.
const REMEMBERED: usize = 64;
const SHORTEST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_millis(500);
/// Before there is a reading: nobody knows yet what is slow here.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// The last readings of all reads of one client.
#[derive(Debug, Default)]
pub(crate) struct FirstByteTimes {
    readings: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    times: Vec<Duration>,
    next: usize,
}

impl FirstByteTimes {
    /// Remembers that the first bytes took `time`.
    pub(crate) fn record(&self, time: Duration) {
        let mut ring = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.times.len() < REMEMBERED {
            ring.times.push(time);
            return;
        }
        let at = ring.next;
        ring.times[at] = time;
        ring.next = (at + 1) % REMEMBERED;
    }

    /// How long to wait for a first byte before another replica is asked as well.
    pub(crate) fn hedge_delay(&self) -> Duration {
        let ring = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        hedge_delay(&ring.times)
    }
}

/// Twice the 95th percentile: about one read in a hundred asks a second node, which costs next to nothing and cuts off
/// the slowest ones.
fn hedge_delay(times: &[Duration]) -> Duration {
    if times.is_empty() {
        return FIRST_DELAY;
    }
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let percentile = sorted[(sorted.len() * 95 / 100).min(sorted.len() - 1)];
    (percentile * 2).clamp(SHORTEST_DELAY, LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_follows_the_slower_of_the_recent_reads() {
        let times = FirstByteTimes::default();
        assert_eq!(times.hedge_delay(), FIRST_DELAY);
        times.record(Duration::from_millis(1));
        assert_eq!(times.hedge_delay(), SHORTEST_DELAY);
        for _ in 0..REMEMBERED {
            times.record(Duration::from_millis(50));
        }
        assert_eq!(times.hedge_delay(), Duration::from_millis(100));
        for _ in 0..REMEMBERED {
            times.record(Duration::from_secs(9));
        }
        assert_eq!(times.hedge_delay(), LONGEST_DELAY);
    }

    #[test]
    fn one_slow_read_in_many_changes_nothing() {
        let mut times = vec![Duration::from_millis(30); REMEMBERED];
        times[7] = Duration::from_secs(3);
        assert_eq!(hedge_delay(&times), Duration::from_millis(60));
    }
}
