//! [`Histogram`]: how long something took, or how much it was, in buckets of fixed bounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a histogram's buckets, as Prometheus shows them and in the unit that is observed.
pub type Buckets = &'static [(&'static str, u64)];

/// For times: shown in seconds, observed in microseconds.
pub const SECONDS: Buckets = &[
    ("0.001", 1_000),
    ("0.0025", 2_500),
    ("0.005", 5_000),
    ("0.01", 10_000),
    ("0.025", 25_000),
    ("0.05", 50_000),
    ("0.1", 100_000),
    ("0.25", 250_000),
    ("0.5", 500_000),
    ("1", 1_000_000),
    ("2.5", 2_500_000),
    ("10", 10_000_000),
    ("60", 60_000_000),
    ("600", 600_000_000),
];

/// For numbers of things, in millionths, so that both kinds are summed up in the same way.
pub const COUNTS: Buckets = &[
    ("1", 1_000_000),
    ("2", 2_000_000),
    ("5", 5_000_000),
    ("10", 10_000_000),
    ("25", 25_000_000),
    ("100", 100_000_000),
    ("250", 250_000_000),
    ("1000", 1_000_000_000),
    ("4096", 4_096_000_000),
];

/// Counts per bucket; each observation is counted in one of them and summed up when shown.
#[derive(Debug)]
pub struct Histogram {
    bounds: Buckets,
    buckets: Vec<AtomicU64>,
    beyond: AtomicU64,
    sum_millionths: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Observations up to each bound.
    pub cumulative: Vec<(&'static str, u64)>,
    /// All observations.
    pub count: u64,
    /// Their sum, in millionths of what is shown.
    pub sum_millionths: u64,
}

impl Histogram {
    /// Nothing observed yet.
    pub fn new(bounds: Buckets) -> Self {
        Self {
            bounds,
            buckets: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            beyond: AtomicU64::new(0),
            sum_millionths: AtomicU64::new(0),
        }
    }

    /// Counts one time.
    pub fn observe(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one number of things.
    pub fn observe_count(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.add(count.saturating_mul(1_000_000));
    }

    fn add(&self, millionths: u64) {
        let bucket = self
            .bounds
            .iter()
            .zip(&self.buckets)
            .find(|((_, bound), _)| millionths <= *bound)
            .map_or(&self.beyond, |(_, bucket)| bucket);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum_millionths.fetch_add(millionths, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let cumulative = self
            .bounds
            .iter()
            .zip(&self.buckets)
            .map(|((shown, _), bucket)| {
                count += bucket.load(Ordering::Relaxed);
                (*shown, count)
            })
            .collect();
        Snapshot {
            cumulative,
            count: count + self.beyond.load(Ordering::Relaxed),
            sum_millionths: self.sum_millionths.load(Ordering::Relaxed),
        }
    }
}
