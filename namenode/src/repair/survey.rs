//! [`read_under_way`] and [`survey`]: read what a round looks at. Blocking; bounded by pages.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::{ContentHash, Generation};

use super::round::MAX_UNDER_WAY;
use super::sweep::Sweep;
use crate::metadata::{RepairUnderWay, View, ViewError, WalkedFiles};
use crate::record::{FileRecord, NodeIndex};
use crate::suspects::Suspects;

/// Rows of each list in a round; the lists of nodes that are gone share theirs.
pub const PAGE: usize = 2_048;
/// Files of the walk over all files in a round.
const WALK_PAGE: usize = 1_024;
/// The smallest share.
const SMALLEST_PAGE: usize = 64;

/// How far each list has been looked through. After a restart all are looked through again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweeps {
    short: Sweep<ContentHash>,
    surplus: Sweep<ContentHash>,
    suspects: Sweep<ContentHash>,
    gone: BTreeMap<Gone, Sweep<(Generation, ContentHash)>>,
}

/// A node whose replicas do not count, and whether it is expected back: when that changes, so does what its files need, and it
/// is looked through from its beginning.
pub type Gone = (NodeIndex, bool);

/// Files, or that there is none of that hash.
pub type Files = Vec<(ContentHash, Option<FileRecord>)>;

/// What a round looks at.
pub struct Survey {
    /// For the next round.
    pub sweeps: Sweeps,
    /// Without those that have a repair under way.
    pub files: Files,
    /// The next files of the walk over all, where it goes on.
    pub walked: Option<WalkedFiles>,
}

/// Which files a round asks for besides those of the lists, and which it leaves out.
pub struct Wanted {
    /// Those that have a repair under way: left out.
    pub busy: BTreeSet<ContentHash>,
    /// Files that something happened to, or whose turn it is.
    pub due: Vec<ContentHash>,
    /// Where the walk over all files goes on, where it does.
    #[allow(clippy::option_option)] // "rests" and "from the beginning" are different answers
    pub walk: Option<Option<ContentHash>>,
    /// More files can wait for their turn.
    pub room: bool,
}

impl Sweeps {
    /// Files were forgotten that may be of any of the lists.
    pub fn miss(&mut self) {
        self.short.miss();
        self.surplus.miss();
        self.suspects.miss();
        self.gone.values_mut().for_each(Sweep::miss);
    }

    /// The next page of files with a suspect replica; `room`: more files can wait.
    pub fn suspects(&mut self, suspects: &Suspects, room: bool, now_ms: u64) -> Vec<ContentHash> {
        let Some(after) = self.suspects.position(room, now_ms) else {
            return Vec::new();
        };
        let page = suspects.page(after, PAGE);
        self.suspects
            .advance(page.last().copied(), !page.is_empty(), now_ms);
        page
    }

    fn lists(
        &mut self,
        view: &View,
        gone: &[Gone],
        room: bool,
        now_ms: u64,
    ) -> Result<BTreeSet<ContentHash>, ViewError> {
        let mut hashes = BTreeSet::new();
        if let Some(after) = self.short.position(room, now_ms) {
            let page = view.under_replicated(after, PAGE)?;
            self.short
                .advance(page.last().copied(), page.len() == PAGE, now_ms);
            hashes.extend(page);
        }
        if let Some(after) = self.surplus.position(room, now_ms) {
            let page = view.over_replicated(after, PAGE)?;
            self.surplus
                .advance(page.last().copied(), page.len() == PAGE, now_ms);
            hashes.extend(page);
        }
        // A node that came back and goes again is looked through from its beginning.
        self.gone.retain(|node, _| gone.contains(node));
        let share = (PAGE / gone.len().max(1)).max(SMALLEST_PAGE);
        for node in gone {
            let sweep = self.gone.entry(*node).or_default();
            if let Some(after) = sweep.position(room, now_ms) {
                let page = view.held_by(node.0, after, share)?;
                sweep.advance(page.last().copied(), page.len() == share, now_ms);
                hashes.extend(page.iter().map(|(_, hash)| *hash));
            }
        }
        Ok(hashes)
    }
}

/// Reads what is under way, with the bytes of each file.
///
/// # Errors
/// [`ViewError`] of the lists. A file whose record is damaged counts as empty.
pub fn read_under_way(view: &View) -> Result<Vec<(RepairUnderWay, u64)>, ViewError> {
    let repairs = view.repairs(MAX_UNDER_WAY)?.into_iter();
    repairs
        .map(|repair| {
            let file = ViewError::or_damage(view.file(&repair.hash))?;
            let size = file.ok().flatten().map_or(0, |file| file.size);
            Ok((repair, size))
        })
        .collect()
}

/// Reads the next pages of all lists, the files that are due, and the next ones of the walk.
///
/// # Errors
/// [`ViewError`] of the lists. A file whose record is damaged is left out, and said.
pub fn survey(
    view: &View,
    mut sweeps: Sweeps,
    gone: &[Gone],
    wanted: Wanted,
    now_ms: u64,
) -> Result<Survey, ViewError> {
    let mut hashes = sweeps.lists(view, gone, wanted.room, now_ms)?;
    hashes.extend(wanted.due);
    let mut files = Vec::with_capacity(hashes.len());
    for hash in hashes.difference(&wanted.busy).copied() {
        match ViewError::or_damage(view.file(&hash))? {
            Ok(record) => files.push((hash, record)),
            Err(reason) => tracing::error!(%hash, "a file cannot be repaired: {reason}"),
        }
    }
    let walk = wanted.walk.map(|after| view.walk_files(after, WALK_PAGE));
    Ok(Survey {
        sweeps,
        files,
        walked: walk.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::{Fixture, hash};
    use crate::mutation::Mutation;
    use crate::record::CommandRecordAction;

    #[test]
    fn i06_a_damaged_record_holds_up_the_repair_of_no_other_file() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.upload(2, &[1]);
        let copy = CommandRecordAction::Replicate {
            hash: hash(1),
            targets: vec![NodeIndex(2)],
        };
        let commands = vec![(NodeIndex(1), copy)];
        let issue = Mutation::IssueCommands {
            commands,
            now_ms: 0,
        };
        fixture.apply(issue).unwrap();
        fixture.damage(1);
        let under_way = read_under_way(&fixture.view()).unwrap();
        let sizes: Vec<_> = under_way
            .iter()
            .map(|(of, size)| (of.hash, *size))
            .collect();
        assert_eq!(sizes, [(hash(1), 0)]);
        let wanted = Wanted {
            busy: BTreeSet::new(),
            due: vec![hash(1), hash(2)],
            walk: None,
            room: true,
        };
        let survey = survey(&fixture.view(), Sweeps::default(), &[], wanted, 0).unwrap();
        let files: Vec<_> = survey.files.iter().map(|(hash, _)| *hash).collect();
        assert_eq!(files, [hash(2)]);
    }
}
