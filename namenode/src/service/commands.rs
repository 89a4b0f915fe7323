//! Commands on their way to a datanode, and how they ended there.

use richardstore_failpoint::failpoint;
use richardstore_proto::wire::{self, WireError};
use richardstore_proto::{
    Command, CommandAction, CommandId, CommandOutcome, ContentHash, ErrorCode, EventKind,
    Generation, RememberedDelete, ReplicaEntry, StoreError,
};

use crate::delivery::{LOOK_AHEAD, retry_at_ms};
use crate::event_log::News;
use crate::file_history::{Deed, Work};
use crate::metadata::{View, ViewError};
use crate::mutation::{CommandEnd, Mutation};
use crate::record::{CommandRecord, CommandRecordAction, FileRecord, NodeIndex};
use crate::repair::still_safe;
use crate::shared::Shared;

/// Outcomes in one heartbeat.
const MAX_OUTCOMES: usize = 4096;

/// Outcomes that are taken in by one transaction.
const MAX_SETTLED: usize = 256;

/// What goes into the answer to a heartbeat.
#[derive(Debug, Default)]
pub struct HandedOut {
    /// In the order of their ids.
    pub commands: Vec<Command>,
    /// There are more at once.
    pub more: bool,
}

/// The next due commands of `index` that it does not have in its hands. None in safe mode (I7).
pub async fn hand_out(shared: &Shared, index: NodeIndex) -> Result<HandedOut, StoreError> {
    let now_ms = shared.now_ms();
    let in_hands = {
        let soft = shared.soft();
        match soft.cluster.get(index) {
            Some(node) if !soft.safe_mode.is_on() => node.delivery.in_hands(now_ms),
            _ => return Ok(HandedOut::default()),
        }
    };
    let view = shared.metadata.view()?;
    if view.command_count(index)? == 0 {
        return Ok(HandedOut::default());
    }
    let due = view.commands(index, &in_hands, shared.deadline_ms(), LOOK_AHEAD)?;
    let attempts: Vec<(CommandId, u32)> = due
        .iter()
        .map(|(id, record)| (*id, record.attempts))
        .collect();
    let batch = match shared.soft().cluster.get_mut(index) {
        Some(node) => node.delivery.hand_out(&attempts, now_ms),
        None => return Ok(HandedOut::default()),
    };
    let mut answer = HandedOut {
        commands: Vec::with_capacity(batch.commands.len()),
        more: batch.more,
    };
    let mut pointless = Vec::new();
    for (id, record) in due {
        if batch.commands.binary_search(&id).is_err() {
            continue;
        }
        match action(shared, &view, index, &record)? {
            Some(action) => answer.commands.push(Command { id, action }),
            None => {
                // It may have been handed out before, and carried out.
                shared.doubt_removal(&view, index, &record.action)?;
                pointless.push((id, CommandEnd::Done));
            }
        }
    }
    if !pointless.is_empty() {
        settle(shared, index, pointless).await?;
    }
    if !answer.commands.is_empty() {
        failpoint("namenode-commands-handed-out");
    }
    Ok(answer)
}

/// Takes in how commands ended. Durable before the answer, so that the datanode may forget them.
pub async fn confirm(
    shared: &Shared,
    index: NodeIndex,
    outcomes: Vec<wire::CommandOutcome>,
) -> Result<(), StoreError> {
    if outcomes.is_empty() {
        return Ok(());
    }
    if outcomes.len() > MAX_OUTCOMES {
        return Err(WireError::Limit("outcomes").into());
    }
    let deadline_ms = shared.deadline_ms();
    let view = shared.metadata.view()?;
    let mut ends = Vec::with_capacity(outcomes.len());
    for outcome in outcomes.into_iter().map(CommandOutcome::from) {
        let id = outcome.id;
        let record = view.command(index, id)?;
        if let Some(record) = &record {
            let deed = ended(index, &record.action, &outcome.result);
            shared.note(*record.action.hash(), deed);
        }
        let end = match record {
            Some(record) if record.action.repairs().is_some() => {
                repair_ended(shared, &view, index, &record.action, outcome)?;
                CommandEnd::Done
            }
            _ => end(shared, index, outcome, deadline_ms),
        };
        ends.push((id, end));
    }
    settle(shared, index, ends).await
}

/// A copy, trim or quarantine is over, whatever came of it: repair looks at the file again and decides anew, with other
/// nodes if it can. What this tells about the file is noted before the command goes, since from then on the next is planned.
fn repair_ended(
    shared: &Shared,
    view: &View,
    index: NodeIndex,
    action: &CommandRecordAction,
    outcome: CommandOutcome,
) -> Result<(), StoreError> {
    let Some(hash) = action.repairs() else {
        return Ok(());
    };
    shared.doubt_removal(view, index, action)?;
    let told = match (&outcome.result, action) {
        (Err(_), _) => Some(EventKind::RepairFailed),
        (Ok(()), CommandRecordAction::Quarantine { .. }) => Some(EventKind::ReplicaQuarantined),
        (Ok(()), _) => None,
    };
    if let Some(kind) = told {
        shared.tell_of(index, News::of(kind).hash(*hash));
    }
    let now_ms = shared.now_ms();
    let mut soft = shared.soft();
    match (outcome.result, action) {
        (Ok(()), CommandRecordAction::Replicate { .. }) => {
            soft.repair.copied(*hash, now_ms);
            soft.events.copied();
        }
        (Ok(()), CommandRecordAction::Quarantine { .. }) => {
            // It was put aside, which the node reports, or is good.
            soft.suspects.remove(hash, index);
            soft.repair.touch(*hash);
        }
        (Ok(()), _) => soft.repair.touch(*hash),
        (Err((code, message)), action) => {
            tracing::warn!(
                node = index.0, command = outcome.id.0, %hash, ?code,
                "a repair failed and is planned anew: {message}"
            );
            let targets: &[NodeIndex] = match action {
                CommandRecordAction::Replicate { targets, .. } => targets,
                _ => &[],
            };
            let tried = targets.iter().copied().chain([index]);
            soft.repair.failed(*hash, tried, now_ms);
            if code == ErrorCode::NotFound
                && let Some(node) = soft.cluster.get_mut(index)
            {
                // It does not hold what it is believed to hold.
                node.report.doubt();
            }
        }
    }
    Ok(())
}

fn ended(
    node: NodeIndex,
    action: &CommandRecordAction,
    result: &Result<(), (ErrorCode, String)>,
) -> Deed {
    let work = Work::from(action);
    match result {
        Ok(()) => Deed::Done { node, work },
        Err((_, reason)) => Deed::Failed {
            node,
            work,
            reason: reason.clone(),
        },
    }
}

fn end(shared: &Shared, index: NodeIndex, outcome: CommandOutcome, now_ms: u64) -> CommandEnd {
    match outcome.result {
        Ok(()) => CommandEnd::Done,
        Err((code, message)) => {
            let attempts = shared
                .soft()
                .cluster
                .get(index)
                .map_or(0, |node| node.delivery.attempts(outcome.id));
            let retry_at_ms = retry_at_ms(now_ms, attempts);
            tracing::warn!(
                node = index.0,
                command = outcome.id.0,
                ?code,
                attempts,
                retry_in_ms = retry_at_ms.saturating_sub(now_ms),
                "a command failed: {message}"
            );
            CommandEnd::Failed { retry_at_ms }
        }
    }
}

/// A few at a time: an upload that is to be committed waits for one such transaction and not for all. Each outcome is on its
/// own, so those that are not taken in before a crash are told again.
async fn settle(
    shared: &Shared,
    index: NodeIndex,
    mut outcomes: Vec<(CommandId, CommandEnd)>,
) -> Result<(), StoreError> {
    while !outcomes.is_empty() {
        let rest = outcomes.split_off(outcomes.len().min(MAX_SETTLED));
        let ids: Vec<CommandId> = outcomes.iter().map(|(id, _)| *id).collect();
        let mutation = Mutation::ConfirmCommands { index, outcomes };
        shared.metadata.submit(mutation).await?;
        failpoint("namenode-commands-settled");
        // After it is durable: until then a command must not be handed out a second time.
        if let Some(node) = shared.soft().cluster.get_mut(index) {
            for id in ids {
                node.delivery.settle(id);
            }
        }
        outcomes = rest;
    }
    Ok(())
}

/// The command as the datanode gets it; `None` for one that has lost its point: the file was deleted meanwhile, or its record
/// is damaged, or the replicas that a removal relied on are not what they were (I6).
fn action(
    shared: &Shared,
    view: &View,
    index: NodeIndex,
    record: &CommandRecord,
) -> Result<Option<CommandAction>, StoreError> {
    let now_ms = shared.now_ms();
    if let CommandRecordAction::Trim { hash, .. } | CommandRecordAction::Quarantine { hash, .. } =
        &record.action
    {
        let Some(file) = file(view, hash)? else {
            return Ok(None);
        };
        let soft = shared.soft();
        let trims = matches!(record.action, CommandRecordAction::Trim { .. });
        let stands = |node| match trims {
            true => soft.is_trusted(hash, node, now_ms),
            false => soft.is_good(hash, node, now_ms),
        };
        if !still_safe(&record.action, index, &file, stands) {
            return Ok(None);
        }
    }
    match record.action.clone() {
        CommandRecordAction::Delete { hash, generation } => {
            // One without a tombstone, or with a damaged one, is as young as can be: it is remembered longer than needed.
            let marker = match ViewError::or_damage(view.tombstone(&hash))? {
                Ok(Some(tombstone)) => tombstone.marker,
                Ok(None) | Err(_) => view.summary()?.next_generation,
            };
            Ok(Some(CommandAction::Delete(RememberedDelete {
                hash,
                generation,
                marker,
            })))
        }
        CommandRecordAction::Trim {
            hash, generation, ..
        } => Ok(Some(CommandAction::Trim(ReplicaEntry { hash, generation }))),
        CommandRecordAction::Quarantine {
            hash, generation, ..
        } => Ok(Some(CommandAction::Quarantine(ReplicaEntry {
            hash,
            generation,
        }))),
        CommandRecordAction::Replicate { hash, targets } => {
            let Some(file) = file(view, &hash)? else {
                return Ok(None);
            };
            let soft = shared.soft();
            let timeouts = soft.cluster.timeouts();
            let targets: Vec<_> = targets
                .into_iter()
                .filter_map(|target| soft.cluster.get(target))
                .map(|node| node.info(Generation::default(), timeouts, now_ms))
                .collect();
            if targets.is_empty() {
                return Ok(None); // they were removed from the cluster
            }
            Ok(Some(CommandAction::Replicate {
                file: file.info(hash),
                targets,
            }))
        }
    }
}

/// A file of which something can be done: there is a record, and it is not damaged.
fn file(view: &View, hash: &ContentHash) -> Result<Option<FileRecord>, StoreError> {
    let read = ViewError::or_damage(view.file(hash))?;
    Ok(read.unwrap_or_else(|reason| {
        tracing::error!(%hash, "a command has lost its point: {reason}");
        None
    }))
}
