//! [`Backoff`]: how long to wait before the next attempt. Pure: the jitter comes from a seed, not from a clock.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// Waits that double from 100 ms to 5 s. The seed spreads datanodes that lost the namenode together over half a wait, so
/// that they do not come back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    seed: u64,
    attempts: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, attempts: 0 }
    }

    /// Something worked: the next failure starts from the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Something failed: how long to wait now.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LAST);
        let spread = scramble(self.seed.wrapping_add(u64::from(self.attempts))) % 500;
        self.attempts = self.attempts.saturating_add(1);
        // Between one half and the whole of the doubled wait, in thousandths.
        let thousandths = 500 + u32::try_from(spread).unwrap_or(0);
        doubled * thousandths / 1000
    }
}

/// The finalizer of SplitMix64: neighbouring inputs give unrelated outputs.
fn scramble(input: u64) -> u64 {
    let mut mixed = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again_after_success() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits[39] <= LAST && waits[39] >= LAST / 2);
        backoff.reset();
        assert_eq!(backoff.next_wait(), waits[0]);
    }

    #[test]
    fn different_seeds_wait_differently() {
        assert_ne!(
            Backoff::new(1).next_wait(),
            Backoff::new(2).next_wait(),
            "two nodes that failed together come back apart"
        );
    }
}
