//! [`describe`]: the one word about the cluster, and the reason for it. Pure.

use crate::cluster::Census;

/// How the cluster is doing, worst first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// `running`, `degraded` or `safe mode`.
    pub word: &'static str,
    /// Why it is not running; empty when it is.
    pub reason: String,
}

/// Judges from the nodes, the number of files with too few replicas, and what safe mode waits for.
pub fn describe(
    census: &Census,
    under_replicated: u64,
    safe_mode_reason: Option<String>,
) -> ClusterStatus {
    if let Some(reason) = safe_mode_reason {
        return ClusterStatus {
            word: "safe mode",
            reason,
        };
    }
    let mut reasons = Vec::new();
    if census.members == 0 {
        reasons.push("no datanode has registered".to_owned());
    }
    for (count, state) in [(census.dead, "dead"), (census.stale, "stale")] {
        if count > 0 {
            reasons.push(counted(u64::from(count), &format!("{state} datanode")));
        }
    }
    if under_replicated > 0 {
        reasons.push(format!(
            "{} with fewer replicas than wanted",
            counted(under_replicated, "file")
        ));
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
        capacity_bytes: 0,
        available_bytes: 0,
    };

    fn words(census: &Census, under_replicated: u64) -> (&'static str, String) {
        let status = describe(census, under_replicated, None);
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
            ..HEALTHY
        };
        let reason = "2 dead datanodes; 1 stale datanode; 5 files with fewer replicas than wanted";
        assert_eq!(words(&hurt, 5), ("degraded", reason.to_owned()));
        let empty = Census::default();
        let reason = "no datanode has registered".to_owned();
        assert_eq!(words(&empty, 0), ("degraded", reason));
    }

    #[test]
    fn safe_mode_is_said_first() {
        let status = describe(&HEALTHY, 9, Some("waiting".into()));
        assert_eq!((status.word, &*status.reason), ("safe mode", "waiting"));
    }
}
