//! [`Turn`]: where a list that is looked through by turns goes on. Pure.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

/// How far the entries of an ordered list have had their turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<T> {
    after: Option<T>,
}

impl<T> Default for Turn<T> {
    fn default() -> Self {
        Self { after: None }
    }
}

impl<T: Copy + Ord> Turn<T> {
    /// The next `limit` entries, all of them behind `floor`. At the end it begins again with the next call.
    pub fn next(&mut self, list: &BTreeSet<T>, floor: Option<T>, limit: usize) -> Vec<T> {
        let start = self.after.max(floor).map_or(Unbounded, Excluded);
        let next = list.range((start, Unbounded)).take(limit);
        let next: Vec<T> = next.copied().collect();
        self.after = next.last().copied();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_their_turn_and_then_again_and_none_of_those_up_to_the_floor() {
        let list = BTreeSet::from([1, 2, 3, 4, 5]);
        let mut turn = Turn::default();
        let mut next = |floor, limit| turn.next(&list, floor, limit);
        assert_eq!(next(None, 2), [1, 2]);
        assert_eq!(next(Some(1), 2), [3, 4]);
        assert_eq!(next(Some(1), 2), [5]);
        assert!(next(Some(1), 2).is_empty());
        assert_eq!(next(Some(1), 2), [2, 3]);
        assert_eq!(next(Some(4), 2), [5]);
    }
}
