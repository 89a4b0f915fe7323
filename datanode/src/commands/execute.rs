//! [`Commands`]: carries out what the namenode asks for, a bounded number of things at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use richardstore_failpoint::failpoint;
use richardstore_proto::{
    Command, CommandAction, CommandId, CommandOutcome, DataNodeInfo, ErrorCode, FileInfo,
    RememberedDelete, ReplicaEntry, StoreError,
};
use richardstore_store::QuarantineOutcome;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::lanes::{CopyLanes, rest};
use super::ledger::CommandLedger;
use crate::copy::{Copy, copy};
use crate::memory::not_remembered;
use crate::node::Node;
use crate::pipeline::offload_failed;

/// Deletes that are carried out before it is told how they ended.
const DELETES_A_STAGE: usize = 256;
/// Deletes at once: those that wait for the disk at the same time share its syncs.
const DELETE_LANES: usize = 16;

/// The commands of one datanode.
pub(crate) struct Commands {
    ledger: Mutex<CommandLedger>,
    ended: Notify,
    copying: CopyLanes,
    // One stage of deletes at a time: more would only compete for the same disk with uploads.
    deleting: Semaphore,
    // Each reads its replica whole; one at a time leaves the disk to readers.
    quarantining: Semaphore,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            ledger: Mutex::default(),
            ended: Notify::new(),
            copying: CopyLanes::default(),
            deleting: Semaphore::new(1),
            quarantining: Semaphore::new(1),
        }
    }
}

impl Commands {
    /// Starts those of `delivered` that are not under way.
    pub(crate) fn start(self: &Arc<Self>, node: &Arc<Node>, delivered: Vec<Command>) {
        let (mut deletes, mut quarantines) = (Vec::new(), Vec::new());
        let fresh = self.ledger().accept(delivered);
        for command in fresh {
            match command.action {
                CommandAction::Delete(delete) => {
                    let entry = ReplicaEntry {
                        hash: delete.hash,
                        generation: delete.generation,
                    };
                    deletes.push(Removal {
                        id: command.id,
                        entry,
                        remember: Some(delete),
                    });
                }
                CommandAction::Trim(entry) => deletes.push(Removal {
                    id: command.id,
                    entry,
                    remember: None,
                }),
                CommandAction::Replicate { file, targets } => {
                    let task = replicate(self.clone(), node.clone(), command.id, file, targets);
                    node.tasks.spawn(task);
                }
                CommandAction::Quarantine(entry) => quarantines.push((command.id, entry)),
            }
        }
        if !quarantines.is_empty() {
            node.tasks
                .spawn(quarantine(self.clone(), node.clone(), quarantines));
        }
        if !deletes.is_empty() {
            node.tasks
                .spawn(delete(self.clone(), node.clone(), deletes));
        }
    }

    /// Outcomes to tell with the next heartbeat.
    pub(crate) fn outcomes(&self) -> Vec<CommandOutcome> {
        self.ledger().outcomes()
    }

    /// The namenode took these.
    pub(crate) fn confirmed(&self, told: &[CommandOutcome]) {
        if self.ledger().confirmed(told) {
            self.ended.notify_one();
        }
    }

    /// Waits until there are outcomes to tell.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    fn finish(&self, ends: impl IntoIterator<Item = (CommandId, Result<(), StoreError>)>) {
        let mut ledger = self.ledger();
        for (id, result) in ends {
            ledger.finish(id, result.map_err(|error| (error.code, error.message)));
        }
        drop(ledger);
        self.ended.notify_one();
    }

    fn ledger(&self) -> MutexGuard<'_, CommandLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replica that goes.
#[derive(Clone, Copy)]
struct Removal {
    id: CommandId,
    entry: ReplicaEntry,
    /// Set where the file is deleted, and not only this replica.
    remember: Option<RememberedDelete>,
}

async fn delete(commands: Arc<Commands>, node: Arc<Node>, deletes: Vec<Removal>) {
    let stopping = node.tasks.stopping();
    for stage in deletes.chunks(DELETES_A_STAGE) {
        let turn = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            turn = commands.deleting.acquire() => turn,
        };
        let _turn = turn.expect("the semaphore is never closed");
        if let Err(error) = remember(&node, stage).await {
            let ends = stage.iter().map(|removal| (removal.id, Err(error.clone())));
            commands.finish(ends);
            continue;
        }
        let lanes = stage.chunks(stage.len().div_ceil(DELETE_LANES));
        join_all(lanes.map(|lane| delete_in_order(&commands, &node, lane))).await;
    }
}

/// Writes down the deletes of a stage, all with one sync, before the first replica goes: once nobody holds the file, nobody
/// else may know that it was deleted.
async fn remember(node: &Node, stage: &[Removal]) -> Result<(), StoreError> {
    let deletes: Vec<_> = stage
        .iter()
        .filter_map(|removal| removal.remember)
        .collect();
    if deletes.is_empty() {
        return Ok(());
    }
    let memory = node.memory.clone();
    let work = move || memory.remember(&deletes);
    let written = node.environment.offload.run(work).await;
    written
        .map_err(offload_failed)?
        .map_err(|error| not_remembered(&error))
}

async fn delete_in_order(commands: &Commands, node: &Node, lane: &[Removal]) {
    let volume = node.volume.clone();
    let work = lane.to_vec();
    let ends = node.environment.offload.run(move || {
        work.into_iter()
            // Deleted, absent and newer are all the same here: there is nothing left to do (I4).
            .map(|Removal { id, entry, .. }| {
                (
                    id,
                    volume.delete(&entry).map(|_| ()).map_err(StoreError::from),
                )
            })
            .collect::<Vec<_>>()
    });
    match ends.await {
        Ok(ends) => {
            failpoint("datanode-deleted");
            commands.finish(ends);
        }
        Err(error) => {
            tracing::error!(%error, "deletes did not come to their end");
            let mut ledger = commands.ledger();
            lane.iter().for_each(|removal| ledger.give_up(removal.id));
        }
    }
}

async fn quarantine(
    commands: Arc<Commands>,
    node: Arc<Node>,
    replicas: Vec<(CommandId, ReplicaEntry)>,
) {
    let stopping = node.tasks.stopping();
    let turn = tokio::select! {
        biased;
        () = stopping.cancelled() => return,
        turn = commands.quarantining.acquire() => turn,
    };
    let _turn = turn.expect("the semaphore is never closed");
    for (id, entry) in replicas {
        let (volume, stop) = (node.volume.clone(), stopping.clone());
        let work = move || volume.quarantine(&entry, &stop);
        match node.environment.offload.run(work).await {
            Ok(Ok(QuarantineOutcome::Interrupted)) => return,
            // Sound, newer and absent are done too: nothing bad has the name.
            Ok(result) => {
                let result = result.map(|_| ()).map_err(StoreError::from);
                commands.finish([(id, result)]);
            }
            Err(error) => {
                tracing::error!(hash = %entry.hash, %error, "a quarantine did not come to its end");
                commands.ledger().give_up(id);
            }
        }
    }
}

async fn replicate(
    commands: Arc<Commands>,
    node: Arc<Node>,
    id: CommandId,
    file: FileInfo,
    targets: Vec<DataNodeInfo>,
) {
    let stopping = node.tasks.stopping();
    let _turn = tokio::select! {
        biased;
        () = stopping.cancelled() => return,
        turn = commands.copying.take(file.size, || node.uploads.any()) => turn,
    };
    let request = Copy {
        hash: file.hash,
        generation: file.generation,
        chain: targets,
        request_id: format!("command-{id}"),
    };
    let begun = Instant::now();
    let result = tokio::select! {
        biased;
        () = node.cut.cancelled() => return,
        result = copy(&node, request) => result,
    };
    commands.finish([(id, result.and_then(whole))]);
    if node.uploads.any() {
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(rest(begun.elapsed())) => {}
        }
    }
}

/// A copy that not all targets have is not done. Those that have it report it themselves.
fn whole(result: richardstore_proto::PipelineResult) -> Result<(), StoreError> {
    match result.failed.into_iter().next() {
        None if result.acknowledged.is_empty() => Err(StoreError::new(
            ErrorCode::InvalidArgument,
            "a copy without targets",
        )),
        None => Ok(()),
        Some(failure) => Err(StoreError::new(
            failure.code,
            format!("datanode {}: {}", failure.node_id, failure.message),
        )),
    }
}
