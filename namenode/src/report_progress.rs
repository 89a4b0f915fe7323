//! [`ReportProgress`]: whether what the namenode believes of one datanode has been checked against the datanode. Pure.
//!
//! A full report is a comparison; its differences come back as journal events. The belief is fresh once the events up to
//! the end of the comparison have been applied.

use richardstore_proto::Sequence;

/// Agreeing reports cost one small message, so they are repeated to notice what no event told. Milliseconds.
const REPEAT_AFTER_MS: u64 = 3_600_000;

/// Soft state: a restart of the namenode or of the datanode starts anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportProgress {
    ended_ms: Option<u64>,
    fresh_from: Option<Sequence>,
    fresh: bool,
    cut_short: bool,
    heard_ms: Option<u64>,
}

impl ReportProgress {
    /// A comparison begins.
    pub fn begin(&mut self) {
        self.cut_short = false;
    }

    /// An answer did not have room for all differences: the comparison has to be repeated.
    pub fn cut_short(&mut self) {
        self.cut_short = true;
    }

    /// The comparison ended when the journal stood at `sequence`, with `applied` being the next one wanted here. `true`
    /// when the belief is fresh by this.
    pub fn end(&mut self, sequence: Sequence, applied: Sequence, now_ms: u64) -> bool {
        self.heard_ms = Some(now_ms);
        if self.cut_short {
            return false;
        }
        self.ended_ms = Some(now_ms);
        self.fresh_from = Some(sequence);
        self.settle(applied)
    }

    /// Events before `next` have been applied. `true` when the belief is fresh by this.
    pub fn applied(&mut self, next: Sequence, now_ms: u64) -> bool {
        self.heard_ms = Some(now_ms);
        self.settle(next)
    }

    /// What is believed may be wrong: a return from the dead, a replica that is not where it should be, or one that came to
    /// be believed without the datanode's word. A comparison under way may have passed that place, so that it does not
    /// count.
    pub fn doubt(&mut self) {
        *self = Self {
            heard_ms: self.heard_ms,
            cut_short: true,
            ..Self::default()
        };
    }

    /// The datanode is to start a full report.
    pub fn wanted(&self, now_ms: u64) -> bool {
        self.ended_ms
            .is_none_or(|ended_ms| now_ms.saturating_sub(ended_ms) >= REPEAT_AFTER_MS)
    }

    /// What is believed of this node was checked since it came.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// When the last report of any kind came.
    pub fn heard_ms(&self) -> Option<u64> {
        self.heard_ms
    }

    fn settle(&mut self, applied: Sequence) -> bool {
        if self.fresh_from.is_none_or(|from| applied < from) {
            return false;
        }
        self.fresh_from = None;
        !std::mem::replace(&mut self.fresh, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_fresh_only_when_its_events_are_applied() {
        let mut report = ReportProgress::default();
        assert!(report.wanted(0));
        report.begin();
        report.end(Sequence(10), Sequence(7), 5);
        assert!(!report.wanted(5) && !report.is_fresh());
        report.applied(Sequence(9), 6);
        assert!(!report.is_fresh());
        report.applied(Sequence(10), 7);
        assert!(report.is_fresh());
        assert_eq!(report.heard_ms(), Some(7));
    }

    #[test]
    fn a_report_that_was_cut_short_is_wanted_again() {
        let mut report = ReportProgress::default();
        report.begin();
        report.cut_short();
        report.end(Sequence(1), Sequence(1), 5);
        assert!(report.wanted(5) && !report.is_fresh());
        report.begin();
        report.end(Sequence(1), Sequence(1), 6);
        assert!(!report.wanted(6) && report.is_fresh());
    }

    #[test]
    fn a_doubt_during_a_comparison_makes_another_one_necessary() {
        let mut report = ReportProgress::default();
        report.begin();
        report.doubt();
        report.end(Sequence(1), Sequence(1), 5);
        assert!(report.wanted(5) && !report.is_fresh());
        report.begin();
        report.end(Sequence(1), Sequence(1), 6);
        assert!(!report.wanted(6) && report.is_fresh());
    }

    #[test]
    fn trust_is_lost_at_once_and_reports_are_repeated_now_and_then() {
        let mut report = ReportProgress::default();
        report.end(Sequence(1), Sequence(1), 0);
        assert!(!report.wanted(REPEAT_AFTER_MS - 1));
        assert!(report.wanted(REPEAT_AFTER_MS) && report.is_fresh());
        report.doubt();
        assert!(report.wanted(1) && !report.is_fresh());
    }
}
