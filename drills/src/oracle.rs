//! [`Oracle`]: remembers what the store promised, and says afterwards whether it kept it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Content;

/// What may be true of a file after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Acknowledged: it must be there.
    Present,
    /// A delete was acknowledged: it must be gone.
    Absent,
    /// A request was cut before its answer: whole or absent.
    Either,
}

/// Promises by hash.
#[derive(Debug, Default)]
pub struct Oracle {
    files: BTreeMap<String, (Content, Promise)>,
    /// How often each promise was made or taken back.
    changes: BTreeMap<String, u64>,
    /// What was counted as broken already: a file that is looked at twice is lost once.
    broken: BTreeSet<(String, Broken)>,
    tally: Tally,
}

/// What was promised of a file at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    promise: Option<Promise>,
    changes: u64,
}

/// How a promise can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Broken {
    Lost,
    Wrong,
    Resurrected,
}

/// The figures of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Uploads that were answered with their hash.
    pub acknowledged: u64,
    /// Deletes that were answered.
    pub deleted: u64,
    /// Requests that were cut.
    pub cut: u64,
    /// Acknowledged files that were not readable.
    pub lost: u64,
    /// Files that read back as other bytes.
    pub wrong: u64,
    /// Deleted files that came back.
    pub resurrected: u64,
}

impl Oracle {
    /// An upload is about to start: from now on the file may be there.
    pub fn upload_started(&mut self, hash: &str, content: Content) {
        self.files
            .insert(hash.to_owned(), (content, Promise::Either));
        self.changed(hash);
    }

    /// The upload was answered with its hash.
    pub fn upload_acknowledged(&mut self, hash: &str) {
        self.tally.acknowledged += 1;
        self.promise(hash, Promise::Present);
    }

    /// A delete is about to start.
    pub fn delete_started(&mut self, hash: &str) {
        self.promise(hash, Promise::Either);
    }

    /// The delete was answered.
    pub fn delete_acknowledged(&mut self, hash: &str) {
        self.tally.deleted += 1;
        self.promise(hash, Promise::Absent);
    }

    /// A request ended without an answer.
    pub fn request_cut(&mut self) {
        self.tally.cut += 1;
    }

    /// Everything that was ever touched.
    pub fn touched(&self) -> Vec<(String, Content)> {
        self.files
            .iter()
            .map(|(hash, (content, _))| (hash.clone(), *content))
            .collect()
    }

    /// The files that must be there.
    pub fn present(&self) -> BTreeSet<String> {
        let present = |(hash, (_, promise)): (&String, &(Content, Promise))| {
            (*promise == Promise::Present).then(|| hash.clone())
        };
        self.files.iter().filter_map(present).collect()
    }

    /// What the store answered for a file: `None` is "not there", otherwise whether the bytes were right.
    /// What was seen is binding from then on: a file that was there once after a cut must stay.
    pub fn observed(&mut self, hash: &str, found: Option<bool>) {
        let Some((_, promise)) = self.files.get(hash) else {
            return;
        };
        match (found, *promise) {
            (None, Promise::Present) => self.broke(hash, Broken::Lost),
            (Some(true), Promise::Absent) => self.broke(hash, Broken::Resurrected),
            (Some(false), _) => self.broke(hash, Broken::Wrong),
            (None, Promise::Absent) | (Some(true), Promise::Present) => {}
            (None, Promise::Either) => self.promise(hash, Promise::Absent),
            (Some(true), Promise::Either) => self.promise(hash, Promise::Present),
        }
    }

    /// What is promised now.
    pub fn standing(&self, hash: &str) -> Standing {
        Standing {
            promise: self.files.get(hash).map(|(_, promise)| *promise),
            changes: self.changes.get(hash).copied().unwrap_or(0),
        }
    }

    /// What the store answered to a reader that asked when the promise stood as it did `then`. Where it has changed since, or where
    /// there was none, either answer is right, and neither binds: the reader may have asked before or after.
    pub fn observed_since(&mut self, hash: &str, then: Standing, found: Option<bool>) {
        let is_promised = matches!(then.promise, Some(Promise::Present | Promise::Absent));
        if found == Some(false) || is_promised && then == self.standing(hash) {
            self.observed(hash, found);
        }
    }

    fn broke(&mut self, hash: &str, how: Broken) {
        if self.broken.insert((hash.to_owned(), how)) {
            match how {
                Broken::Lost => self.tally.lost += 1,
                Broken::Wrong => self.tally.wrong += 1,
                Broken::Resurrected => self.tally.resurrected += 1,
            }
        }
    }

    /// The figures so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn promise(&mut self, hash: &str, promise: Promise) {
        if let Some((_, held)) = self.files.get_mut(hash) {
            *held = promise;
            self.changed(hash);
        }
    }

    fn changed(&mut self, hash: &str) {
        *self.changes.entry(hash.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_counted_as_what_it_is() {
        let mut oracle = Oracle::default();
        for hash in ["lost", "back", "cut", "wrong"] {
            oracle.upload_started(hash, Content::new(1, 1));
        }
        oracle.upload_acknowledged("lost");
        oracle.observed("lost", None);
        oracle.observed("lost", None);
        oracle.delete_acknowledged("back");
        oracle.observed("back", Some(true));
        oracle.observed("cut", None);
        oracle.observed("wrong", Some(false));
        let tally = oracle.tally();
        assert_eq!((tally.lost, tally.resurrected, tally.wrong), (1, 1, 1));
    }

    #[test]
    fn a_reader_beside_others_is_held_to_what_was_promised_all_the_time() {
        let mut oracle = Oracle::default();
        oracle.upload_started("file", Content::new(1, 1));
        oracle.upload_acknowledged("file");
        let there = oracle.standing("file");
        oracle.delete_started("file");
        oracle.observed_since("file", there, None);
        let going = oracle.standing("file");
        oracle.observed_since("file", going, Some(true));
        oracle.delete_acknowledged("file");
        oracle.observed_since("file", going, Some(true));
        assert_eq!(oracle.tally().resurrected + oracle.tally().lost, 0);
        let gone = oracle.standing("file");
        oracle.observed_since("file", gone, Some(true));
        assert_eq!(oracle.tally().resurrected, 1);
    }
}
