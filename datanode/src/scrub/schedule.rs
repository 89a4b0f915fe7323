//! [`Schedule`] and [`Pace`]: when to read how much. Pure.
//!
//! A pass begins every half interval and is given half an interval, so two reads of one replica, the first early in its
//! pass and the second late, are never further apart than the interval.

use std::time::Duration;

use richardstore_proto::ContentHash;
use tokio::time::Instant;

/// A pass is not spread thinner than this, in bytes per second, where the operator allows as much.
const USUAL_RATE: u64 = 4 << 20;

/// Between the beginnings of two passes at least, however short the interval.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// How often and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    interval: Duration,
    /// Bytes per second at most.
    limit: u64,
}

impl Schedule {
    /// Every replica once in `interval`, as far as `limit` bytes per second allow. `None` where either is 0: no scrub.
    pub(super) fn new(interval: Duration, limit: u64) -> Option<Self> {
        (interval > Duration::ZERO && limit > 0).then_some(Self { interval, limit })
    }

    /// Bytes per second for what is left, behind `after`, of a pass over `work` bytes that began at `began_ms`. What was lost while it
    /// stepped back is made up for, at up to ten times what is needed without that.
    pub(super) fn rate(
        &self,
        work: u64,
        began_ms: u64,
        after: Option<ContentHash>,
        now_ms: u64,
    ) -> u64 {
        let left = (u128::from(work) * (u128::from(u64::MAX) - u128::from(place(after)))) >> 64;
        let passed_ms = u128::from(now_ms.saturating_sub(began_ms));
        let least_ms = (self.time_ms() / 10).max(1);
        let time_ms = self.time_ms().saturating_sub(passed_ms).max(least_ms);
        let needed = u64::try_from(left.saturating_mul(1000) / time_ms).unwrap_or(u64::MAX);
        needed.max(USUAL_RATE).min(self.limit)
    }

    /// Bytes per second of a pass with little to read.
    pub(super) fn usual_rate(&self) -> u64 {
        USUAL_RATE.min(self.limit)
    }

    /// Bytes per second at most.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// How long to wait at `now_ms` before the pass after the one that began at `began_ms`, which is not after `now_ms`.
    pub(super) fn rest(&self, began_ms: u64, now_ms: u64) -> Duration {
        let passed = Duration::from_millis(now_ms.saturating_sub(began_ms));
        self.period().saturating_sub(passed)
    }

    /// Whether a pass that began at `began_ms` and has read what comes up to `after` may rest at `now_ms`: hashes are spread evenly, and
    /// it has come further through them than it has to, to be done when nine tenths of its time are over.
    pub(super) fn is_ahead(&self, began_ms: u64, after: Option<ContentHash>, now_ms: u64) -> bool {
        let passed_ms = u128::from(now_ms.saturating_sub(began_ms));
        u128::from(place(after)) * self.time_ms() > passed_ms << 64
    }

    /// The time in which a pass is to be done: what comes late has a tenth of the period left.
    fn time_ms(&self) -> u128 {
        self.period().as_millis().min(u128::from(u64::MAX)) / 10 * 9
    }

    fn period(&self) -> Duration {
        (self.interval / 2).max(SHORTEST_PERIOD)
    }
}

/// How much of all hashes comes before `after`, of 2^64.
fn place(after: Option<ContentHash>) -> u64 {
    after.map_or(0, |hash| {
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk()
            .unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*first)
    })
}

/// Spaces work so that it stays below a rate. Time in which there was nothing to do is not made up for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    free_at: Instant,
}

impl Pace {
    /// Nothing is owed.
    pub(super) fn new(now: Instant) -> Self {
        Self { free_at: now }
    }

    /// How long to wait after `bytes` that were read by `now`.
    pub(super) fn charge(&mut self, bytes: u64, rate: u64, now: Instant) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now) + cost.min(Duration::from_secs(3600));
        self.free_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_rate_is_what_is_needed_between_the_usual_one_and_the_limit() {
        let schedule = Schedule::new(21 * DAY, 32 << 20).unwrap();
        let begin = |work| schedule.rate(work, 0, None, 0);
        assert_eq!(schedule.usual_rate(), 4 << 20);
        assert_eq!(begin(0), 4 << 20);
        assert_eq!(begin(1 << 30), 4 << 20);
        // Nine tenths of half the interval.
        let seconds = 21 * 86_400 / 2 / 10 * 9;
        let nearly = |rate: u64, expected: u64| rate.abs_diff(expected) <= 1;
        assert!(nearly(begin(seconds * 9_000_000), 9_000_000));
        assert_eq!(begin(u64::MAX), 32 << 20);
        let slow = Schedule::new(21 * DAY, 1000).unwrap();
        assert_eq!(slow.rate(1 << 40, 0, None, 0), 1000);

        // Half of the work is left for a quarter of the time; in the end ten times as fast, and not faster.
        let half = Some(ContentHash::new([0x80; 32]));
        let behind = |part| {
            schedule.rate(
                seconds * 5_000_000,
                7,
                half,
                7 + seconds * 1000 / 100 * part,
            )
        };
        let share = |rate: u64, expected: u64| rate.abs_diff(expected) < expected / 100;
        assert!(share(behind(75), 10_000_000), "{}", behind(75));
        assert!(share(behind(95), 25_000_000), "{}", behind(95));
        assert!(share(behind(200), 25_000_000));
    }

    #[test]
    fn two_reads_of_a_replica_are_never_further_apart_than_the_interval() {
        let schedule = Schedule::new(20 * DAY, 32 << 20).unwrap();
        assert_eq!(schedule.rest(1000, 1000), 10 * DAY);
        let ten_days_ms = 10 * 86_400_000;
        assert_eq!(schedule.rest(1000, 1000 + ten_days_ms), Duration::ZERO);
        assert_eq!(schedule.rest(1000, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn a_pass_is_ahead_where_it_has_come_further_than_it_has_to() {
        let schedule = Schedule::new(20 * DAY, 32 << 20).unwrap();
        let day_ms = 86_400_000;
        let at = |first| Some(ContentHash::new([first; 32]));
        assert!(!schedule.is_ahead(5, None, 5));
        assert!(schedule.is_ahead(5, at(1), 5));
        // Half of the hashes: after four and a half days of ten, and not later.
        let half = at(0x80);
        assert!(schedule.is_ahead(5, half, 5 + day_ms * 45 / 10));
        assert!(!schedule.is_ahead(5, half, 5 + day_ms * 46 / 10));
        assert!(schedule.is_ahead(0, at(0xff), 9 * day_ms - day_ms / 10));
        assert!(!schedule.is_ahead(0, at(0xff), 9 * day_ms));
        assert!(!schedule.is_ahead(0, at(0xff), u64::MAX));
    }

    #[test]
    fn no_interval_or_no_rate_is_no_scrub() {
        assert!(Schedule::new(Duration::ZERO, 1).is_none());
        assert!(Schedule::new(DAY, 0).is_none());
    }

    #[test]
    fn idle_time_is_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.charge(500, 1000, start), Duration::from_millis(500));
        assert_eq!(pace.charge(500, 1000, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.charge(500, 1000, later), Duration::from_millis(500));
    }
}
