//! The session with the namenode: registration, heartbeats, and what the answers mean.
//!
//! It outlives any outage of the namenode; nothing else in the datanode waits for it. Only two answers end a datanode:
//! another cluster, and a newer session under the same id (I10).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::wire::{self, cluster_field, list_field, to_bytes};
use richardstore_proto::{
    Command, ErrorCode, Generation, MetadataCopy, NamenodeEpoch, Sequence, StoreError,
};
use richardstore_runtime::Offload;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};

use crate::backoff::Backoff;
use crate::commands::Commands;
use crate::node::{Node, Registration};
use crate::pipeline::offload_failed;
use crate::volume::VolumeError;

/// Commands in one answer that are read at most.
const MAX_COMMANDS: usize = 10_000;
/// Remembered deletes in one message.
const RECALL_PAGE: usize = 4096;
/// Bounds on the heartbeat interval that a namenode may ask for.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// Why a registration is over.
enum SessionEnd {
    /// Register again: unknown to the namenode, or with another journal.
    Again,
    /// The datanode is stopping or has failed.
    Over,
}

/// Keeps a session with the namenode until the datanode stops.
pub(crate) async fn keep_session(node: Arc<Node>, commands: Arc<Commands>) {
    let stopping = node.tasks.stopping();
    let mut backoff = Backoff::new(node.backoff_seed());
    loop {
        match register(&node).await {
            Ok(interval) => {
                backoff.reset();
                match heartbeats(&node, &commands, interval).await {
                    SessionEnd::Again => node.registration.send_replace(None),
                    SessionEnd::Over => return,
                };
            }
            Err(error) if is_final(&error) => return node.fail(error),
            Err(error) => tracing::warn!(%error, "not registered with the namenode"),
        }
        // Also after a session that ended: a namenode that forgets at once must not be flooded with registrations.
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

fn is_final(error: &StoreError) -> bool {
    matches!(error.code, ErrorCode::WrongCluster | ErrorCode::Fenced)
}

/// Registers and returns the heartbeat interval.
async fn register(node: &Node) -> Result<Duration, StoreError> {
    let volume = node.volume.clone();
    let journal = node
        .environment
        .offload
        .run(move || volume.with_index(|index| Ok((index.journal_id(), index.next_sequence()))));
    let (journal_id, journal_next) = journal
        .await
        .map_err(offload_failed)?
        .map_err(|error: VolumeError| StoreError::from(error))?;
    let identity = node.membership.identity();
    let request = wire::RegisterRequest {
        node_id: to_bytes(identity.node_id.as_bytes()),
        cluster_id: identity
            .cluster_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        session_epoch: identity.session_epoch.0,
        name: node.config.name.clone(),
        address: node.address.clone(),
        rack: node.config.rack.clone(),
        stats: Some(node.stats().await?.into()),
        journal_id: to_bytes(journal_id.as_bytes()),
        journal_next: journal_next.0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answer = node.namenode.register(request).await?;
    meet(node, &answer.cluster_id, answer.namenode_epoch).await?;
    if identity.namenode_epoch.0 != answer.namenode_epoch {
        node.bad_replicas.tell_again(node.volume.suspects());
    }
    if answer.next_sequence > journal_next.0 {
        // Our next events would be taken for old ones and dropped. Only a new journal gets out of that.
        node.volume
            .discard_index("the namenode has seen more of the journal than there is");
    }
    if answer.deletes_wanted {
        recall_deletes(node).await?;
    }
    tracing::info!(
        node = %identity.node_id,
        epoch = answer.namenode_epoch,
        next_sequence = answer.next_sequence,
        "registered"
    );
    node.registration.send_replace(Some(Registration {
        journal_id,
        next_sequence: Sequence(answer.next_sequence),
    }));
    if answer.full_report_wanted {
        node.full_report_wanted.notify_one();
    }
    Ok(Duration::from_millis(answer.heartbeat_interval_ms).clamp(MIN_INTERVAL, MAX_INTERVAL))
}

async fn meet(node: &Node, cluster_id: &str, epoch: u64) -> Result<(), StoreError> {
    let cluster = cluster_field(cluster_id)?;
    node.membership
        .meet(node.environment.offload, cluster, NamenodeEpoch(epoch))
        .await
}

async fn heartbeats(node: &Arc<Node>, commands: &Arc<Commands>, interval: Duration) -> SessionEnd {
    let stopping = node.tasks.stopping();
    let mut journal = node.volume.journal();
    journal.mark_unchanged();
    let registered = node.registration.borrow().map(|it| Some(it.journal_id));
    let mut backoff = Backoff::new(node.backoff_seed());
    loop {
        let wait = match heartbeat(node, commands).await {
            Ok(true) => {
                backoff.reset();
                interval
            }
            Ok(false) => return SessionEnd::Again,
            Err(error) if is_final(&error) => {
                node.fail(error);
                return SessionEnd::Over;
            }
            Err(error) => {
                tracing::debug!(%error, "a heartbeat was lost");
                backoff.next_wait()
            }
        };
        let connected = wait == interval;
        tokio::select! {
            biased;
            () = stopping.cancelled() => return SessionEnd::Over,
            () = node.register_again.notified() => return SessionEnd::Again,
            _ = journal.changed() => {}
            // Told at once while the namenode listens; an outage is waited out at the backoff's pace.
            () = commands.ended(), if connected => {}
            () = tokio::time::sleep(wait) => {}
        }
        let current = *journal.borrow_and_update();
        if current.is_some() && Some(current) != registered {
            return SessionEnd::Again;
        }
    }
}

/// One heartbeat. `false`: the namenode does not know this session.
async fn heartbeat(node: &Arc<Node>, commands: &Arc<Commands>) -> Result<bool, StoreError> {
    let identity = node.membership.identity();
    let told = commands.outcomes();
    let request = wire::HeartbeatRequest {
        node_id: to_bytes(identity.node_id.as_bytes()),
        session_epoch: identity.session_epoch.0,
        namenode_epoch: identity.namenode_epoch.0,
        address: node.address.clone(),
        stats: Some(node.stats().await?.into()),
        outcomes: told.iter().cloned().map(Into::into).collect(),
        cluster_id: identity
            .cluster_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
    };
    let answer = node.namenode.heartbeat(request).await?;
    if answer.unregistered {
        return Ok(false);
    }
    // Before anything in the answer is believed: commands of an old or foreign namenode are not for us (I10).
    meet(node, &answer.cluster_id, answer.namenode_epoch).await?;
    commands.confirmed(&told);
    keep_memory(node, &answer).await?;
    if answer.full_report_wanted {
        node.full_report_wanted.notify_one();
    }
    let delivered = list_field("commands", answer.commands, MAX_COMMANDS, Command::try_from)?;
    commands.start(node, delivered);
    Ok(true)
}

/// Tells a namenode whose metadata was restored which deletes are remembered here. Before the first report: a file that was
/// deleted is not to come back, not even for a moment, because of a replica that somebody still holds.
async fn recall_deletes(node: &Node) -> Result<(), StoreError> {
    let offload = node.environment.offload;
    let ahead = match offload {
        Offload::Threads => 1,
        // Nothing could be sent while the reading holds the only thread.
        Offload::Inline => Semaphore::MAX_PERMITS,
    };
    let (pages, mut received) = mpsc::channel(ahead);
    let memory = node.memory.clone();
    let reading = offload.run(move || {
        let mut page: Vec<wire::RememberedDelete> = Vec::new();
        let read = memory.visit_deletes(&mut |delete| {
            page.push(delete.into());
            if page.len() < RECALL_PAGE {
                return ControlFlow::Continue(());
            }
            pass_on(&pages, std::mem::take(&mut page))
        });
        if !page.is_empty() {
            // Where nobody takes it, the telling has failed, and says so.
            let _ = pass_on(&pages, page);
        }
        read
    });
    // It owns the receiving end: where it fails, the reading must not wait for room for ever.
    let telling = async move {
        let identity = node.membership.identity();
        while let Some(deletes) = received.recv().await {
            let request = wire::RecallDeletesRequest {
                node_id: to_bytes(identity.node_id.as_bytes()),
                session_epoch: identity.session_epoch.0,
                deletes,
            };
            if node.namenode.recall_deletes(request).await?.unregistered {
                return Err(StoreError::new(
                    ErrorCode::Unavailable,
                    "the namenode forgot this session",
                ));
            }
        }
        Ok(())
    };
    let (read, told) = tokio::join!(reading, telling);
    told?;
    read.map_err(offload_failed)?
        .map_err(|error| StoreError::new(ErrorCode::Internal, error.to_string()))
}

/// Waits until there is room; breaks when nobody reads any more. To be called where blocking is allowed, unless there is room.
fn pass_on<T>(pages: &mpsc::Sender<T>, page: T) -> ControlFlow<()> {
    let page = match pages.try_send(page) {
        Ok(()) => return ControlFlow::Continue(()),
        Err(TrySendError::Closed(_)) => return ControlFlow::Break(()),
        Err(TrySendError::Full(page)) => page,
    };
    match pages.blocking_send(page) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// Takes in what the namenode wants to be remembered, and what may be forgotten.
async fn keep_memory(node: &Node, answer: &wire::HeartbeatResponse) -> Result<(), StoreError> {
    let before = Generation(answer.forget_deletes_before);
    let copy = answer
        .newest_copy
        .clone()
        .map(MetadataCopy::try_from)
        .transpose()?
        .filter(|copy| node.memory.is_new(copy));
    let cluster = cluster_field(&answer.cluster_id)?;
    if copy.is_none() && !node.memory.may_forget(before) {
        return Ok(());
    }
    let memory = node.memory.clone();
    let work = move || {
        memory.forget_before(before);
        if let Some(copy) = copy {
            memory.note_copy(cluster, copy);
        }
    };
    node.environment
        .offload
        .run(work)
        .await
        .map_err(offload_failed)
}
