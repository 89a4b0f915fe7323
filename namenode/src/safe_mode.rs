//! [`SafeMode`]: after a restart nothing is deleted or copied until the cluster is known again (I7). Pure.
//!
//! It ends when every node known at the start has registered again, or when the dead timeout has passed and enough of
//! them have. A cluster without nodes has nothing to wait for. Once over it stays over: nodes that die later are
//! repaired, not waited for, unless the operator asks for it; who asks for it also has to end it. Reads and uploads do not wait for it.

/// Of the nodes known at the start, the share that must be back when the dead timeout has passed, in percent. With fewer,
/// an outage of the network or the power is more likely than the loss of so many disks.
const THRESHOLD_PERCENT: u64 = 50;

/// Whether commands are withheld, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeMode {
    waiting: Option<Waiting>,
    asked_for: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    until_ms: u64,
    back: u64,
    known: u64,
}

impl SafeMode {
    /// At a start with `known` nodes in the database; `until_ms` is when those that are not back by then count as dead.
    pub fn at_start(known: u64, until_ms: u64) -> Self {
        Self {
            waiting: (known > 0).then_some(Waiting {
                until_ms,
                back: 0,
                known,
            }),
            asked_for: false,
        }
    }

    /// The operator wants nothing to be copied or deleted.
    pub fn enter(&mut self) {
        self.asked_for = true;
    }

    /// The operator wants no more waiting.
    pub fn leave(&mut self) {
        self.waiting = None;
        self.asked_for = false;
    }

    /// Takes in that `back` of the `known` nodes have registered. `true` when safe mode ended by this.
    pub fn observe(&mut self, back: u64, known: u64, now_ms: u64) -> bool {
        let Some(waiting) = &mut self.waiting else {
            return false;
        };
        waiting.back = back;
        waiting.known = known;
        let all = back >= known;
        let enough = back.saturating_mul(100) >= known.saturating_mul(THRESHOLD_PERCENT);
        let over = all || (now_ms >= waiting.until_ms && enough);
        if over {
            self.waiting = None;
        }
        over && !self.asked_for
    }

    /// The namenode was held up for `gap_ms`: nobody could come back in that time.
    pub fn prolong(&mut self, gap_ms: u64) {
        if let Some(waiting) = &mut self.waiting {
            waiting.until_ms = waiting.until_ms.saturating_add(gap_ms);
        }
    }

    /// Commands are withheld.
    pub fn is_on(&self) -> bool {
        self.asked_for || self.waiting.is_some()
    }

    /// What it waits for, in words; `None` when it is over.
    pub fn reason(&self, now_ms: u64) -> Option<String> {
        if self.asked_for {
            return Some("an operator asked for it".to_owned());
        }
        let waiting = self.waiting.as_ref()?;
        let left_ms = waiting.until_ms.saturating_sub(now_ms);
        let (back, known) = (waiting.back, waiting.known);
        Some(if left_ms > 0 {
            format!(
                "{back} of {known} known datanodes are back; waiting {} s more for the others",
                left_ms.div_ceil(1000)
            )
        } else {
            format!("{back} of {known} known datanodes are back; {THRESHOLD_PERCENT} % are needed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i07_a_new_cluster_has_no_safe_mode() {
        let safe_mode = SafeMode::at_start(0, 30_000);
        assert!(!safe_mode.is_on());
        assert_eq!(safe_mode.reason(0), None);
    }

    #[test]
    fn i07_safe_mode_ends_at_once_when_all_are_back() {
        let mut safe_mode = SafeMode::at_start(3, 30_000);
        assert!(!safe_mode.observe(2, 3, 1_000));
        assert!(safe_mode.is_on());
        assert!(safe_mode.observe(3, 3, 1_001));
        assert!(!safe_mode.is_on());
    }

    #[test]
    fn i07_after_the_dead_timeout_half_of_the_nodes_are_enough() {
        let mut safe_mode = SafeMode::at_start(3, 30_000);
        assert!(!safe_mode.observe(2, 3, 29_999));
        assert!(safe_mode.observe(2, 3, 30_000));
    }

    #[test]
    fn i07_with_most_nodes_away_it_stays_and_says_why() {
        let mut safe_mode = SafeMode::at_start(3, 30_000);
        assert!(!safe_mode.observe(1, 3, 90_000));
        assert_eq!(
            safe_mode.reason(90_000).as_deref(),
            Some("1 of 3 known datanodes are back; 50 % are needed")
        );
        assert_eq!(
            safe_mode.reason(28_500).as_deref(),
            Some("1 of 3 known datanodes are back; waiting 2 s more for the others")
        );
    }

    #[test]
    fn an_operator_ends_it_early_and_what_he_entered_only_he_ends() {
        let mut safe_mode = SafeMode::at_start(3, 30_000);
        safe_mode.leave();
        assert!(!safe_mode.is_on());
        let mut safe_mode = SafeMode::at_start(1, 30_000);
        safe_mode.enter();
        assert!(!safe_mode.observe(1, 1, 5));
        assert!(safe_mode.is_on());
        let reason = safe_mode.reason(5);
        assert_eq!(reason.as_deref(), Some("an operator asked for it"));
        safe_mode.leave();
        assert_eq!((safe_mode.is_on(), safe_mode.reason(5)), (false, None));
    }

    #[test]
    fn i07_once_over_it_does_not_come_back() {
        let mut safe_mode = SafeMode::at_start(1, 30_000);
        assert!(safe_mode.observe(1, 1, 5));
        assert!(!safe_mode.observe(0, 1, 90_000));
        assert!(!safe_mode.is_on());
    }
}
