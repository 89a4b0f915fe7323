//! [`History`]: figures of the last hour, one sample every few seconds. Pure: times and totals come from outside.

use std::collections::VecDeque;

use serde::Serialize;

/// Between two samples, in milliseconds.
pub(crate) const INTERVAL_MS: u64 = 5_000;
/// One hour of them; the oldest goes when a new one comes (I11).
const MAX_SAMPLES: usize = 720;

/// What waits to be done in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Files that have too few replicas, are being copied, or wait for it.
    pub(crate) files_to_repair: u64,
    /// Commands that datanodes have not confirmed.
    pub(crate) commands_pending: u64,
}

/// Bytes this gateway has moved since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    /// From clients.
    pub(crate) received_bytes: u64,
    /// To clients.
    pub(crate) sent_bytes: u64,
}

/// The samples.
#[derive(Debug, Default)]
pub(crate) struct History {
    before: Option<(u64, Moved)>,
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    received_bytes_per_second: u64,
    sent_bytes_per_second: u64,
    backlog: Option<Backlog>,
}

/// The samples by column, oldest first, as JSON shows them. `null`: the namenode did not answer.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HistoryJson {
    interval_ms: u64,
    at_ms: Vec<u64>,
    received_bytes_per_second: Vec<u64>,
    sent_bytes_per_second: Vec<u64>,
    files_to_repair: Vec<Option<u64>>,
    commands_pending: Vec<Option<u64>>,
}

impl History {
    /// Takes a sample at `now_ms`, milliseconds since the Unix epoch. The first call only learns where the totals begin.
    pub(crate) fn take(&mut self, now_ms: u64, moved: Moved, backlog: Option<Backlog>) {
        let before = self.before.replace((now_ms, moved));
        let Some((then_ms, then)) = before else {
            return;
        };
        // A wall clock that was set back has no rate to tell.
        let elapsed_ms = now_ms.saturating_sub(then_ms);
        if elapsed_ms == 0 {
            return;
        }
        let rate =
            |now: u64, then: u64| now.saturating_sub(then).saturating_mul(1_000) / elapsed_ms;
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at_ms: now_ms,
            received_bytes_per_second: rate(moved.received_bytes, then.received_bytes),
            sent_bytes_per_second: rate(moved.sent_bytes, then.sent_bytes),
            backlog,
        });
    }

    /// All of them.
    pub(crate) fn to_json(&self) -> HistoryJson {
        let mut json = HistoryJson {
            interval_ms: INTERVAL_MS,
            ..HistoryJson::default()
        };
        for sample in &self.samples {
            json.at_ms.push(sample.at_ms);
            json.received_bytes_per_second
                .push(sample.received_bytes_per_second);
            json.sent_bytes_per_second
                .push(sample.sent_bytes_per_second);
            json.files_to_repair
                .push(sample.backlog.map(|backlog| backlog.files_to_repair));
            json.commands_pending
                .push(sample.backlog.map(|backlog| backlog.commands_pending));
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(bytes: u64) -> Moved {
        Moved {
            received_bytes: bytes,
            sent_bytes: 2 * bytes,
        }
    }

    #[test]
    fn rates_are_those_between_two_samples_and_silence_is_a_gap() {
        let mut history = History::default();
        history.take(1_000, moved(500), None);
        assert!(history.to_json().at_ms.is_empty());
        let backlog = Backlog {
            files_to_repair: 3,
            commands_pending: 4,
        };
        history.take(3_000, moved(1_500), Some(backlog));
        history.take(4_000, moved(1_500), None);
        // Neither a clock that stands still nor one that was set back.
        history.take(4_000, moved(9_000), None);
        history.take(2_000, moved(9_000), None);
        let json = history.to_json();
        assert_eq!(json.at_ms, [3_000, 4_000]);
        assert_eq!(json.received_bytes_per_second, [500, 0]);
        assert_eq!(json.sent_bytes_per_second, [1_000, 0]);
        assert_eq!(json.files_to_repair, [Some(3), None]);
    }

    #[test]
    fn i11_one_hour_is_kept() {
        let mut history = History::default();
        for number in 0..2_000 {
            history.take(number * INTERVAL_MS, moved(number), None);
        }
        let json = history.to_json();
        assert_eq!(json.at_ms.len(), MAX_SAMPLES);
        assert_eq!(json.at_ms.last(), Some(&(1_999 * INTERVAL_MS)));
    }
}
