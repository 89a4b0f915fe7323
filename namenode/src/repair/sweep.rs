//! [`Sweep`]: how far a list of files has been looked through. Pure.
//!
//! More files may be found than there is room for in the backlog. A first walk goes on all the same, so that those with the
//! fewest replicas are found wherever they are in the list, and the others are forgotten. Where some were, the pause after it
//! is cut short whenever there is room, so that those are found before what waits runs out. Without that they were found after
//! the pause, which for a node with 100,000 files were 90 seconds in which nothing was copied. When the pause is over the walk
//! goes on without room, too: a trim or a quarantine needs none.

/// A walk over a list in pages, over and over, with a pause between two walks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep<C> {
    after: Option<C>,
    pages: u64,
    /// Files that this walk may have found were forgotten.
    missed: bool,
    /// The walk before missed some: where there is room this one need not wait for the end of the pause.
    looks_again: bool,
    rests_until_ms: u64,
}

/// The shortest pause, in milliseconds.
const SHORTEST_PAUSE_MS: u64 = 1_000;
/// The pause for each page but the first, nine times the period of the rounds: what is found nowhere but here is found again
/// soon where the list is short, and a long list, such as that of a node that is gone for good, does not keep the namenode
/// busy for ever.
const PAUSE_PER_PAGE_MS: u64 = 1_800;

impl<C> Default for Sweep<C> {
    fn default() -> Self {
        Self {
            after: None,
            pages: 0,
            missed: false,
            looks_again: false,
            rests_until_ms: 0,
        }
    }
}

impl<C: Copy> Sweep<C> {
    /// Where to go on, or `None` while it rests; `room`: more files can wait. `Some(None)` is the beginning.
    #[allow(clippy::option_option)] // "rests" and "from the beginning" are different answers
    pub fn position(&self, room: bool, now_ms: u64) -> Option<Option<C>> {
        let goes_on = now_ms >= self.rests_until_ms || (room && self.looks_again);
        goes_on.then_some(self.after)
    }

    /// A page was read up to `last`; `full` where there may be more behind it.
    pub fn advance(&mut self, last: Option<C>, full: bool, now_ms: u64) {
        self.pages = self.pages.saturating_add(1);
        if full && last.is_some() {
            self.after = last;
            return;
        }
        let pause_ms = (self.pages - 1)
            .saturating_mul(PAUSE_PER_PAGE_MS)
            .max(SHORTEST_PAUSE_MS);
        *self = Self {
            looks_again: self.missed,
            rests_until_ms: now_ms.saturating_add(pause_ms),
            ..Self::default()
        };
    }

    /// Files were forgotten that may be of this list.
    pub fn miss(&mut self) {
        match self.after {
            // Of the walk that ended: the next one has not begun.
            None => self.looks_again = true,
            Some(_) => self.missed = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_goes_to_the_end_rests_in_proportion_and_begins_again() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.position(false, 100), Some(None));
        sweep.advance(Some(7), true, 100);
        assert_eq!(sweep.position(false, 300), Some(Some(7)));
        sweep.advance(Some(9), true, 300);
        sweep.advance(Some(11), false, 500);
        assert_eq!(sweep.position(true, 4_099), None);
        assert_eq!(sweep.position(true, 4_100), Some(None));
        sweep.advance(None, true, 4_100);
        assert_eq!(sweep.position(true, 5_099), None);
        assert_eq!(sweep.position(true, 5_100), Some(None));
    }

    #[test]
    fn i06_what_a_walk_missed_is_looked_for_while_there_is_room_and_after_the_pause_without() {
        let mut sweep = Sweep::default();
        sweep.advance(Some(7), true, 100);
        sweep.miss();
        assert_eq!(sweep.position(false, 300), Some(Some(7)), "to the end");
        sweep.advance(Some(9), false, 300);
        assert_eq!(sweep.position(false, 301), None);
        assert_eq!(sweep.position(true, 301), Some(None));
        sweep.advance(Some(7), true, 301);
        assert_eq!(sweep.position(false, 2_099), None);
        assert_eq!(sweep.position(false, 2_100), Some(Some(7)));
        sweep.advance(Some(9), false, 2_100);
        assert_eq!(sweep.position(true, 3_899), None, "nothing was missed");
    }

    #[test]
    fn what_the_last_page_missed_is_looked_for_too() {
        let mut sweep = Sweep::<u8>::default();
        sweep.advance(Some(9), false, 100);
        sweep.miss();
        assert_eq!(sweep.position(false, 101), None);
        assert_eq!(sweep.position(true, 101), Some(None));
    }
}
