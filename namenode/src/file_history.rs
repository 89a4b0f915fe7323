//! [`FileHistory`]: what happened to files lately. Pure and bounded (I11): of each file the last deeds, of so many files to which
//! something happened last. What lasts is in the records; this is what they do not say, for `admin why`. What is new in it is
//! handed out to be kept over a restart ([`crate::history_log`]).

use std::collections::{BTreeMap, VecDeque};

use richardstore_proto::{ContentHash, Generation};
use serde::{Deserialize, Serialize};

use crate::record::{CommandRecordAction, NodeIndex};

/// Files that are remembered.
const MAX_FILES: usize = 8_192;
/// Deeds of one file.
const MAX_DEEDS: usize = 24;
/// Bytes of somebody's reason.
const MAX_REASON_BYTES: usize = 160;
/// Deeds that wait to be kept.
const MAX_UNSAVED: usize = 16_384;

/// Something that happened to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// A write of it was committed; `created`: there was no such file.
    Committed {
        /// Which write.
        generation: Generation,
        /// There was no such file.
        created: bool,
    },
    /// It was deleted.
    Deleted,
    /// Somebody met wrong bytes.
    ReportedBad {
        /// Whose.
        node: NodeIndex,
        /// In the words of who met them.
        reason: String,
    },
    /// A datanode is to do something about it.
    Ordered {
        /// Who.
        node: NodeIndex,
        /// What.
        work: Work,
    },
    /// It did.
    Done {
        /// Who.
        node: NodeIndex,
        /// What.
        work: Work,
    },
    /// It could not.
    Failed {
        /// Who.
        node: NodeIndex,
        /// What.
        work: Work,
        /// In its words.
        reason: String,
    },
    /// It was not waited for any longer.
    GivenUp {
        /// Who.
        node: NodeIndex,
        /// What.
        work: Work,
    },
}

/// What a datanode is to do about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Copy it to these.
    Copy(Vec<NodeIndex>),
    /// Remove a replica that is one too many.
    Trim,
    /// Look at a replica again, and put it aside if it is bad.
    Quarantine,
    /// Remove its replica, because the file was deleted.
    Delete,
}

impl From<&CommandRecordAction> for Work {
    fn from(action: &CommandRecordAction) -> Self {
        match action {
            CommandRecordAction::Replicate { targets, .. } => Self::Copy(targets.clone()),
            CommandRecordAction::Trim { .. } => Self::Trim,
            CommandRecordAction::Quarantine { .. } => Self::Quarantine,
            CommandRecordAction::Delete { .. } => Self::Delete,
        }
    }
}

/// A deed and when it was, milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at_ms: u64,
    /// What.
    pub deed: Deed,
}

/// What is remembered of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Nothing that happened after this is missing, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// `since_ms` is the start of the namenode: nothing was forgotten for want of room.
    pub is_whole: bool,
}

/// The history.
#[derive(Debug, Clone, Default)]
pub struct FileHistory {
    started_ms: u64,
    files: BTreeMap<ContentHash, Kept>,
    /// By when something happened to them last; the first is forgotten first.
    order: BTreeMap<u64, ContentHash>,
    next: u64,
    /// The newest deed of any file that was forgotten.
    forgotten_ms: u64,
    unsaved: Vec<(ContentHash, Entry)>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    place: u64,
    entries: VecDeque<Entry>,
    /// The newest deed that was dropped.
    dropped_ms: u64,
}

impl FileHistory {
    /// Empty, at a start at `wall_ms`.
    pub fn at_start(wall_ms: u64) -> Self {
        Self {
            started_ms: wall_ms,
            ..Self::default()
        }
    }

    /// Event: this was done to a file at `at_ms`.
    pub fn note(&mut self, hash: ContentHash, mut deed: Deed, at_ms: u64) {
        if let Deed::Failed { reason, .. } | Deed::ReportedBad { reason, .. } = &mut deed {
            reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
            reason.shrink_to_fit();
        }
        let entry = Entry { at_ms, deed };
        if self.unsaved.len() < MAX_UNSAVED {
            self.unsaved.push((hash, entry.clone()));
        }
        self.remember(hash, entry);
    }

    /// What was kept of earlier starts, at a start at `wall_ms`.
    pub fn kept(wall_ms: u64, deeds: Vec<(ContentHash, Entry)>) -> Self {
        let mut history = Self::at_start(wall_ms);
        for (hash, entry) in deeds {
            history.remember(hash, entry);
        }
        history
    }

    /// What happened here came after all that is in `before`, which begins this start.
    pub fn follow(&mut self, before: Self) {
        let since = std::mem::replace(self, before);
        for (hash, entry) in &since.unsaved {
            self.remember(*hash, entry.clone());
        }
        self.unsaved = since.unsaved;
    }

    /// What happened since this was asked last, to be kept.
    pub fn take_unsaved(&mut self) -> Vec<(ContentHash, Entry)> {
        std::mem::take(&mut self.unsaved)
    }

    fn remember(&mut self, hash: ContentHash, entry: Entry) {
        let kept = self.files.entry(hash).or_default();
        self.order.remove(&kept.place);
        self.next += 1;
        kept.place = self.next;
        self.order.insert(self.next, hash);
        if kept.entries.len() == MAX_DEEDS
            && let Some(oldest) = kept.entries.pop_front()
        {
            kept.dropped_ms = oldest.at_ms;
        }
        kept.entries.push_back(entry);
        if self.files.len() > MAX_FILES {
            self.forget();
        }
    }

    /// Event: a write was committed. What the record says of a file that nothing else happened to is not said twice, and so
    /// uploads push nothing out.
    pub fn committed(
        &mut self,
        hash: ContentHash,
        generation: Generation,
        created: bool,
        at_ms: u64,
    ) {
        if self.files.contains_key(&hash) {
            let deed = Deed::Committed {
                generation,
                created,
            };
            self.note(hash, deed, at_ms);
        }
    }

    /// What is remembered of a file.
    pub fn of(&self, hash: &ContentHash) -> Story {
        let kept = self.files.get(hash);
        let first_ms = kept
            .and_then(|kept| kept.entries.front())
            .map_or(u64::MAX, |entry| entry.at_ms);
        // The file itself may have been forgotten once, but not since the first deed that is there.
        let forgotten_ms = self.forgotten_ms.min(first_ms);
        let dropped_ms = kept.map_or(0, |kept| kept.dropped_ms).max(forgotten_ms);
        Story {
            entries: kept.map_or_else(Vec::new, |kept| kept.entries.iter().cloned().collect()),
            since_ms: self.started_ms.max(dropped_ms),
            is_whole: dropped_ms == 0,
        }
    }

    fn forget(&mut self) {
        let Some((_, hash)) = self.order.pop_first() else {
            return;
        };
        if let Some(kept) = self.files.remove(&hash)
            && let Some(last) = kept.entries.back()
        {
            self.forgotten_ms = self.forgotten_ms.max(last.at_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> ContentHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ContentHash::new(bytes)
    }

    #[test]
    fn a_story_is_told_in_order_and_from_the_start_of_the_namenode() {
        let mut history = FileHistory::at_start(100);
        history.note(hash(1), Deed::Deleted, 150);
        history.committed(hash(1), Generation(9), true, 160);
        history.committed(hash(2), Generation(10), true, 170);
        let story = history.of(&hash(1));
        assert_eq!((story.since_ms, story.is_whole), (100, true));
        let times: Vec<u64> = story.entries.iter().map(|entry| entry.at_ms).collect();
        assert_eq!(times, [150, 160]);
        assert_eq!(
            history.of(&hash(2)).entries,
            [],
            "its record says all there is"
        );
    }

    #[test]
    fn i11_old_deeds_and_files_that_nothing_happens_to_are_forgotten_and_it_says_so() {
        let mut history = FileHistory::at_start(100);
        let most = u64::try_from(MAX_DEEDS).unwrap();
        for at in 0..=most {
            history.note(hash(0), Deed::Deleted, 200 + at);
        }
        let story = history.of(&hash(0));
        assert_eq!(story.entries.len(), MAX_DEEDS);
        assert_eq!((story.since_ms, story.is_whole), (200, false));
        let files = u64::try_from(MAX_FILES).unwrap();
        for number in 1..=files {
            history.note(hash(number), Deed::Deleted, 1_000 + number);
        }
        assert_eq!(history.files.len(), MAX_FILES);
        assert_eq!(history.order.len(), MAX_FILES);
        let gone = history.of(&hash(0));
        assert_eq!(
            (gone.entries.len(), gone.since_ms, gone.is_whole),
            (0, 200 + most, false)
        );
        let kept = history.of(&hash(5));
        assert_eq!((kept.entries.len(), kept.is_whole), (1, false));
    }

    #[test]
    fn what_was_before_a_restart_comes_in_front_of_what_was_since() {
        let mut history = FileHistory::at_start(500);
        history.note(hash(1), Deed::Deleted, 600);
        let before = Entry {
            at_ms: 300,
            deed: Deed::Deleted,
        };
        let kept = vec![(hash(1), before.clone()), (hash(2), before)];
        history.follow(FileHistory::kept(500, kept));
        let story = history.of(&hash(1));
        let times: Vec<u64> = story.entries.iter().map(|entry| entry.at_ms).collect();
        assert_eq!((times, story.since_ms), (vec![300, 600], 500));
        assert!(story.is_whole, "since the start");
        let unsaved = history.take_unsaved();
        assert_eq!((unsaved.len(), unsaved[0].1.at_ms), (1, 600));
        assert_eq!(history.take_unsaved(), []);
    }

    #[test]
    fn i11_what_nobody_takes_to_keep_it_is_bounded() {
        let mut history = FileHistory::at_start(0);
        for at in 0..=MAX_UNSAVED as u64 {
            history.note(hash(1), Deed::Deleted, at);
        }
        assert_eq!(history.take_unsaved().len(), MAX_UNSAVED);
    }

    #[test]
    fn i11_a_long_reason_is_cut() {
        let mut history = FileHistory::at_start(0);
        let deed = Deed::ReportedBad {
            node: NodeIndex(1),
            reason: "ä".repeat(1_000),
        };
        history.note(hash(1), deed, 5);
        let Deed::ReportedBad { reason, .. } = &history.of(&hash(1)).entries[0].deed else {
            panic!("another deed");
        };
        assert_eq!(reason.len(), MAX_REASON_BYTES);
    }
}
