//! [`RepairNotes`]: what repair remembers between its rounds and is told by the calls of datanodes. Pure, soft and
//! bounded: what is forgotten is found again by looking through the lists.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::ContentHash;

use crate::delivery::retry_at_ms;
use crate::record::NodeIndex;

/// Files to look at soon.
const MAX_TOUCHED: usize = 65_536;
/// Files whose repair failed.
const MAX_SETBACKS: usize = 16_384;
/// Replicas whose removal was ordered and not reported.
const MAX_UNSETTLED: usize = 65_536;
/// A removal should have been reported after this; then the node is asked for a full report. Milliseconds.
const SETTLE_MS: u64 = 5_000;

/// How far repair is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files of which copies are being made.
    pub copying: usize,
    /// Files known to be short that wait for their turn.
    pub waiting: usize,
    /// Files known to lie in one rack only, although there are others.
    pub misplaced: usize,
    /// All files were looked at since the racks last changed: `misplaced` is the whole count.
    pub misplaced_checked: bool,
}

/// Soft state of repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairNotes {
    /// As of the last round.
    pub progress: Progress,
    touched: BTreeSet<ContentHash>,
    setbacks: BTreeMap<ContentHash, Setback>,
    unsettled: BTreeMap<(ContentHash, NodeIndex), Unsettled>,
    hurried: bool,
}

/// A repair that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    attempts: u32,
    look_at_ms: u64,
    /// Not tried again before this.
    pub not_before_ms: u64,
    /// Nodes that took part.
    pub avoid: BTreeSet<NodeIndex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unsettled {
    since_ms: u64,
    asked: bool,
}

impl RepairNotes {
    /// The operator wants everything looked at now, and what failed tried again at once.
    pub fn hurry(&mut self) {
        self.hurried = true;
        // Those without a failure only wait for the report of a copy: another one would be one too many.
        for setback in self.setbacks.values_mut().filter(|it| it.attempts > 0) {
            setback.look_at_ms = 0;
            setback.not_before_ms = 0;
        }
    }

    /// Whether that was wanted since this was asked last.
    pub fn take_hurry(&mut self) -> bool {
        std::mem::take(&mut self.hurried)
    }

    /// Something happened to a file: look at it in the next round.
    pub fn touch(&mut self, hash: ContentHash) {
        if self.touched.len() < MAX_TOUCHED {
            self.touched.insert(hash);
        }
    }

    /// At most `limit` files that something happened to, and those whose pause is over. Those touched are handed out once.
    pub fn take_due(&mut self, limit: usize, now_ms: u64) -> Vec<ContentHash> {
        let mut due: Vec<ContentHash> = self.touched.iter().take(limit).copied().collect();
        for hash in &due {
            self.touched.remove(hash);
        }
        let left = limit - due.len();
        let over = self
            .setbacks
            .iter_mut()
            .filter(|(_, setback)| setback.look_at_ms <= now_ms);
        for (hash, setback) in over.take(left) {
            // One for which nothing can be done must not take the turn of others each time.
            setback.look_at_ms = now_ms.saturating_add(SETTLE_MS);
            due.push(*hash);
        }
        due
    }

    /// A repair of the file failed with these nodes.
    pub fn failed(
        &mut self,
        hash: ContentHash,
        nodes: impl IntoIterator<Item = NodeIndex>,
        now_ms: u64,
    ) {
        if self.setbacks.len() >= MAX_SETBACKS && !self.setbacks.contains_key(&hash) {
            self.setbacks.pop_first();
        }
        let setback = self.setbacks.entry(hash).or_insert_with(|| Setback {
            attempts: 0,
            look_at_ms: 0,
            not_before_ms: 0,
            avoid: BTreeSet::new(),
        });
        setback.not_before_ms = retry_at_ms(now_ms, setback.attempts);
        setback.look_at_ms = setback.not_before_ms;
        setback.attempts = setback.attempts.saturating_add(1);
        setback.avoid.extend(nodes);
    }

    /// Copies of the file were made and not reported yet: nothing more is ordered for it until they are, or should be.
    pub fn copied(&mut self, hash: ContentHash, now_ms: u64) {
        if self.setbacks.len() < MAX_SETBACKS || self.setbacks.contains_key(&hash) {
            let until_ms = now_ms.saturating_add(SETTLE_MS);
            let wait = Setback {
                attempts: 0,
                look_at_ms: until_ms,
                not_before_ms: until_ms,
                avoid: BTreeSet::new(),
            };
            self.setbacks.insert(hash, wait);
        }
    }

    /// A replica of the file was reported.
    pub fn reported(&mut self, hash: &ContentHash) {
        if let Some(wait) = self.setbacks.get_mut(hash)
            && wait.attempts == 0
        {
            wait.not_before_ms = 0;
            wait.look_at_ms = 0;
        }
    }

    /// What is remembered of failures with this file.
    pub fn setback(&self, hash: &ContentHash) -> Option<&Setback> {
        self.setbacks.get(hash)
    }

    /// The file has what it needs, or is gone.
    pub fn healed(&mut self, hash: &ContentHash) {
        self.setbacks.remove(hash);
    }

    /// `node` may have removed its replica and has not reported it. `false`: there is no room to remember it, and all the
    /// node holds has to be doubted.
    pub fn doubt(&mut self, hash: ContentHash, node: NodeIndex, now_ms: u64) -> bool {
        let known = self.unsettled.len() < MAX_UNSETTLED;
        if known {
            let doubt = Unsettled {
                since_ms: now_ms,
                asked: false,
            };
            self.unsettled.insert((hash, node), doubt);
        }
        known
    }

    /// Whether `node` may have removed its replica.
    pub fn is_unsettled(&self, hash: &ContentHash, node: NodeIndex) -> bool {
        self.unsettled.contains_key(&(*hash, node))
    }

    /// Removals of `hash` that are on record are settled.
    pub fn keep_of(&mut self, hash: &ContentHash, held: impl Fn(NodeIndex) -> bool) {
        let of_hash = (*hash, NodeIndex(0))..=(*hash, NodeIndex(u32::MAX));
        let gone: Vec<_> = self
            .unsettled
            .range(of_hash)
            .map(|(key, _)| *key)
            .filter(|(_, node)| !held(*node))
            .collect();
        for key in gone {
            self.unsettled.remove(&key);
        }
    }

    /// What to do about removals that were not reported for long: these nodes are to be asked for a full report. Those that
    /// were asked and whose report, by `is_fresh`, is in have said what they hold.
    pub fn overdue(
        &mut self,
        is_fresh: impl Fn(NodeIndex) -> bool,
        now_ms: u64,
    ) -> BTreeSet<NodeIndex> {
        self.unsettled
            .retain(|(_, node), doubt| !(doubt.asked && is_fresh(*node)));
        let mut ask = BTreeSet::new();
        for ((_, node), doubt) in &mut self.unsettled {
            if !doubt.asked && now_ms.saturating_sub(doubt.since_ms) >= SETTLE_MS {
                doubt.asked = true;
                ask.insert(*node);
            }
        }
        ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: ContentHash = ContentHash::new([1; 32]);
    const NODE: NodeIndex = NodeIndex(1);

    #[test]
    fn a_touched_file_is_handed_out_once_and_a_failed_one_after_its_pause() {
        let mut notes = RepairNotes::default();
        notes.touch(FILE);
        assert_eq!(notes.take_due(9, 0), [FILE]);
        assert!(notes.take_due(9, 0).is_empty());
        notes.failed(FILE, [NODE], 0);
        assert!(notes.take_due(9, 999).is_empty());
        assert_eq!(notes.take_due(9, 1_000), [FILE]);
        notes.failed(FILE, [NodeIndex(2)], 1_000);
        let setback = notes.setback(&FILE).unwrap();
        assert_eq!(setback.not_before_ms, 3_000);
        assert_eq!(setback.avoid, BTreeSet::from([NODE, NodeIndex(2)]));
        notes.healed(&FILE);
        assert!(notes.take_due(9, 9_000).is_empty());
    }

    #[test]
    fn a_hurry_ends_the_pause_after_a_failure_and_not_the_wait_for_a_report() {
        let mut notes = RepairNotes::default();
        let copied = ContentHash::new([2; 32]);
        notes.failed(FILE, [NODE], 0);
        notes.copied(copied, 0);
        assert!(notes.take_due(9, 1).is_empty());
        notes.hurry();
        assert_eq!(notes.take_due(9, 1), [FILE]);
        assert_eq!(notes.setback(&FILE).unwrap().not_before_ms, 0);
        assert!(notes.take_hurry() && !notes.take_hurry());
    }

    #[test]
    fn nothing_is_ordered_between_a_copy_and_its_report() {
        let mut notes = RepairNotes::default();
        notes.copied(FILE, 0);
        assert!(notes.take_due(9, SETTLE_MS - 1).is_empty());
        assert_eq!(notes.take_due(9, SETTLE_MS), [FILE]);
        notes.copied(FILE, 0);
        notes.reported(&FILE);
        assert_eq!(notes.take_due(9, 0), [FILE]);
    }

    #[test]
    fn i06_a_removal_that_is_not_reported_stays_in_doubt_until_a_full_report() {
        let mut notes = RepairNotes::default();
        assert!(notes.doubt(FILE, NODE, 0));
        let fresh = |_| true;
        assert!(notes.overdue(fresh, SETTLE_MS - 1).is_empty());
        assert!(notes.is_unsettled(&FILE, NODE), "that report is older");
        assert_eq!(notes.overdue(fresh, SETTLE_MS), BTreeSet::from([NODE]));
        assert!(notes.overdue(|_| false, SETTLE_MS).is_empty());
        assert!(notes.is_unsettled(&FILE, NODE));
        assert!(notes.overdue(fresh, SETTLE_MS).is_empty());
        assert!(!notes.is_unsettled(&FILE, NODE));
    }

    #[test]
    fn i11_notes_are_bounded() {
        let mut notes = RepairNotes::default();
        for number in 0..u32::try_from(MAX_TOUCHED + 9).unwrap() {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let hash = ContentHash::new(bytes);
            notes.touch(hash);
            notes.failed(hash, [NODE], 0);
            notes.doubt(hash, NODE, 0);
        }
        assert_eq!(notes.touched.len(), MAX_TOUCHED);
        assert_eq!(notes.setbacks.len(), MAX_SETBACKS);
        assert_eq!(notes.unsettled.len(), MAX_UNSETTLED);
    }
}
