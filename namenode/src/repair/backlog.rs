//! [`Backlog`]: files that are short and wait for their turn, and how far the lists have been looked through for more of them.
//! Pure, and bounded (I11): what is forgotten for want of room is looked for again as soon as there is some.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::ContentHash;

use super::case::{Limits, RepairNode};
use super::survey::Sweeps;

/// Those with the most replicas are forgotten first.
const MAX_WAITING: usize = 32_768;
/// Files that are looked at in a round because they waited, at most.
const MAX_TURNS: usize = 4_096;
/// And when all nodes have enough to do: some of them may not need anything any more.
const MIN_TURNS: usize = 64;

/// What is still to be done, as far as it is known.
#[derive(Debug, Default)]
pub struct Backlog {
    /// How far the lists have been looked through.
    pub sweeps: Sweeps,
    waiting: BTreeSet<(usize, ContentHash)>,
    /// The good replicas of those that wait.
    replicas: BTreeMap<ContentHash, usize>,
}

impl Backlog {
    /// Files that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Those whose turn it may be, with the fewest good replicas first: twice as many as the nodes could begin to copy, since
    /// a copy takes two nodes. More would be read and planned in each round only to see that it is not yet their turn.
    pub fn turns<'a>(
        &self,
        nodes: impl Iterator<Item = &'a RepairNode>,
        limits: Limits,
    ) -> impl Iterator<Item = ContentHash> {
        let free: usize = nodes.map(|node| node.free_streams(limits)).sum();
        self.first(free.clamp(MIN_TURNS, MAX_TURNS))
    }

    fn first(&self, limit: usize) -> impl Iterator<Item = ContentHash> {
        self.waiting.iter().take(limit).map(|(_, hash)| *hash)
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
    pub fn put(&mut self, files: impl IntoIterator<Item = (usize, ContentHash)>) {
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

    fn take(backlog: &mut Backlog, count: usize) {
        let taken: Vec<ContentHash> = files(2, count).map(|file| file.1).collect();
        backlog.take(&taken);
    }

    #[test]
    fn no_more_files_have_their_turn_than_nodes_could_begin_with() {
        let mut backlog = Backlog::default();
        backlog.put(files(2, 9_000));
        let turns = |streams: &[usize]| {
            let nodes = streams
                .iter()
                .map(|&streams| RepairNode { streams, ..live(1) });
            let nodes: Vec<RepairNode> = nodes.collect();
            backlog.turns(nodes.iter(), ROUND_LIMITS).count()
        };
        assert_eq!(turns(&[668, 768, 568]), 300);
        assert_eq!(turns(&[768; 3]), MIN_TURNS);
        assert_eq!(turns(&[0; 9]), MAX_TURNS);
    }

    #[test]
    fn a_file_waits_once_with_the_replicas_it_was_last_seen_with() {
        let mut backlog = Backlog::default();
        let (one, other) = (ContentHash::new([1; 32]), ContentHash::new([2; 32]));
        backlog.put([(2, one), (2, other)]);
        backlog.put([(1, other)]);
        assert_eq!(backlog.first(9).collect::<Vec<_>>(), [other, one]);
        backlog.take([&other]);
        assert_eq!(backlog.first(9).collect::<Vec<_>>(), [one]);
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn i11_what_does_not_fit_is_forgotten_from_those_with_the_most_replicas() {
        let mut backlog = Backlog::default();
        backlog.put(files(2, MAX_WAITING));
        backlog.put(files(1, 9));
        assert_eq!(backlog.len(), MAX_WAITING);
        let expected: Vec<_> = files(1, 9).chain(files(2, 1)).map(|file| file.1).collect();
        assert_eq!(backlog.first(10).collect::<Vec<_>>(), expected);
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
