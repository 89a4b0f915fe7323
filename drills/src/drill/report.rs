//! [`DrillReport`]: what a drill found, for people and for machines.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::probes::Unavailable;
use crate::Tally;

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every promise was kept and the cluster is healthy.
    Passed,
    /// A promise was broken, or the cluster did not recover.
    Failed,
    /// It cannot be held here; nothing was done.
    Skipped,
    /// Somebody broke it off. The cluster was put right.
    Interrupted,
}

/// The figures of one drill. Seconds are measured from outside.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// Its name.
    pub drill: &'static str,
    /// What the cluster runs on.
    pub on: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not pass; empty where it did.
    pub reason: String,
    /// Uploads that were answered with their hash.
    pub acknowledged: u64,
    /// Deletes that were answered.
    pub deleted: u64,
    /// Acknowledged files that could not be read.
    pub lost: u64,
    /// Files that read as other bytes.
    pub wrong: u64,
    /// Deleted files that came back.
    pub resurrected: u64,
    /// Time in which a read through some gateway failed.
    pub unavailable_read_seconds: f64,
    /// Time in which a write through some gateway failed.
    pub unavailable_write_seconds: f64,
    /// From the fault until every gateway said `running` and every canary had all its replicas.
    pub recovery_seconds: Option<f64>,
    /// All of it, with making and removing the canaries.
    pub seconds: f64,
}

impl DrillReport {
    /// A drill that did not begin.
    pub fn new(drill: &'static str, on: &'static str, outcome: Outcome, reason: String) -> Self {
        Self {
            drill,
            on,
            outcome,
            reason,
            acknowledged: 0,
            deleted: 0,
            lost: 0,
            wrong: 0,
            resurrected: 0,
            unavailable_read_seconds: 0.0,
            unavailable_write_seconds: 0.0,
            recovery_seconds: None,
            seconds: 0.0,
        }
    }

    /// Adds what was counted. A broken promise fails the drill, whatever else was thought of it.
    pub fn count(&mut self, tally: Tally, unavailable: Unavailable) {
        self.acknowledged = tally.acknowledged;
        self.deleted = tally.deleted;
        self.lost = tally.lost;
        self.wrong = tally.wrong;
        self.resurrected = tally.resurrected;
        self.unavailable_read_seconds = seconds(unavailable.reads);
        self.unavailable_write_seconds = seconds(unavailable.writes);
        if tally.lost + tally.wrong + tally.resurrected > 0 {
            self.fail("a promise was broken".to_owned());
        }
    }

    /// It failed, and this is a reason.
    pub fn fail(&mut self, reason: String) {
        self.outcome = Outcome::Failed;
        if !self.reason.is_empty() {
            self.reason += "; ";
        }
        self.reason += &reason;
    }

    /// Whether nothing went wrong.
    pub fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Passed | Outcome::Skipped)
    }
}

/// In milliseconds, as a number of seconds.
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        })
    }
}

/// Reports as a table.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [DrillReport]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<26}{:<12}{:>12}{:>6}{:>7}{:>13}{:>10}{:>11}{:>10}",
            "drill",
            "outcome",
            "acknowledged",
            "lost",
            "wrong",
            "resurrected",
            "no read s",
            "no write s",
            "recovery s"
        )?;
        for report in self.0 {
            let recovery = report
                .recovery_seconds
                .map_or_else(|| "-".to_owned(), |time| format!("{time:.1}"));
            write!(
                formatter,
                "{:<26}{:<12}{:>12}{:>6}{:>7}{:>13}{:>10.1}{:>11.1}{:>10}",
                report.drill,
                report.outcome.to_string(),
                report.acknowledged,
                report.lost,
                report.wrong,
                report.resurrected,
                report.unavailable_read_seconds,
                report.unavailable_write_seconds,
                recovery,
            )?;
            match report.reason.as_str() {
                "" => writeln!(formatter)?,
                reason => writeln!(formatter, "\n  {reason}")?,
            }
        }
        let sum = |figure: fn(&DrillReport) -> u64| self.0.iter().map(figure).sum::<u64>();
        write!(
            formatter,
            "acknowledged {}, lost {}, wrong {}, resurrected {}",
            sum(|report| report.acknowledged),
            sum(|report| report.lost),
            sum(|report| report.wrong),
            sum(|report| report.resurrected),
        )
    }
}
