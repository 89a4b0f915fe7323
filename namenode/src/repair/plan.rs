//! [`plan`]: which commands the files at hand need. Pure: the same cases and nodes give the same commands.
//!
//! The file with the fewest good replicas comes first. A good replica is one on a node that is live or stale and that
//! nobody reported as bad. Those on nodes in maintenance need no copies as long as a few others are good. A file gets one
//! command at a time, so each is judged by what the ones before it led to:
//! - too few good replicas: copy from the least busy node that has one, to other nodes and, where possible, other racks;
//! - enough of them, or nowhere to put more, and a bad one: have its node look at it and put it aside;
//! - more than the target on nodes whose reports are fresh: trim one where the rack is most crowded, then the disk fullest;
//! - nothing of this, and all of them in one rack: copy to another rack. The copy is one too many, and the trim that follows
//!   takes one of the crowded rack (I6). Done only while no file is short, and with a part of what nodes may do at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::ContentHash;

use super::case::{Case, Holding, Limits, RepairNode};
use super::misplaced::{only_rack, racks_in_use};
use crate::placement::{Candidate, Wanted, place_beside};
use crate::record::{CommandRecordAction, FileRecord, NodeIndex};

/// The nodes by number.
pub type Nodes = BTreeMap<NodeIndex, RepairNode>;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// For whom, and what.
    pub commands: Vec<(NodeIndex, CommandRecordAction)>,
    /// Files that are short and only wait for their turn, with the good replicas they have.
    pub waiting: Vec<(usize, ContentHash)>,
}

/// Plans at most `room` commands for `cases`, and charges the nodes with them.
pub fn plan(mut cases: Vec<Case>, nodes: &mut Nodes, room: usize, limits: Limits) -> Plan {
    cases.sort_by_cached_key(|case| (good(case, nodes).len().min(case.replication), case.hash));
    cases.dedup_by_key(|case| case.hash);
    let mut plan = Plan::default();
    let mut whole = Vec::new();
    for case in &cases {
        let good = good(case, nodes);
        let full = plan.commands.len() >= room;
        let missing = case.missing(nodes);
        if missing == 0 {
            match quarantine(case, &good, nodes).or_else(|| trim(case, nodes)) {
                Some(command) => plan.commands.extend(Some(command).filter(|_| !full)),
                None => whole.push(case),
            }
            continue;
        }
        let copy = if full {
            Copy::Later
        } else {
            copy(case, &good, missing, &BTreeSet::new(), nodes, limits)
        };
        match copy {
            Copy::Now { source, targets } => {
                plan.commands.push(ordered(case, nodes, source, targets));
            }
            Copy::Later => plan.waiting.push((good.len(), case.hash)),
            // With nowhere else to go, the place that the bad replica takes is the one to use.
            Copy::Never => plan.commands.extend(quarantine(case, &good, nodes)),
        }
    }
    if plan.waiting.is_empty() {
        let room = room.saturating_sub(limits.reserved);
        spread(&whole, nodes, room, limits.for_moves(), &mut plan);
    }
    plan
}

/// Gives files that lie in one rack a copy in another one.
fn spread(whole: &[&Case], nodes: &mut Nodes, room: usize, limits: Limits, plan: &mut Plan) {
    let racks = racks_in_use(nodes);
    for case in whole {
        if plan.commands.len() >= room {
            return;
        }
        let Some(rack) = only_rack(case, nodes, &racks) else {
            continue;
        };
        let neighbours = nodes
            .iter()
            .filter(|(_, node)| node.candidate.rack == rack)
            .map(|(index, _)| *index)
            .collect();
        let good = good(case, nodes);
        if let Copy::Now { source, targets } = copy(case, &good, 1, &neighbours, nodes, limits) {
            plan.commands.push(ordered(case, nodes, source, targets));
        }
    }
}

fn ordered(
    case: &Case,
    nodes: &mut Nodes,
    source: NodeIndex,
    targets: Vec<NodeIndex>,
) -> (NodeIndex, CommandRecordAction) {
    charge(nodes, case.size, source, &targets);
    let hash = case.hash;
    (source, CommandRecordAction::Replicate { hash, targets })
}

/// Whether a trim or quarantine of the replica on `node` may still be carried out: the others that it relied on are on
/// record and `stands` says that each still stands.
pub fn still_safe(
    action: &CommandRecordAction,
    node: NodeIndex,
    file: &FileRecord,
    stands: impl Fn(NodeIndex) -> bool,
) -> bool {
    let (keep, least) = match action {
        CommandRecordAction::Trim { keep, .. } => (keep, file.replication.max(1)),
        CommandRecordAction::Quarantine { keep, .. } => (keep, 1),
        CommandRecordAction::Delete { .. } | CommandRecordAction::Replicate { .. } => return true,
    };
    let standing = keep
        .iter()
        .filter(|keeper| **keeper != node && file.replica(**keeper).is_some() && stands(**keeper))
        .count();
    standing >= usize::try_from(least).unwrap_or(usize::MAX)
}

fn good<'a>(case: &'a Case, nodes: &Nodes) -> Vec<&'a Holding> {
    let counts = |holding: &&Holding| {
        !holding.suspect && nodes.get(&holding.node).is_some_and(RepairNode::counts)
    };
    case.holdings.iter().filter(counts).collect()
}

enum Copy {
    Now {
        source: NodeIndex,
        targets: Vec<NodeIndex>,
    },
    /// The nodes that could have enough to do.
    Later,
    /// Nobody can send it, or nobody can take it.
    Never,
}

/// A copy to `count` nodes that are not among those `excluded`.
fn copy(
    case: &Case,
    good: &[&Holding],
    count: usize,
    excluded: &BTreeSet<NodeIndex>,
    nodes: &Nodes,
    limits: Limits,
) -> Copy {
    let senders = sources(case, nodes);
    if senders.is_empty() {
        return Copy::Never;
    }
    let candidates: Vec<Candidate> = nodes.values().map(RepairNode::as_target).collect();
    let wanted = Wanted {
        count,
        bytes: case.size,
        seed: case.generation.0,
    };
    let racks: Vec<&str> = good
        .iter()
        .filter_map(|holding| nodes.get(&holding.node))
        .map(|node| node.candidate.rack.as_str())
        .collect();
    // A node that is on record never gets another one: a bad replica would only be said to be there already.
    let mut excluded = excluded.clone();
    excluded.extend(case.holdings.iter().map(|holding| holding.node));
    if place_beside(&candidates, wanted, &excluded, &racks).is_empty() {
        return Copy::Never;
    }
    let has_room = |node: &RepairNode| node.has_room(case.size, limits);
    let Some(source) = senders
        .into_iter()
        .find(|index| nodes.get(index).is_some_and(has_room))
    else {
        return Copy::Later;
    };
    let busy = nodes.iter().filter(|(_, node)| !has_room(node));
    excluded.extend(busy.map(|(index, _)| *index));
    let with_avoided: BTreeSet<NodeIndex> = excluded.union(&case.avoid).copied().collect();
    let mut targets = place_beside(&candidates, wanted, &with_avoided, &racks);
    if targets.is_empty() {
        targets = place_beside(&candidates, wanted, &excluded, &racks);
    }
    if targets.is_empty() {
        return Copy::Later;
    }
    Copy::Now { source, targets }
}

/// Who can send it, best first. A replica that was reported as bad is the last choice, and no danger: its node verifies
/// what it sends, and a report may be wrong.
fn sources(case: &Case, nodes: &Nodes) -> Vec<NodeIndex> {
    let mut sources: Vec<_> = case
        .holdings
        .iter()
        .filter_map(|holding| Some((holding, nodes.get(&holding.node)?)))
        .filter(|(_, node)| node.takes_commands())
        .map(|(holding, node)| {
            let doubtful = holding.suspect || holding.unsettled || node.failed;
            let load = node.active_reads.saturating_add(streams(node));
            let avoided = case.avoid.contains(&holding.node);
            // One in maintenance may leave at any moment.
            (doubtful, node.maintenance, avoided, load, holding.node)
        })
        .collect();
    sources.sort_unstable();
    sources.into_iter().map(|(.., index)| index).collect()
}

fn streams(node: &RepairNode) -> u64 {
    u64::try_from(node.streams).unwrap_or(u64::MAX)
}

fn charge(nodes: &mut Nodes, bytes: u64, source: NodeIndex, targets: &[NodeIndex]) {
    for index in std::iter::once(&source).chain(targets) {
        if let Some(node) = nodes.get_mut(index) {
            node.charge(bytes, *index != source);
            node.spend(bytes);
        }
    }
}

fn quarantine(
    case: &Case,
    good: &[&Holding],
    nodes: &Nodes,
) -> Option<(NodeIndex, CommandRecordAction)> {
    let takes_commands = |holding: &&Holding| {
        nodes
            .get(&holding.node)
            .is_some_and(RepairNode::takes_commands)
    };
    let keep: Vec<NodeIndex> = good
        .iter()
        .copied()
        .filter(|holding| !holding.unsettled && takes_commands(holding))
        .map(|holding| holding.node)
        .collect();
    if keep.is_empty() {
        // Perhaps the last copy, and perhaps only the report is wrong.
        return None;
    }
    let bad = case
        .holdings
        .iter()
        .filter(|holding| holding.suspect && !holding.unsettled)
        .find(takes_commands)?;
    let action = CommandRecordAction::Quarantine {
        hash: case.hash,
        generation: bad.generation,
        keep,
    };
    Some((bad.node, action))
}

fn trim(case: &Case, nodes: &Nodes) -> Option<(NodeIndex, CommandRecordAction)> {
    let trusted: Vec<(&Holding, &RepairNode)> = case
        .holdings
        .iter()
        .filter(|holding| !holding.suspect && !holding.unsettled)
        .filter_map(|holding| Some((holding, nodes.get(&holding.node)?)))
        .filter(|(_, node)| node.is_trusted())
        .collect();
    if trusted.len() <= case.replication.max(1) {
        return None;
    }
    let mut racks: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in &trusted {
        *racks.entry(&node.candidate.rack).or_default() += 1;
    }
    let (drop, _) = trusted.iter().max_by_key(|(holding, node)| {
        let crowd = racks[node.candidate.rack.as_str()];
        (crowd, Reverse(node.candidate.available_bytes), holding.node)
    })?;
    let action = CommandRecordAction::Trim {
        hash: case.hash,
        generation: drop.generation,
        keep: trusted
            .iter()
            .map(|(holding, _)| holding.node)
            .filter(|node| *node != drop.node)
            .collect(),
    };
    Some((drop.node, action))
}

#[cfg(test)]
mod tests;
