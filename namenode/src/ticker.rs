//! [`run_ticker`], [`run_expiry`] and [`run_maintenance`]: what happens because time passed. Nodes fall silent, safe mode ends,
//! writes run out, maintenance is over.

use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::EventKind;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cluster::Transition;
use crate::event_log::News;
use crate::liveness::Liveness;
use crate::metadata::ViewError;
use crate::mutation::{Mutation, MutationError, Reply};
use crate::service::end_overdue_maintenance;
use crate::shared::Shared;
use crate::soft_state::SoftState;

/// Allocations given up in one transaction.
const EXPIRE_BATCH: usize = 256;
/// How often writes that ran out are looked for, at most and at least.
const EXPIRE_MIN: Duration = Duration::from_millis(250);
const EXPIRE_MAX: Duration = Duration::from_secs(5);

/// Watches the datanodes until the namenode stops. It waits for nothing but time: a tick that comes late is taken for a
/// pause of the whole process.
pub async fn run_ticker(shared: Arc<Shared>) {
    let period = Duration::from_millis((shared.config.heartbeat_interval_ms / 2).clamp(5, 1_000));
    let mut ticks = Ticks::every(period, shared.tasks.stopping());
    while ticks.next().await {
        observe(&shared);
    }
}

/// Gives up writes that ran out, until the namenode stops.
pub async fn run_expiry(shared: Arc<Shared>) {
    let period =
        Duration::from_millis(shared.config.write_timeout_ms / 8).clamp(EXPIRE_MIN, EXPIRE_MAX);
    let mut ticks = Ticks::every(period, shared.tasks.stopping());
    while ticks.next().await {
        if let Err(error) = expire_writes(&shared).await {
            tracing::warn!("writes that ran out were not given up: {error}");
        }
    }
}

/// Ends maintenance whose time is over, until the namenode stops.
pub async fn run_maintenance(shared: Arc<Shared>) {
    let mut ticks = Ticks::every(EXPIRE_MIN, shared.tasks.stopping());
    while ticks.next().await {
        if let Err(error) = end_overdue_maintenance(&shared).await {
            tracing::warn!("a maintenance was not ended: {error}");
        }
    }
}

/// A beat that ends with the namenode.
pub(crate) struct Ticks {
    interval: Interval,
    stopping: CancellationToken,
}

impl Ticks {
    /// One tick at once, then one each `period`.
    pub(crate) fn every(period: Duration, stopping: CancellationToken) -> Self {
        let mut interval = interval(period);
        // After a pause of the process the missed ticks have nothing to say that the next one does not.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, stopping }
    }

    /// Waits for the next tick. `false`: the namenode stops.
    pub(crate) async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => false,
            _ = self.interval.tick() => true,
        }
    }
}

fn observe(shared: &Shared) {
    let now_ms = shared.now_ms();
    let mut soft = shared.soft();
    let tick = soft.tick(now_ms);
    if let Some(paused_ms) = tick.paused_ms {
        tracing::warn!(
            paused_ms,
            "the namenode was held up; its datanodes get as much more time"
        );
    }
    let wall_ms = shared.wall_ms();
    let SoftState {
        cluster,
        events,
        repair,
        ..
    } = &mut *soft;
    for transition in &tick.transitions {
        if let Some(node) = cluster.get(transition.index) {
            log(transition, &node.name, node.silent_ms(now_ms));
            let news = News::of(kind(transition.to)).node(node.node_id, &node.name);
            events.tell(news, wall_ms);
        }
    }
    if tick.safe_mode_over {
        tracing::info!("safe mode is over");
        events.tell(News::of(EventKind::SafeModeOver), wall_ms);
    }
    events.tick(repair.progress, wall_ms);
}

fn kind(liveness: Liveness) -> EventKind {
    match liveness {
        Liveness::Live => EventKind::NodeLive,
        Liveness::Stale => EventKind::NodeStale,
        Liveness::Dead => EventKind::NodeDead,
    }
}

fn log(transition: &Transition, name: &str, silent_ms: u64) {
    let node = transition.index.0;
    match transition.to {
        Liveness::Live => tracing::info!(node, name, "datanode is live"),
        Liveness::Stale => tracing::warn!(node, name, silent_ms, "datanode is stale"),
        Liveness::Dead => tracing::warn!(node, name, silent_ms, "datanode is dead"),
    }
}

#[derive(Debug, thiserror::Error)]
enum ExpireError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Mutation(#[from] MutationError),
}

async fn expire_writes(shared: &Shared) -> Result<(), ExpireError> {
    let counts = shared.metadata.view()?.counts()?;
    // An idle namenode commits nothing. Tombstones may be waiting for a write that has just ended.
    if counts.writes == 0 && counts.tombstones == 0 {
        return Ok(());
    }
    let now_ms = shared.deadline_ms();
    let limit = EXPIRE_BATCH;
    let reply = shared
        .metadata
        .submit(Mutation::ExpireWrites { now_ms, limit })
        .await?;
    if let Reply::Expired { count } = reply
        && count > 0
    {
        tracing::info!(count, "gave up writes that were not committed in time");
    }
    Ok(())
}
