//! [`Row`]: the figures of one measurement.

use serde::{Deserialize, Serialize};

use crate::load::Timings;
use crate::process_meter::Usage;

/// One measurement. What was not measured is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done, at what size, by how many: the name that two sheets are compared by.
    pub name: String,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed.
    pub failed: u64,
    /// The first of their errors.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Operations a second.
    pub per_second: f64,
    /// Bytes of content a second; 0 where none are moved.
    pub bytes_per_second: f64,
    /// Median latency, in milliseconds.
    pub p50_ms: f64,
    /// The latency that 1 in 100 exceeds, in milliseconds.
    pub p99_ms: f64,
    /// The latency that 1 in 1,000 exceeds, in milliseconds.
    pub p999_ms: f64,
    /// Processor time of the store for one operation, in milliseconds. The load's own is not in it.
    pub cpu_ms_per_operation: Option<f64>,
    /// Resident memory of the store at the end, in bytes.
    pub memory_bytes: Option<u64>,
    /// Bytes written to storage for each byte of content, all replicas and metadata together.
    pub written_per_byte: Option<f64>,
    /// Bytes that one operation costs: what its row says of disk, or of messages.
    #[serde(default)]
    pub bytes_each: Option<f64>,
    /// What the machine allows of [`Row::per_second`].
    pub limit_per_second: Option<f64>,
}

impl Row {
    /// The figures of a load.
    pub fn of(name: impl Into<String>, timings: &Timings) -> Self {
        let millis = |quantile| timings.latency.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            name: name.into(),
            operations: timings.operations,
            failed: timings.failed,
            error: timings.error.clone(),
            per_second: timings.per_second(),
            bytes_per_second: timings.bytes_per_second(),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            p999_ms: millis(0.999),
            cpu_ms_per_operation: None,
            memory_bytes: None,
            written_per_byte: None,
            bytes_each: None,
            limit_per_second: None,
        }
    }

    /// A row of one figure: so many operations a second.
    pub fn rate(name: impl Into<String>, operations: u64, seconds: f64, bytes: u64) -> Self {
        let seconds = seconds.max(1e-9);
        let each_ms = seconds * 1000.0 / operations.max(1) as f64;
        Self {
            name: name.into(),
            operations,
            failed: 0,
            error: None,
            per_second: operations as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
            p50_ms: each_ms,
            p99_ms: each_ms,
            p999_ms: each_ms,
            cpu_ms_per_operation: None,
            memory_bytes: None,
            written_per_byte: None,
            bytes_each: None,
            limit_per_second: None,
        }
    }

    /// With what the store used meanwhile, while `stored_bytes` of content were stored.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage, stored_bytes: u64) -> Self {
        if self.operations > 0 {
            self.cpu_ms_per_operation = Some(usage.cpu_seconds * 1000.0 / self.operations as f64);
        }
        self.memory_bytes = Some(usage.memory_bytes);
        if stored_bytes > 0 {
            self.written_per_byte = Some(usage.written_bytes as f64 / stored_bytes as f64);
        }
        self
    }

    /// With the bytes that one operation costs.
    #[must_use]
    pub fn with_bytes_each(mut self, bytes: f64) -> Self {
        self.bytes_each = Some(bytes);
        self
    }

    /// With the limit that it is measured against.
    #[must_use]
    pub fn with_limit(mut self, per_second: Option<f64>) -> Self {
        self.limit_per_second = per_second.filter(|limit| *limit > 0.0);
        self
    }

    /// How near to its limit it is; 1 is there.
    pub fn share(&self) -> Option<f64> {
        self.limit_per_second.map(|limit| self.per_second / limit)
    }

    /// The row with the median rate. Of an even number, the slower of the two in the middle.
    pub fn median(mut rows: Vec<Self>) -> Option<Self> {
        rows.sort_by(|left, right| left.per_second.total_cmp(&right.per_second));
        let middle = rows.len().checked_sub(1)? / 2;
        rows.into_iter().nth(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let rows = |rates: &[u64]| {
            let row = |rate: &u64| Row::rate(rate.to_string(), *rate, 1.0, 0);
            Row::median(rates.iter().map(row).collect())
        };
        assert_eq!(rows(&[30, 10, 20]).unwrap().name, "20");
        assert_eq!(rows(&[40, 10, 30, 20]).unwrap().name, "20");
        assert_eq!(rows(&[]), None);
    }

    #[test]
    fn a_share_is_the_rate_over_the_limit() {
        let row = Row::rate("x", 50, 1.0, 0);
        assert_eq!(row.clone().with_limit(Some(200.0)).share(), Some(0.25));
        assert_eq!(row.with_limit(Some(0.0)).share(), None);
    }
}
