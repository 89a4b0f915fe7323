//! [`Pace`]: whether a sender is fast enough, by the time this side spent waiting for it. Pure.
//!
//! Only waiting counts. While the store itself is busy with the bytes it has, the clock stands still, so a slow disk never
//! makes an honest sender look slow.

use std::time::Duration;

/// What is asked of a sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PaceLimits {
    /// Longest wait for a next byte.
    pub(crate) progress: Duration,
    /// Waiting time over which the rate is judged.
    pub(crate) window: Duration,
    /// Least rate over a window; 0 asks for none.
    pub(crate) min_bytes_per_second: u64,
}

/// The sender was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Account of one sender.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: PaceLimits,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Nothing waited, nothing received.
    pub(crate) fn new(limits: PaceLimits) -> Self {
        Self {
            limits,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// How long the next bytes may take. Not hearing anything for so long is [`TooSlow`].
    pub(crate) fn patience(&self) -> Duration {
        if self.window_is_paid() {
            self.limits.progress
        } else {
            let left = self.limits.window.saturating_sub(self.waited);
            self.limits.progress.min(left)
        }
    }

    /// Accounts for `bytes` that came after `waited`.
    pub(crate) fn received(&mut self, bytes: u64, waited: Duration) -> Result<(), TooSlow> {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < self.limits.window {
            return Ok(());
        }
        let paid = self.window_is_paid();
        self.waited = Duration::ZERO;
        self.bytes = 0;
        if paid { Ok(()) } else { Err(TooSlow) }
    }

    fn window_is_paid(&self) -> bool {
        let wanted = u128::from(self.limits.min_bytes_per_second) * self.limits.window.as_millis();
        u128::from(self.bytes) * 1000 >= wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    const LIMITS: PaceLimits = PaceLimits {
        progress: Duration::from_secs(5),
        window: Duration::from_secs(10),
        min_bytes_per_second: 100,
    };

    #[test]
    fn a_sender_above_the_rate_goes_on_for_ever() {
        let mut pace = Pace::new(LIMITS);
        for _ in 0..1000 {
            assert_eq!(pace.patience(), LIMITS.progress);
            assert_eq!(pace.received(400, Duration::from_secs(4)), Ok(()));
            assert_eq!(pace.received(400, Duration::from_secs(4)), Ok(()));
            assert_eq!(pace.received(400, Duration::from_secs(4)), Ok(()));
        }
    }

    #[test]
    fn a_trickle_is_cut_at_the_end_of_the_window() {
        let mut pace = Pace::new(LIMITS);
        for _ in 0..9 {
            assert_eq!(pace.received(1, Duration::from_secs(1)), Ok(()));
        }
        assert_eq!(pace.patience(), Duration::from_secs(1));
        assert_eq!(pace.received(1, Duration::from_secs(1)), Err(TooSlow));
    }

    #[test]
    fn a_burst_does_not_pay_for_the_next_window() {
        let mut pace = Pace::new(LIMITS);
        assert_eq!(pace.received(1_000_000, Duration::from_secs(10)), Ok(()));
        assert_eq!(pace.received(1, Duration::from_secs(10)), Err(TooSlow));
    }

    #[test]
    fn without_a_rate_only_silence_counts() {
        let mut pace = Pace::new(PaceLimits {
            min_bytes_per_second: 0,
            ..LIMITS
        });
        for _ in 0..100 {
            assert_eq!(pace.patience(), LIMITS.progress);
            assert_eq!(pace.received(1, Duration::from_secs(4)), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn bytes_that_never_were_waited_for_are_never_too_slow(sizes in prop::collection::vec(0u64..1000, 0..100)) {
            let mut pace = Pace::new(LIMITS);
            for size in sizes {
                assert_eq!(pace.received(size, Duration::ZERO), Ok(()));
            }
        }

        #[test]
        fn patience_never_exceeds_the_progress_limit(steps in prop::collection::vec((0u64..5000, 0u64..20_000), 0..50)) {
            let mut pace = Pace::new(LIMITS);
            for (bytes, waited_ms) in steps {
                assert!(pace.patience() <= LIMITS.progress);
                let _ = pace.received(bytes, Duration::from_millis(waited_ms));
            }
        }
    }
}
