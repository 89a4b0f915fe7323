//! [`Drains`]: what still needs the datanodes that are being emptied. Pure.
//!
//! What a node holds is walked in pages, over and over. It is emptied when one whole walk found that every file has as many
//! replicas as it should on other nodes, and every write that may have been placed on it before is over.

use std::collections::BTreeMap;

use richardstore_proto::{ContentHash, Generation};

use super::case::Case;
use super::plan::Nodes;
use crate::placement::{Candidate, Wanted, place_beside};
use crate::record::{CommandRecordAction, NodeIndex};

/// Files that are named; the others are counted.
const MAX_NAMED: usize = 10;
/// Between two walks, in milliseconds.
const PAUSE_MS: u64 = 1_000;

/// Why a file still needs a node that is being emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A copy or a removal of it is under way.
    UnderWay,
    /// It can be copied, and was not yet.
    Waiting,
    /// No other node can take it.
    NoTarget,
    /// There are enough replicas elsewhere, not all of which can be relied on: their nodes are silent, have not reported in
    /// full, or somebody doubts the replica.
    Unconfirmed,
    /// A replica elsewhere is on a node in maintenance.
    Maintenance,
    /// Its record is damaged.
    Damaged,
}

/// What a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that still need the node.
    pub blocking: u64,
    /// The first of them.
    pub first: Vec<(ContentHash, Obstacle)>,
}

/// The emptying of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Writes before this may have been placed on the node.
    pub placed_before: Generation,
    /// Of the last whole walk.
    pub found: Option<Tally>,
    /// Such writes were in flight at its end.
    pub writes_in_flight: bool,
    after: Option<(Generation, ContentHash)>,
    walked: u64,
    walking: Tally,
    rests_until_ms: u64,
}

/// The nodes that are being emptied.
pub type Drains = BTreeMap<NodeIndex, Drain>;

impl Obstacle {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "a copy or removal is under way",
            Self::Waiting => "waits to be copied",
            Self::NoTarget => "no other datanode can take it",
            Self::Unconfirmed => "replicas elsewhere are not confirmed",
            Self::Maintenance => "a replica elsewhere is on a datanode in maintenance",
            Self::Damaged => "its record is damaged",
        }
    }
}

impl Tally {
    fn add(&mut self, hash: ContentHash, obstacle: Obstacle) {
        self.blocking += 1;
        if self.first.len() < MAX_NAMED {
            self.first.push((hash, obstacle));
        }
    }
}

impl Drain {
    /// Begins: the node gets no more writes, and the next one has the generation `placed_before`.
    pub fn new(placed_before: Generation) -> Self {
        Self {
            placed_before,
            found: None,
            writes_in_flight: false,
            after: None,
            walked: 0,
            walking: Tally::default(),
            rests_until_ms: 0,
        }
    }

    /// Where the walk goes on; `None` while it rests.
    #[allow(clippy::option_option)] // "rests" and "from the beginning" are different answers
    pub fn position(&self, now_ms: u64) -> Option<Option<(Generation, ContentHash)>> {
        (now_ms >= self.rests_until_ms).then_some(self.after)
    }

    /// A page was walked, and this is what needs the node.
    pub fn walked(
        &mut self,
        last: (Generation, ContentHash),
        files: u64,
        obstacles: impl IntoIterator<Item = (ContentHash, Obstacle)>,
    ) {
        self.after = Some(last);
        self.walked = self.walked.saturating_add(files);
        for (hash, obstacle) in obstacles {
            self.walking.add(hash, obstacle);
        }
    }

    /// The walk is at its end. `true`: nothing needs the node any more. More `replicas` on record than were walked have
    /// come behind the walk.
    pub fn ended(&mut self, replicas: u64, writes_in_flight: bool, now_ms: u64) -> bool {
        let walked = std::mem::take(&mut self.walked);
        let found = std::mem::take(&mut self.walking);
        let done = found.blocking == 0 && !writes_in_flight && walked >= replicas;
        self.after = None;
        self.rests_until_ms = now_ms.saturating_add(PAUSE_MS);
        self.writes_in_flight = writes_in_flight;
        self.found = Some(found);
        done
    }
}

/// Why the file of `case` still needs the nodes that are being emptied; `None` when it does not. Only replicas that a removal
/// could rely on count (I6): the operator may destroy the node next.
pub fn obstacle(
    case: &Case,
    nodes: &Nodes,
    under_way: Option<&CommandRecordAction>,
) -> Option<Obstacle> {
    let node = |index: &NodeIndex| nodes.get(index);
    let removal =
        under_way.is_some_and(|action| !matches!(action, CommandRecordAction::Replicate { .. }));
    let sound = case.holdings.iter().filter(|held| {
        !held.suspect && !held.unsettled && node(&held.node).is_some_and(|node| node.is_trusted())
    });
    let short = sound.count() < case.replication;
    if under_way.is_some() && (short || removal) {
        return Some(Obstacle::UnderWay);
    }
    if !short {
        return None;
    }
    let counted = case
        .holdings
        .iter()
        .filter(|held| !held.suspect && node(&held.node).is_some_and(|node| node.counts()))
        .count();
    if counted >= case.replication {
        return Some(Obstacle::Unconfirmed);
    }
    if case.missing(nodes) == 0 {
        return Some(Obstacle::Maintenance);
    }
    let candidates: Vec<Candidate> = nodes.values().map(|node| node.as_target()).collect();
    let wanted = Wanted {
        count: 1,
        bytes: case.size,
        seed: case.generation.0,
    };
    let excluded = case.holdings.iter().map(|held| held.node).collect();
    Some(
        match place_beside(&candidates, wanted, &excluded, &[]).is_empty() {
            true => Obstacle::NoTarget,
            false => Obstacle::Waiting,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, expected, held, live, node};
    use super::*;
    use richardstore_proto::NodeState;

    const HASH: ContentHash = ContentHash::new([1; 32]);

    fn nodes(count: u32) -> Nodes {
        let emptied = node(1, NodeState::Decommissioning);
        let others = (2..=count).map(live);
        fixture::nodes(std::iter::once(emptied).chain(others))
    }

    fn case(holders: &[u32]) -> Case {
        fixture::case(1, holders.iter().copied().map(held))
    }

    #[test]
    fn i06_a_file_needs_the_node_until_its_whole_target_is_confirmed_elsewhere() {
        assert_eq!(obstacle(&case(&[1, 2, 3, 4]), &nodes(4), None), None);
        let short = case(&[1, 2, 3]);
        let waiting = Some(Obstacle::Waiting);
        assert_eq!(obstacle(&short, &nodes(4), None), waiting);
        let no_target = Some(Obstacle::NoTarget);
        assert_eq!(obstacle(&short, &nodes(3), None), no_target);
        let mut unchecked = nodes(4);
        unchecked.get_mut(&NodeIndex(4)).unwrap().fresh = false;
        let unconfirmed = Some(Obstacle::Unconfirmed);
        let whole = case(&[1, 2, 3, 4]);
        assert_eq!(obstacle(&whole, &unchecked, None), unconfirmed);
        let mut doubted = case(&[1, 2, 3, 4]);
        doubted.holdings[3].unsettled = true;
        assert_eq!(obstacle(&doubted, &nodes(4), None), unconfirmed);
    }

    #[test]
    fn i06_a_replica_that_is_only_expected_back_does_not_let_a_node_go() {
        let mut nodes = nodes(4);
        let away = expected(live(4));
        nodes.insert(NodeIndex(4), away);
        let found = obstacle(&case(&[1, 2, 3, 4]), &nodes, None);
        assert_eq!(found, Some(Obstacle::Maintenance));
    }

    #[test]
    fn i06_a_removal_under_way_blocks_and_a_copy_only_where_it_is_needed() {
        let copy = CommandRecordAction::Replicate {
            hash: HASH,
            targets: vec![NodeIndex(4)],
        };
        let trim = CommandRecordAction::Trim {
            hash: HASH,
            generation: Generation(7),
            keep: Vec::new(),
        };
        let under_way = Some(Obstacle::UnderWay);
        let (short, whole) = (case(&[1, 2, 3]), case(&[1, 2, 3, 4]));
        assert_eq!(obstacle(&short, &nodes(4), Some(&copy)), under_way);
        assert_eq!(obstacle(&whole, &nodes(4), Some(&copy)), None);
        assert_eq!(obstacle(&whole, &nodes(4), Some(&trim)), under_way);
    }

    #[test]
    fn i11_a_walk_names_ten_files_counts_all_and_is_done_when_nothing_is_left() {
        let mut drain = Drain::new(Generation(9));
        let obstacles = std::iter::repeat_n((HASH, Obstacle::Waiting), 25);
        drain.walked((Generation(3), HASH), 30, obstacles);
        assert_eq!(drain.position(0), Some(Some((Generation(3), HASH))));
        assert!(!drain.ended(30, false, 0));
        let found = drain.found.clone().unwrap();
        assert_eq!((found.blocking, found.first.len()), (25, 10));
        assert_eq!(drain.position(PAUSE_MS - 1), None);
        assert_eq!(drain.position(PAUSE_MS), Some(None));
        drain.walked((Generation(3), HASH), 30, []);
        assert!(
            !drain.ended(30, true, 0),
            "a write may still be placed there"
        );
        drain.walked((Generation(3), HASH), 30, []);
        assert!(!drain.ended(31, false, 0), "one came behind the walk");
        drain.walked((Generation(3), HASH), 30, []);
        assert!(drain.ended(30, false, 0));
    }
}
