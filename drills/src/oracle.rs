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
    /// What was counted as broken already: a file that is looked at twice is lost once.
    broken: BTreeSet<(String, Broken)>,
    tally: Tally,
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
        let Some((_, promise)) = self.files.get_mut(hash) else {
            return;
        };
        match (found, *promise) {
            (None, Promise::Present) => self.broke(hash, Broken::Lost),
            (Some(true), Promise::Absent) => self.broke(hash, Broken::Resurrected),
            (Some(false), _) => self.broke(hash, Broken::Wrong),
            (None, Promise::Absent) | (Some(true), Promise::Present) => {}
            (None, Promise::Either) => *promise = Promise::Absent,
            (Some(true), Promise::Either) => *promise = Promise::Present,
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
        }
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
}
