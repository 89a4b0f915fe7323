//! [`Turns`]: which of the mutations that wait go into the next transaction.
//!
//! An upload waits for the transaction under way and for its own, so neither may be long. What the background sends comes in pieces
//! of hundreds of records, and beside a repair several of those wait at any time. A transaction takes all that is short, and of
//! the pieces one, or as many as have the records of one. Each takes some, so a stream of uploads holds up no piece for good; and
//! where nothing short comes, there is no one to wait, and more of them go together.

use std::collections::VecDeque;

use crate::mutation::Mutation;

/// Up to so many records are short.
const SHORT: usize = 16;
/// Records of all pieces in one transaction, if it is not a single piece.
const PIECES: usize = 256;
/// The same where nothing short waits, nor did the last time.
const QUIET_PIECES: usize = 1024;

/// What waits, in the order in which it came.
pub(super) struct Turns<T> {
    short: VecDeque<T>,
    pieces: VecDeque<(usize, T)>,
    /// The last transaction had something short.
    was_busy: bool,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            short: VecDeque::new(),
            pieces: VecDeque::new(),
            was_busy: false,
        }
    }
}

impl<T> Turns<T> {
    /// Something waits that has to do with so many records.
    pub(super) fn push(&mut self, records: usize, waiting: T) {
        match records {
            0..=SHORT => self.short.push_back(waiting),
            _ => self.pieces.push_back((records, waiting)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.short.len() + self.pieces.len()
    }

    /// What goes together now, at most `limit`; nothing where nothing waits.
    pub(super) fn next(&mut self, limit: usize) -> Vec<T> {
        let is_busy = !self.short.is_empty();
        let most = match is_busy || self.was_busy {
            true => PIECES,
            false => QUIET_PIECES,
        };
        self.was_busy = is_busy;
        // One place is a piece's.
        let for_short = limit.saturating_sub(usize::from(!self.pieces.is_empty()));
        let count = for_short.min(self.short.len());
        let mut next: Vec<T> = self.short.drain(..count).collect();
        let mut records = 0;
        while let Some((more, _)) = self.pieces.front()
            && (records == 0 || records + more <= most)
            && next.len() < limit
        {
            records += more;
            next.extend(self.pieces.pop_front().map(|(_, piece)| piece));
        }
        next
    }

    /// All that waits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        let pieces = self.pieces.drain(..).map(|(_, piece)| piece);
        self.short.drain(..).chain(pieces)
    }
}

/// Records that `mutation` has to do with, about.
pub(super) fn records(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::RenewWrites { generations, .. } | Mutation::AbandonWrites { generations, .. } => {
            generations.len()
        }
        Mutation::ApplyReport { events, .. } => events.len(),
        Mutation::ConfirmCommands { outcomes, .. } => outcomes.len(),
        Mutation::RecallDeletes { deletes, .. } => deletes.len(),
        Mutation::IssueCommands { commands, .. } => commands.len(),
        Mutation::RemoveNode { limit, .. } | Mutation::ExpireWrites { limit, .. } => *limit,
        Mutation::StartEpoch { .. }
        | Mutation::AllocateWrites { .. }
        | Mutation::CommitFile { .. }
        | Mutation::DeleteFile { .. }
        | Mutation::RegisterNode { .. }
        | Mutation::UpdateNode { .. }
        | Mutation::SetNodeAdmin { .. }
        | Mutation::SetMaintenance { .. }
        | Mutation::Recover { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(waiting: &[(usize, char)]) -> Turns<char> {
        let mut turns = Turns::default();
        for (records, name) in waiting {
            turns.push(*records, *name);
        }
        turns
    }

    fn all(mut turns: Turns<char>, limit: usize) -> Vec<String> {
        let next = std::iter::from_fn(|| Some(turns.next(limit)).filter(|next| !next.is_empty()));
        next.map(|next| next.iter().collect()).collect()
    }

    #[test]
    fn what_is_short_goes_at_once_with_one_piece() {
        let waiting = [(256, 'A'), (1, 'u'), (256, 'B'), (300, 'C'), (16, 'v')];
        assert_eq!(all(turns(&waiting), 100), ["uvA", "B", "C"]);
    }

    #[test]
    fn pieces_that_have_the_records_of_one_go_together_in_their_order() {
        let waiting = [(100, 'A'), (100, 'B'), (100, 'C'), (17, 'D'), (1, 'u')];
        assert_eq!(all(turns(&waiting), 100), ["uAB", "CD"]);
    }

    #[test]
    fn more_pieces_go_together_when_nothing_short_came_twice() {
        let waiting = "ABCDEFG".chars().map(|name| (256, name));
        let mut waiting: Vec<_> = waiting.collect();
        assert_eq!(all(turns(&waiting), 100), ["ABCD", "EFG"]);
        waiting.push((1, 'u'));
        assert_eq!(all(turns(&waiting), 100), ["uA", "B", "CDEF", "G"]);
    }

    #[test]
    fn a_stream_of_short_ones_holds_up_no_piece() {
        let waiting = [(1, 'u'), (1, 'v'), (500, 'A'), (1, 'w'), (500, 'B')];
        assert_eq!(all(turns(&waiting), 2), ["uA", "vB", "w"]);
    }

    #[test]
    fn all_that_waits_is_drained_and_nothing_is_left() {
        let mut turns = turns(&[(256, 'A'), (1, 'u'), (256, 'B')]);
        assert_eq!(turns.len(), 3);
        assert_eq!(turns.drain().collect::<String>(), "uAB");
        assert_eq!(turns.len(), 0);
    }
}
