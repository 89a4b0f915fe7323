//! [`explain`]: what is known of a hash, in words. Pure: the same facts give the same words.

use std::collections::BTreeMap;

use richardstore_proto::{Generation, NodeState};

use super::facts::{Buried, DeleteFacts, Facts, HolderFacts, Planned, Subject};
use super::standing::{FileState, Standing, racks_there};
use super::story::story;
use super::words::{ago, counted, span, until};
use crate::record::{CommandRecordAction, FileRecord, NodeIndex};

/// How a hash is doing, and why. Every entry of a list is a sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The one word.
    pub state: &'static str,
    /// The one sentence.
    pub summary: String,
    /// Where each replica is, and how it is doing.
    pub replicas: Vec<String>,
    /// Why they are there.
    pub placement: Vec<String>,
    /// What was ordered and is not done.
    pub planned: Vec<String>,
    /// What is in the way.
    pub blocked: Vec<String>,
    /// When something is tried next.
    pub next: Vec<String>,
    /// What happened, oldest first.
    pub history: Vec<String>,
}

/// Says what `facts` mean.
pub fn explain(facts: &Facts) -> Explanation {
    let mut explanation = match &facts.subject {
        Subject::File { record, holders } => file(facts, record, holders),
        Subject::Deleted {
            generation,
            deleted_ms,
            deletes,
        } => deleted(facts, *generation, *deleted_ms, deletes),
        Subject::Unknown => unknown(facts),
    };
    explanation.history.extend(story(facts));
    for parked in &facts.parked {
        explanation.history.push(format!(
            "{} has its bytes from write {}, which is not committed yet.",
            name(facts, parked.node),
            parked.generation
        ));
    }
    explanation
}

pub(super) fn name(facts: &Facts, index: NodeIndex) -> String {
    match facts.nodes.get(&index) {
        Some(node) => node.name.clone(),
        None => format!("datanode number {}", index.0),
    }
}

pub(super) fn names(facts: &Facts, nodes: &[NodeIndex]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| name(facts, *node)).collect();
    names.join(", ")
}

fn file(facts: &Facts, record: &FileRecord, holders: &[HolderFacts]) -> Explanation {
    let racks_there = racks_there(&facts.nodes);
    let standing = Standing::of(&facts.nodes, racks_there, record.replication, holders);
    let state = standing.state();
    let planned: Vec<String> = facts
        .planned
        .iter()
        .map(|planned| order(facts, planned))
        .collect();
    let (blocked, next) = if state == FileState::Healthy {
        let next = "Its replicas are read and checked again by the scrub of their datanodes.";
        (Vec::new(), vec![next.to_owned()])
    } else {
        (
            obstacles(facts, record, holders, &standing),
            vec![next_try(facts, state)],
        )
    };
    Explanation {
        state: state.as_str(),
        summary: standing.summary(),
        replicas: holders
            .iter()
            .map(|holder| replica(facts, holder))
            .collect(),
        placement: placement(&standing),
        planned,
        blocked,
        next,
        history: history(facts, record, holders),
    }
}

fn replica(facts: &Facts, holder: &HolderFacts) -> String {
    let Some(node) = facts.nodes.get(&holder.node) else {
        return format!("{}: not known any more.", name(facts, holder.node));
    };
    let rack = match node.rack.as_str() {
        "" => String::new(),
        rack => format!(" in rack {rack}"),
    };
    let mut text = format!("{}{rack}: {}", node.name, node.state.as_str());
    if node.state == NodeState::Dead || node.state == NodeState::Stale {
        text += &format!(", silent for {}", span(node.silent_ms));
    } else if !node.registered {
        text += ", not back since the namenode started";
    }
    if holder.suspect {
        text += "; somebody reported this replica as bad, so that reads ask it last";
    } else if holder.unsettled {
        text += "; it was told to remove this replica and has not reported whether it did";
    } else if !node.counts {
        text += "; this replica does not count";
    }
    text + "."
}

fn placement(standing: &Standing<'_>) -> Vec<String> {
    let racks = standing.racks();
    if racks.is_empty() {
        return Vec::new();
    }
    if racks.len() == 1 && standing.racks_to_use() <= 1 {
        let words = "All datanodes are in one rack: of those with room the least busy were taken.";
        return vec![words.to_owned()];
    }
    let list: Vec<String> = racks
        .iter()
        .map(|(rack, nodes)| {
            let rack = if rack.is_empty() { "none" } else { rack };
            format!("{rack} ({})", nodes.join(", "))
        })
        .collect();
    vec![format!(
        "Its good replicas are in {}: {}. A copy goes to a rack that has none where there is one, and there to the least busy datanode with room.",
        counted(racks.len(), "rack"),
        list.join(", ")
    )]
}

fn order(facts: &Facts, planned: &Planned) -> String {
    let who = name(facts, planned.node);
    let command = &planned.command;
    let work = match &command.action {
        CommandRecordAction::Replicate { targets, .. } => {
            format!("is to copy it to {}", names(facts, targets))
        }
        CommandRecordAction::Trim { .. } => {
            "is to remove its replica, which is one too many".to_owned()
        }
        CommandRecordAction::Quarantine { .. } => {
            "is to look at its replica again and put it aside if it is bad".to_owned()
        }
        CommandRecordAction::Delete { .. } => "is to remove its replica".to_owned(),
    };
    let how = match planned.handed_out {
        true => "it has the command",
        false => "the command waits for its next heartbeat",
    };
    let deadline = planned
        .deadline_ms
        .map(|deadline_ms| format!("; given up {}", until(deadline_ms, facts.now_ms)))
        .unwrap_or_default();
    format!(
        "{who} {work} (command {}, ordered {}, {how}{deadline}).",
        planned.id,
        ago(command.issued_ms, facts.now_ms)
    )
}

fn obstacles(
    facts: &Facts,
    record: &FileRecord,
    holders: &[HolderFacts],
    standing: &Standing<'_>,
) -> Vec<String> {
    let mut blocked: Vec<String> = facts.halted.iter().cloned().collect();
    if facts.planned.is_some() {
        blocked.push("A file gets one command at a time: what is ordered has to end first.".into());
        return blocked;
    }
    if facts.rests_ms > 0 {
        blocked.push("The last attempt did not bring what it should.".into());
    }
    if !standing.is_short() && standing.state() != FileState::Misplaced {
        return blocked;
    }
    let sends = |holder: &&HolderFacts| {
        let node = facts.nodes.get(&holder.node);
        node.is_some_and(|node| node.is_readable() && node.state != NodeState::Stale)
    };
    if !holders.iter().any(|holder| sends(&holder)) {
        blocked.push("No datanode that holds it can be told to copy it.".into());
    }
    let others = facts
        .nodes
        .iter()
        .filter(|(index, _)| record.replica(**index).is_none());
    let mut reasons = Vec::new();
    for (_, node) in others {
        match node.obstacle(record.size) {
            None => return blocked,
            Some(obstacle) => reasons.push(format!("{} {obstacle}", node.name)),
        }
    }
    blocked.push(match reasons.is_empty() {
        true => {
            "Every datanode there is holds it already: there is none to put another copy on.".into()
        }
        false => format!(
            "No datanode without it can take a copy: {}.",
            reasons.join("; ")
        ),
    });
    blocked
}

fn next_try(facts: &Facts, state: FileState) -> String {
    if facts.halted.is_some() {
        return "Nothing is ordered before that is over.".to_owned();
    }
    match state {
        FileState::Missing => "As soon as a datanode that holds it is back.".to_owned(),
        _ if facts.planned.is_some() => {
            "It is looked at again when the command has ended.".to_owned()
        }
        _ if facts.rests_ms > 0 => format!("It is tried again in {}.", span(facts.rests_ms)),
        _ if facts.waiting > 0 => format!(
            "In its turn: {} wait to be copied, those with the fewest good replicas first.",
            counted(facts.waiting, "file")
        ),
        _ => "Repair looks for such files in rounds, five a second, and is at it.".to_owned(),
    }
}

fn history(facts: &Facts, record: &FileRecord, holders: &[HolderFacts]) -> Vec<String> {
    let mut history: Vec<String> = facts
        .buried
        .iter()
        .map(|buried| earlier_life(facts, buried))
        .collect();
    history.push(format!(
        "Uploaded {}, {} bytes with {} wanted.",
        ago(record.created_ms, facts.now_ms),
        record.size,
        counted(
            usize::try_from(record.replication).unwrap_or(usize::MAX),
            "replica"
        )
    ));
    let mut writes: BTreeMap<u64, Vec<NodeIndex>> = BTreeMap::new();
    for holder in holders {
        writes
            .entry(holder.generation.0)
            .or_default()
            .push(holder.node);
    }
    for (write, nodes) in writes {
        let newest = match write == record.generation.0 {
            true => ", the newest",
            false => "",
        };
        history.push(match write {
            0 => format!(
                "The write that the replica on {} came with is not known.",
                names(facts, &nodes)
            ),
            _ => format!("Write {write}{newest}, is on {}.", names(facts, &nodes)),
        });
    }
    history
}

fn earlier_life(facts: &Facts, buried: &Buried) -> String {
    format!(
        "Deleted {} up to write {}, and stored again since; {}.",
        ago(buried.deleted_ms, facts.now_ms),
        buried.generation,
        match buried.holders {
            0 => "all who held it then have confirmed".to_owned(),
            1 => "1 datanode has to confirm that the replica of then is gone".to_owned(),
            count =>
                format!("{count} datanodes have to confirm that the replicas of then are gone"),
        }
    )
}

fn deleted(
    facts: &Facts,
    generation: Generation,
    deleted_ms: u64,
    deletes: &[DeleteFacts],
) -> Explanation {
    let confirming = match deletes.len() {
        0 => "every datanode that held it has confirmed".to_owned(),
        1 => "1 datanode has to confirm".to_owned(),
        count => format!("{count} datanodes have to confirm"),
    };
    Explanation {
        state: "deleted",
        summary: format!(
            "It was deleted {} and cannot be read; {confirming}.",
            ago(deleted_ms, facts.now_ms)
        ),
        planned: deletes.iter().map(|delete| confirm(facts, delete)).collect(),
        blocked: facts.halted.iter().cloned().collect(),
        next: vec![match deletes.is_empty() {
            true => "The tombstone goes when the uploads that began before it have ended.".to_owned(),
            false => "The tombstone stays until all have confirmed, however long that takes: a replica that turns up is removed.".to_owned(),
        }],
        history: vec![format!(
            "Deleted {}: all writes of it up to {generation} are dead, and none of them comes back.",
            ago(deleted_ms, facts.now_ms)
        )],
        ..Explanation::default()
    }
}

fn confirm(facts: &Facts, delete: &DeleteFacts) -> String {
    let who = name(facts, delete.node);
    let state = match facts.nodes.get(&delete.node) {
        Some(node) if node.state == NodeState::Dead || !node.registered => {
            format!(
                ", which is away (silent for {}) and is told when it returns",
                span(node.silent_ms)
            )
        }
        _ => String::new(),
    };
    let Some(command) = &delete.command else {
        return format!("{who} has not confirmed{state}.");
    };
    let how = match (delete.handed_out, command.attempts) {
        (true, _) => "it has the command".to_owned(),
        (false, 0) => "the command waits for its next heartbeat".to_owned(),
        (false, attempts) => format!(
            "{} failed, the next is {}",
            counted(usize::try_from(attempts).unwrap_or(usize::MAX), "attempt"),
            until(command.not_before_ms, facts.deadline_now_ms)
        ),
    };
    format!(
        "{who} has not confirmed{state} (command {}, ordered {}, {how}).",
        delete.id,
        ago(command.issued_ms, facts.now_ms)
    )
}

fn unknown(facts: &Facts) -> Explanation {
    if facts.parked.is_empty() {
        return Explanation {
            state: "unknown",
            summary: "There is no such file. It was never committed, or it was deleted and every datanode that held it has confirmed: of those only some of the history is kept.".to_owned(),
            ..Explanation::default()
        };
    }
    Explanation {
        state: "uploading",
        summary: format!(
            "It is being uploaded: {} its bytes, and it is not committed.",
            match facts.parked.len() {
                1 => "1 datanode has".to_owned(),
                count => format!("{count} datanodes have"),
            }
        ),
        next: vec![
            "It is a file when the upload commits; if it does not in time, its bytes are removed."
                .to_owned(),
        ],
        ..Explanation::default()
    }
}

#[cfg(test)]
mod tests;
