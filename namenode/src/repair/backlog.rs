//! [`Backlog`]: files that are short and wait for their turn, and how far the lists have been looked through for more of them.
//! Pure, and bounded (I11): what is forgotten for want of room is looked for again as soon as there is some.

use std::collections::BTreeSet;

use richardstore_proto::ContentHash;

use super::survey::Sweeps;

/// Those with the most replicas are forgotten first.
const MAX_WAITING: usize = 32_768;

/// What is still to be done, as far as it is known.
#[derive(Debug, Default)]
pub struct Backlog {
    /// How far the lists have been looked through.
    pub sweeps: Sweeps,
    waiting: BTreeSet<(usize, ContentHash)>,
}

impl Backlog {
    /// Files that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// At most `limit` of them, those with the fewest good replicas first.
    pub fn first(&self, limit: usize) -> impl Iterator<Item = ContentHash> {
        self.waiting.iter().take(limit).map(|(_, hash)| *hash)
    }

    /// Whether what a round finds fits in, as a rule.
    pub fn has_room(&self) -> bool {
        self.waiting.len() <= MAX_WAITING / 2
    }

    /// These files have their turn now.
    pub fn take(&mut self, hashes: &BTreeSet<ContentHash>) {
        self.waiting.retain(|(_, hash)| !hashes.contains(hash));
    }

    /// Files that have to wait, each with its good replicas.
    pub fn put(&mut self, files: impl IntoIterator<Item = (usize, ContentHash)>) {
        self.waiting.extend(files);
        if self.waiting.len() > MAX_WAITING {
            self.sweeps.miss();
        }
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
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
        backlog.take(&files(2, MAX_WAITING).map(|file| file.1).collect());
        assert!(!walked(&mut backlog, 1), "it rests: nothing was forgotten");
        backlog.put(files(2, MAX_WAITING + 1));
        assert!(!walked(&mut backlog, 2), "there is no room");
        let half = files(2, MAX_WAITING / 2);
        backlog.take(&half.map(|file| file.1).collect());
        assert!(walked(&mut backlog, 3));
    }
}
