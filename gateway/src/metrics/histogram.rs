//! [`Histogram`]: how long requests took, in buckets of fixed bounds.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds, as Prometheus shows them and in microseconds.
const BOUNDS: [(&str, u64); 14] = [
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

/// Counts per bucket; each observation is counted in one of them and summed up when shown.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one observation.
    pub(crate) fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .zip(&self.buckets)
            .find(|((_, bound), _)| micros <= *bound)
            .map_or(&self.beyond, |(_, bucket)| bucket);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Appends its lines in Prometheus' text format; `labels` without braces.
    pub(crate) fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0;
        for ((bound, _), bucket) in BOUNDS.iter().zip(&self.buckets) {
            total += bucket.load(Ordering::Relaxed);
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        total += self.beyond.load(Ordering::Relaxed);
        let micros = self.sum_micros.load(Ordering::Relaxed);
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}.{fraction:06}");
        let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_sum_is_in_seconds() {
        let histogram = Histogram::default();
        for millis in [1, 2, 40, 700_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = String::new();
        histogram.write(&mut out, "t", "route=\"/\"");
        assert!(out.contains("t_bucket{route=\"/\",le=\"0.001\"} 1\n"));
        assert!(out.contains("t_bucket{route=\"/\",le=\"0.0025\"} 2\n"));
        assert!(out.contains("t_bucket{route=\"/\",le=\"600\"} 3\n"));
        assert!(out.contains("t_bucket{route=\"/\",le=\"+Inf\"} 4\n"));
        assert!(out.contains("t_sum{route=\"/\"} 700.043000\n"));
        assert!(out.contains("t_count{route=\"/\"} 4\n"));
    }
}
