//! [`Sweep`]: how far a list of files has been looked through. Pure.

/// A walk over a list in pages, over and over, with a pause between two walks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep<C> {
    after: Option<C>,
    began_ms: u64,
    rests_until_ms: u64,
}

/// The shortest pause, in milliseconds.
const SHORTEST_PAUSE_MS: u64 = 1_000;
/// The pause is so many times as long as the walk: what is found nowhere but here is found again soon where the list is
/// short, and a long list, such as that of a node that is gone for good, does not keep the namenode busy for ever.
const PAUSE_FACTOR: u64 = 9;

impl<C> Default for Sweep<C> {
    fn default() -> Self {
        Self {
            after: None,
            began_ms: 0,
            rests_until_ms: 0,
        }
    }
}

impl<C: Copy> Sweep<C> {
    /// Where to go on, or `None` while it rests. `Some(None)` is the beginning.
    #[allow(clippy::option_option)] // "rests" and "from the beginning" are different answers
    pub fn position(&mut self, now_ms: u64) -> Option<Option<C>> {
        if now_ms < self.rests_until_ms {
            return None;
        }
        if self.after.is_none() {
            self.began_ms = now_ms;
        }
        Some(self.after)
    }

    /// A page was read up to `last`; `full` where there may be more behind it.
    pub fn advance(&mut self, last: Option<C>, full: bool, now_ms: u64) {
        if full && last.is_some() {
            self.after = last;
            return;
        }
        self.after = None;
        let took_ms = now_ms.saturating_sub(self.began_ms);
        let pause_ms = took_ms.saturating_mul(PAUSE_FACTOR).max(SHORTEST_PAUSE_MS);
        self.rests_until_ms = now_ms.saturating_add(pause_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_goes_to_the_end_rests_in_proportion_and_begins_again() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.position(100), Some(None));
        sweep.advance(Some(7), true, 200);
        assert_eq!(sweep.position(1_000), Some(Some(7)));
        sweep.advance(Some(9), false, 1_100);
        assert_eq!(sweep.position(10_099), None);
        assert_eq!(sweep.position(10_100), Some(None));
        sweep.advance(None, true, 10_100);
        assert_eq!(sweep.position(11_099), None);
        assert_eq!(sweep.position(11_100), Some(None));
    }
}
