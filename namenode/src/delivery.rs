//! [`Delivery`]: which commands one datanode has in its hands. Pure, and only soft state: the commands themselves are
//! durable, and one that is forgotten here is handed out once more (I10).

use std::collections::BTreeMap;

use richardstore_proto::CommandId;

/// Commands in the answer to one heartbeat.
pub const MAX_PER_HEARTBEAT: usize = 256;
/// Due commands to look at for one answer: those that fill it, and one that tells that there are more.
pub const LOOK_AHEAD: usize = MAX_PER_HEARTBEAT + 1;
/// Commands a node has in its hands at once.
const MAX_OUTSTANDING: usize = 1024;
/// A command without an outcome is handed out again after this, in milliseconds.
const REDELIVER_AFTER_MS: u64 = 30_000;
/// The wait before a failed command is tried again: doubled with each attempt up to the limit. Milliseconds.
const RETRY_MIN_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HandedOut {
    at_ms: u64,
    attempts: u32,
}

impl HandedOut {
    fn is_overdue(self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) >= REDELIVER_AFTER_MS
    }
}

/// The commands that were handed out and have no outcome yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    outstanding: BTreeMap<CommandId, HandedOut>,
}

/// What goes into one heartbeat's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In the order of their ids.
    pub commands: Vec<CommandId>,
    /// There are more that the node could have at once.
    pub more: bool,
}

impl Delivery {
    /// What the node has in its hands and should not get again yet, ascending. Of the other due commands
    /// [`Delivery::hand_out`] needs to see the oldest [`LOOK_AHEAD`].
    pub fn in_hands(&self, now_ms: u64) -> Vec<CommandId> {
        self.outstanding
            .iter()
            .filter(|(_, handed)| !handed.is_overdue(now_ms))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Picks from `due`, (id, attempts so far), what the node does not have in its hands.
    pub fn hand_out(&mut self, due: &[(CommandId, u32)], now_ms: u64) -> Batch {
        self.outstanding
            .retain(|_, handed| !handed.is_overdue(now_ms));
        let room = MAX_OUTSTANDING
            .saturating_sub(self.outstanding.len())
            .min(MAX_PER_HEARTBEAT);
        let mut fresh = due
            .iter()
            .filter(|(id, _)| !self.outstanding.contains_key(id))
            .copied();
        let picked: Vec<(CommandId, u32)> = fresh.by_ref().take(room).collect();
        let more = fresh.next().is_some();
        for &(id, attempts) in &picked {
            let at_ms = now_ms;
            self.outstanding.insert(id, HandedOut { at_ms, attempts });
        }
        Batch {
            commands: picked.into_iter().map(|(id, _)| id).collect(),
            more,
        }
    }

    /// How often a command failed before it was handed out; 0 when it is not known to be out.
    pub fn attempts(&self, id: CommandId) -> u32 {
        self.outstanding
            .get(&id)
            .map_or(0, |handed| handed.attempts)
    }

    /// Whether the node has the command in its hands.
    pub fn is_out(&self, id: CommandId) -> bool {
        self.outstanding.contains_key(&id)
    }

    /// Its outcome has been taken in.
    pub fn settle(&mut self, id: CommandId) {
        self.outstanding.remove(&id);
    }
}

/// When to try a command again that failed now after `attempts` earlier failures, in the unit of `now_ms`.
pub fn retry_at_ms(now_ms: u64, attempts: u32) -> u64 {
    let wait_ms = RETRY_MIN_MS
        .checked_shl(attempts.min(32))
        .unwrap_or(RETRY_MAX_MS)
        .min(RETRY_MAX_MS);
    now_ms.saturating_add(wait_ms)
}

/// Whether a command is to be tried again. A time further ahead than any retry was written by an earlier start, whose clock
/// was wrong.
pub fn is_due(not_before_ms: u64, now_ms: u64) -> bool {
    not_before_ms <= now_ms || not_before_ms > now_ms.saturating_add(RETRY_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(ids: std::ops::Range<u64>) -> Vec<(CommandId, u32)> {
        ids.map(|id| (CommandId(id), 0)).collect()
    }

    #[test]
    fn i10_a_command_is_not_handed_out_twice_before_its_timeout_and_is_after_it() {
        let mut delivery = Delivery::default();
        assert_eq!(delivery.hand_out(&due(1..3), 0).commands.len(), 2);
        assert_eq!(delivery.hand_out(&due(1..4), 1).commands, [CommandId(3)]);
        let (one, two, three) = (CommandId(1), CommandId(2), CommandId(3));
        assert_eq!(delivery.in_hands(REDELIVER_AFTER_MS - 1), [one, two, three]);
        assert_eq!(delivery.in_hands(REDELIVER_AFTER_MS), [three]);
        let late = delivery.hand_out(&due(1..4), REDELIVER_AFTER_MS);
        assert_eq!(late.commands, [one, two]);
    }

    #[test]
    fn i11_answers_and_outstanding_commands_are_bounded() {
        let mut delivery = Delivery::default();
        let mut delivered = 0;
        for _ in 0..10 {
            let in_hands = delivery.in_hands(0);
            let mut seen = due(0..5_000);
            seen.retain(|(id, _)| in_hands.binary_search(id).is_err());
            let batch = delivery.hand_out(&seen[..LOOK_AHEAD], 0);
            assert!(batch.more);
            delivered += batch.commands.len();
        }
        assert_eq!(delivered, MAX_OUTSTANDING);
    }

    #[test]
    fn a_retry_that_was_set_by_a_clock_ahead_is_not_waited_for() {
        for attempts in [0, 3, 40] {
            let at_ms = retry_at_ms(1_000_000, attempts);
            assert!(!is_due(at_ms, 1_000_000) && !is_due(at_ms, at_ms - 1));
            assert!(is_due(at_ms, at_ms) && is_due(at_ms, u64::MAX));
            let three_days_ms = 3 * 24 * 3_600_000;
            assert!(is_due(at_ms + three_days_ms, 1_000_000));
        }
    }

    #[test]
    fn retries_wait_longer_each_time_up_to_a_limit() {
        let waits: Vec<u64> = [0, 1, 2, 8, 9, 40, u32::MAX]
            .map(|attempts| retry_at_ms(1_000_000, attempts) - 1_000_000)
            .into();
        assert_eq!(
            waits,
            [1_000, 2_000, 4_000, 256_000, 300_000, 300_000, 300_000]
        );
        let mut delivery = Delivery::default();
        delivery.hand_out(&[(CommandId(1), 4)], 0);
        assert_eq!(delivery.attempts(CommandId(1)), 4);
        delivery.settle(CommandId(1));
        assert_eq!(delivery.attempts(CommandId(1)), 0);
    }
}
