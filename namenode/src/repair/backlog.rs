//! [`Backlog`]: files that are short and wait for their turn, and how far the lists have been looked through for more of them.
//! Pure, and bounded (I11): what is forgotten for want of room is looked for again as soon as there is some.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::ContentHash;

use super::case::{Limits, RepairNode};
use super::survey::Sweeps;
use super::turn::Turn;

/// Those with the most replicas are forgotten first.
const MAX_WAITING: usize = 32_768;
/// Of the first ones and of the others, how many are looked at in a round at most.
const MAX_TURNS: usize = 2_048;
/// At least so many, even when all nodes have enough to do: some of them may not need anything any more.
const MIN_TURNS: usize = 32;

/// What is still to be done, as far as it is known.
#[derive(Debug, Default)]
pub struct Backlog {
    /// How far the lists have been looked through.
    pub sweeps: Sweeps,
    waiting: BTreeSet<Waiting>,
    /// The good replicas of those that wait.
    replicas: BTreeMap<ContentHash, usize>,
    /// How far those that are not the first have had their turn.
    others: Turn<Waiting>,
}

/// A file with its good replicas.
type Waiting = (usize, ContentHash);

impl Backlog {
    /// Files that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out those whose turn it may be. A copy takes two nodes, so half as many as the nodes have free streams could
    /// begin, and at most `room`. As many of those with the fewest good replicas are looked at, and as many of the others by
    /// turns, so that files that only a busy node can send or take do not keep back those behind them: each has its turn
    /// within 1,024 rounds. More would be read and planned in each round only to see that it is not yet their turn.
    pub fn turns<'a>(
        &mut self,
        nodes: impl Iterator<Item = &'a RepairNode>,
        room: usize,
        limits: Limits,
    ) -> Vec<ContentHash> {
        let free: usize = nodes.map(|node| node.free_streams(limits)).sum();
        let count = (free / 2).min(room).clamp(MIN_TURNS, MAX_TURNS);
        let mut turns: Vec<Waiting> = self.waiting.iter().take(count).copied().collect();
        let first_through = turns.last().copied();
        turns.extend(self.others.next(&self.waiting, first_through, count));
        let turns: Vec<ContentHash> = turns.into_iter().map(|(_, hash)| hash).collect();
        self.take(&turns);
        turns
    }

    /// Whether what a round finds fits in, as a rule.
    pub fn has_room(&self) -> bool {
        self.waiting.len() <= MAX_WAITING / 2
    }

    /// These files have their turn now.
    pub fn take<'a>(&mut self, hashes: impl IntoIterator<Item = &'a ContentHash>) {
        for hash in hashes {
            if let Some(replicas) = self.replicas.remove(hash) {
                self.waiting.remove(&(replicas, *hash));
            }
        }
    }

    /// Files that have to wait, each with its good replicas.
    pub fn put(&mut self, files: impl IntoIterator<Item = Waiting>) {
        for (replicas, hash) in files {
            if let Some(before) = self.replicas.insert(hash, replicas) {
                self.waiting.remove(&(before, hash));
            }
            self.waiting.insert((replicas, hash));
        }
        if self.waiting.len() > MAX_WAITING {
            self.sweeps.miss();
        }
        while self.waiting.len() > MAX_WAITING {
            if let Some((_, hash)) = self.waiting.pop_last() {
                self.replicas.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::live;
    use super::super::round::ROUND_LIMITS;
    use super::*;
    use crate::record::NodeIndex;
    use crate::suspects::Suspects;

    fn files(replicas: usize, count: usize) -> impl Iterator<Item = (usize, ContentHash)> {
        (0..count).map(move |number| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes[31] = u8::try_from(replicas).unwrap();
            (replicas, ContentHash::new(bytes))
        })
    }

    fn first(backlog: &Backlog, count: usize) -> Vec<ContentHash> {
        let first = backlog.waiting.iter().take(count);
        first.map(|(_, hash)| *hash).collect()
    }

    fn take(backlog: &mut Backlog, count: usize) {
        let taken: Vec<ContentHash> = files(2, count).map(|file| file.1).collect();
        backlog.take(&taken);
    }

    #[test]
    fn no_more_files_have_their_turn_than_nodes_could_begin_with() {
        let turns = |room: usize, streams: &[usize]| {
            let mut backlog = Backlog::default();
            backlog.put(files(2, 9_000));
            let nodes = streams
                .iter()
                .map(|&streams| RepairNode { streams, ..live(1) });
            let nodes: Vec<RepairNode> = nodes.collect();
            let turns = backlog.turns(nodes.iter(), room, ROUND_LIMITS);
            assert_eq!(backlog.len(), 9_000 - turns.len());
            turns.len()
        };
        assert_eq!(turns(4_096, &[668, 768, 568]), 2 * 150);
        assert_eq!(turns(99, &[668, 768, 568]), 2 * 99);
        assert_eq!(turns(0, &[0; 16]), 2 * MIN_TURNS);
        assert_eq!(turns(4_096, &[768; 3]), 2 * MIN_TURNS);
        assert_eq!(turns(9_999, &[0; 16]), 2 * MAX_TURNS);
    }

    #[test]
    fn a_node_has_no_turn_for_files_that_its_bytes_leave_no_room_for() {
        let free = |streams: usize, size: u64| {
            let node = RepairNode {
                streams,
                stream_bytes: u64::try_from(streams).unwrap() * size,
                ..live(1)
            };
            node.free_streams(ROUND_LIMITS)
        };
        assert_eq!(free(0, 0), 768);
        assert_eq!(free(768, 1), 0);
        assert_eq!(free(3, 64 << 20), 1);
        assert_eq!(free(4, 64 << 20), 0);
        assert_eq!(free(2, 100 << 20), 0);
        assert_eq!(free(700, 4 << 10), 68);
    }

    #[test]
    fn i06_files_that_wait_for_a_busy_node_do_not_keep_back_those_behind_them() {
        let mut backlog = Backlog::default();
        backlog.put(files(2, 1_000));
        let mut seen = BTreeSet::new();
        for _ in 0..1_000 / MIN_TURNS {
            let begins_with = first(&backlog, MIN_TURNS);
            let turns = backlog.turns([].iter(), 0, ROUND_LIMITS);
            assert_eq!(turns[..MIN_TURNS], begins_with);
            seen.extend(turns.iter().copied());
            // None of them can be copied now.
            backlog.put(turns.into_iter().map(|hash| (2, hash)));
        }
        assert_eq!(seen.len(), 1_000);
        assert_eq!(backlog.len(), 1_000);
        // After the end it begins again, and those that come meanwhile have their turn at once if they have fewer replicas.
        backlog.put(files(1, MIN_TURNS));
        let fewer: Vec<ContentHash> = files(1, MIN_TURNS).map(|file| file.1).collect();
        seen.clear();
        for _ in 0..2 * 1_000 / MIN_TURNS {
            let turns = backlog.turns([].iter(), 0, ROUND_LIMITS);
            assert_eq!(turns[..MIN_TURNS], fewer);
            seen.extend(turns.iter().copied());
            let replicas = |hash: &ContentHash| if fewer.contains(hash) { 1 } else { 2 };
            backlog.put(turns.into_iter().map(|hash| (replicas(&hash), hash)));
        }
        assert_eq!(seen.len(), 1_000 + MIN_TURNS);
    }

    #[test]
    fn a_file_waits_once_with_the_replicas_it_was_last_seen_with() {
        let mut backlog = Backlog::default();
        let (one, other) = (ContentHash::new([1; 32]), ContentHash::new([2; 32]));
        backlog.put([(2, one), (2, other)]);
        backlog.put([(1, other)]);
        assert_eq!(first(&backlog, 9), [other, one]);
        backlog.take([&other]);
        assert_eq!(first(&backlog, 9), [one]);
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn i11_what_does_not_fit_is_forgotten_from_those_with_the_most_replicas() {
        let mut backlog = Backlog::default();
        backlog.put(files(2, MAX_WAITING));
        backlog.put(files(1, 9));
        assert_eq!(backlog.len(), MAX_WAITING);
        let expected: Vec<_> = files(1, 9).chain(files(2, 1)).map(|file| file.1).collect();
        assert_eq!(first(&backlog, 10), expected);
    }

    #[test]
    fn i06_what_was_forgotten_is_looked_for_as_soon_as_there_is_room() {
        let mut suspects = Suspects::default();
        let (suspect, node) = (ContentHash::new([1; 32]), NodeIndex(1));
        suspects.add(suspect, node);
        let mut backlog = Backlog::default();
        let walked = |backlog: &mut Backlog, now_ms| {
            let room = backlog.has_room();
            backlog.sweeps.suspects(&suspects, room, now_ms) == [suspect]
        };
        assert!(walked(&mut backlog, 0));
        assert!(!walked(&mut backlog, 0), "the end of the list");
        backlog.put(files(2, MAX_WAITING));
        take(&mut backlog, MAX_WAITING);
        assert!(!walked(&mut backlog, 1), "it rests: nothing was forgotten");
        backlog.put(files(2, MAX_WAITING + 1));
        assert!(!walked(&mut backlog, 2), "there is no room");
        take(&mut backlog, MAX_WAITING / 2);
        assert!(walked(&mut backlog, 3));
    }
}
