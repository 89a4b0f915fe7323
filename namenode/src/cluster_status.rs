//! [`describe`]: the one word about the cluster, and the reason for it. Pure.

use crate::cluster::Census;
use crate::repair::Progress;

/// How the cluster is doing, worst first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// `running`, `degraded` or `safe mode`.
    pub word: &'static str,
    /// Why it is not running; empty when it is.
    pub reason: String,
}

impl ClusterStatus {
    /// One more reason why it is not running as it should.
    pub fn degrade(&mut self, reason: &str) {
        if self.word == "running" {
            self.word = "degraded";
        }
        if !self.reason.is_empty() {
            self.reason.push_str("; ");
        }
        self.reason.push_str(reason);
    }
}

/// Why nothing is copied, where it is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// What safe mode waits for.
    pub safe_mode: Option<String>,
    /// Why repair rests.
    pub repair: Option<String>,
}

/// Judges from the nodes, the number of files with too few replicas on record, how far repair is, and what is waited for.
/// Files that only lie in the wrong rack are no reason: they are all there, and are moved when nothing else is to be done.
pub fn describe(
    census: &Census,
    under_replicated: u64,
    repair: Progress,
    waits: Waits,
) -> ClusterStatus {
    if let Some(reason) = waits.safe_mode {
        return ClusterStatus {
            word: "safe mode",
            reason,
        };
    }
    let mut reasons: Vec<String> = waits.repair.into_iter().collect();
    if census.members == 0 {
        reasons.push("no datanode has registered".to_owned());
    }
    for (count, state) in [(census.dead, "dead"), (census.stale, "stale")] {
        if count > 0 {
            reasons.push(counted(u64::from(count), &format!("{state} datanode")));
        }
    }
    if census.failed > 0 {
        let count = counted(u64::from(census.failed), "datanode");
        reasons.push(format!("{count} with a failed volume"));
    }
    if under_replicated > 0 {
        reasons.push(format!(
            "{} with fewer replicas than wanted",
            counted(under_replicated, "file")
        ));
    }
    // Of the files of a dead node this is all that is known: nobody counts them.
    for (count, what) in [
        (repair.copying, "being copied"),
        (repair.waiting, "waiting to be copied"),
    ] {
        if count > 0 {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            reasons.push(format!("{} {what}", counted(count, "file")));
        }
    }
    ClusterStatus {
        word: if reasons.is_empty() {
            "running"
        } else {
            "degraded"
        },
        reason: reasons.join("; "),
    }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: Census = Census {
        members: 3,
        back: 3,
        live: 3,
        stale: 0,
        dead: 0,
        failed: 0,
        in_maintenance: 0,
        capacity_bytes: 0,
        available_bytes: 0,
    };

    fn words(census: &Census, under_replicated: u64) -> (&'static str, String) {
        let status = describe(
            census,
            under_replicated,
            Progress::default(),
            Waits::default(),
        );
        (status.word, status.reason)
    }

    #[test]
    fn running_means_that_nothing_is_wrong() {
        assert_eq!(words(&HEALTHY, 0), ("running", String::new()));
    }

    #[test]
    fn every_fault_is_named() {
        let hurt = Census {
            live: 0,
            stale: 1,
            dead: 2,
            failed: 1,
            ..HEALTHY
        };
        let reason = "2 dead datanodes; 1 stale datanode; 1 datanode with a failed volume; 5 files with fewer replicas than wanted";
        assert_eq!(words(&hurt, 5), ("degraded", reason.to_owned()));
        let empty = Census::default();
        let reason = "no datanode has registered".to_owned();
        assert_eq!(words(&empty, 0), ("degraded", reason));
    }

    #[test]
    fn repair_is_seen_to_go_on() {
        let progress = Progress {
            copying: 1,
            waiting: 20,
            ..Progress::default()
        };
        let status = describe(&HEALTHY, 0, progress, Waits::default());
        let reason = "1 file being copied; 20 files waiting to be copied";
        assert_eq!((status.word, &*status.reason), ("degraded", reason));
    }

    #[test]
    fn that_repair_rests_is_said_before_what_it_would_repair() {
        let hurt = Census { dead: 3, ..HEALTHY };
        let waits = Waits {
            repair: Some("repair rests".to_owned()),
            ..Waits::default()
        };
        let status = describe(&hurt, 0, Progress::default(), waits);
        let reason = "repair rests; 3 dead datanodes";
        assert_eq!((status.word, &*status.reason), ("degraded", reason));
    }

    #[test]
    fn safe_mode_is_said_first() {
        let waits = Waits {
            safe_mode: Some("waiting".into()),
            repair: Some("rests".into()),
        };
        let status = describe(&HEALTHY, 9, Progress::default(), waits);
        assert_eq!((status.word, &*status.reason), ("safe mode", "waiting"));
    }
}
