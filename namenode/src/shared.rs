//! [`Shared`]: what the calls and the ticker of one namenode have in common.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use richardstore_proto::{
    ContentHash, DataNodeInfo, ErrorCode, FileLocations, NamenodeEpoch, NodeId, SessionEpoch,
    StoreError,
};
use richardstore_runtime::{Environment, OffloadError, Tasks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::cluster::SessionRefusal;
use crate::config::NamenodeConfig;
use crate::copies::Copies;
use crate::event_log::News;
use crate::file_history::Deed;
use crate::location_leases::LocationLeases;
use crate::metadata::{COPIES, Metadata, View, ViewError};
use crate::metrics::NamenodeMetrics;
use crate::read_order::{self, ReadOrder};
use crate::record::{CommandRecordAction, FileRecord, NodeIndex};
use crate::service::SharedLeases;
use crate::soft_state::SoftState;

/// Watchers of the events at once: gateways with a page open somewhere.
const MAX_WATCHERS: usize = 256;
/// Calls that delete files at once. Apart from those that commit: a delete may wait for somebody who is gone.
const MAX_DELETE_CALLS: usize = 1024;
/// Calls that commit files at once. A call that finds no place waits, for as long as its caller does.
const MAX_COMMIT_CALLS: usize = 1024;

/// State and surroundings of one running namenode.
pub struct Shared {
    /// The durable part.
    pub metadata: Metadata,
    /// The settings.
    pub config: NamenodeConfig,
    /// Clock and threads.
    pub environment: Environment,
    /// This start, counted.
    pub epoch: NamenodeEpoch,
    /// `host:port` that others reach it at.
    pub address: String,
    /// What runs besides the calls, and the signal to stop.
    pub tasks: Tasks,
    /// What is counted.
    pub metrics: NamenodeMetrics,
    /// Held while what is wanted of a node changes, durably and in the soft state, so that the two agree.
    pub node_admin: tokio::sync::Mutex<()>,
    /// Places for those who watch the events.
    pub watchers: Arc<Semaphore>,
    /// Places for calls that commit files, which go on when their callers have gone away (I11).
    pub commits: Arc<Semaphore>,
    /// Places for calls that delete files, likewise.
    pub deletes: Arc<Semaphore>,
    /// Who remembers where files are.
    pub leases: Arc<SharedLeases>,
    /// Copies of the metadata.
    pub copies: Copies,
    soft: Mutex<SoftState>,
    started: Instant,
    started_wall_ms: u64,
    reads: AtomicU64,
}

impl Shared {
    /// Starts the monotonic clock at 0.
    pub fn new(
        metadata: Metadata,
        config: NamenodeConfig,
        environment: Environment,
        epoch: NamenodeEpoch,
        address: String,
        tasks: Tasks,
        soft: SoftState,
    ) -> Self {
        let leases = LocationLeases::at_start(epoch, config.location_lease_ms);
        Self {
            started_wall_ms: environment.clock.now_ms(),
            copies: Copies::new(config.dir.join(COPIES)),
            metadata,
            config,
            environment,
            epoch,
            address,
            tasks,
            metrics: NamenodeMetrics::default(),
            node_admin: tokio::sync::Mutex::new(()),
            commits: Arc::new(Semaphore::new(MAX_COMMIT_CALLS)),
            deletes: Arc::new(Semaphore::new(MAX_DELETE_CALLS)),
            leases: Arc::new(SharedLeases::new(leases)),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            soft: Mutex::new(soft),
            started: Instant::now(),
            reads: AtomicU64::new(0),
        }
    }

    /// Monotonic milliseconds since the start: for silences and deadlines, which a step of the wall clock must not move.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the Unix epoch: for times that are written down.
    pub fn wall_ms(&self) -> u64 {
        self.environment.clock.now_ms()
    }

    /// What the wall clock said at the start, and how long that is ago: for deadlines that are written down. A step of the
    /// wall clock moves none of them while this namenode runs, and the next start sets them anew.
    pub fn deadline_ms(&self) -> u64 {
        self.started_wall_ms.saturating_add(self.now_ms())
    }

    /// When a write allocated or renewed now is given up, see [`Shared::deadline_ms`].
    pub fn write_expiry_ms(&self) -> u64 {
        self.deadline_ms()
            .saturating_add(self.config.write_timeout_ms)
    }

    /// The soft state. Held for memory work only.
    pub fn soft(&self) -> MutexGuard<'_, SoftState> {
        self.soft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries `work` out to its end, also when the caller goes away, which cuts its call: what follows a commit is to follow it all the
    /// same. `place` is free again then.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`]: the namenode stopped before the end.
    pub async fn to_the_end<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.tasks.spawn(async move {
            drop(sender.send(work.await));
            drop(place);
        });
        let cut_off = |_| StoreError::new(ErrorCode::Unavailable, "the call was cut off");
        answer.await.map_err(cut_off)
    }

    /// Tells those who watch.
    pub fn tell(&self, news: News) {
        let wall_ms = self.wall_ms();
        self.soft().events.tell(news, wall_ms);
    }

    /// Remembers what was done to a file.
    pub fn note(&self, hash: ContentHash, deed: Deed) {
        let wall_ms = self.wall_ms();
        self.soft().history.note(hash, deed, wall_ms);
    }

    /// Tells those who watch something about a datanode.
    pub fn tell_of(&self, index: NodeIndex, news: News) {
        let wall_ms = self.wall_ms();
        let mut soft = self.soft();
        if let Some(node) = soft.cluster.get(index) {
            let news = news.node(node.node_id, &node.name);
            soft.events.tell(news, wall_ms);
        }
    }

    /// The number of the node that calls. `None`: it has to register.
    ///
    /// # Errors
    /// [`ErrorCode::Fenced`] where a newer session of the node has registered.
    pub fn session(
        &self,
        node_id: &NodeId,
        session: SessionEpoch,
    ) -> Result<Option<NodeIndex>, StoreError> {
        match self.soft().session(node_id, session) {
            Ok(index) => Ok(Some(index)),
            Err(SessionRefusal::Unregistered) => Ok(None),
            Err(SessionRefusal::Fenced { newest }) => Err(StoreError::new(
                ErrorCode::Fenced,
                format!("node {node_id}: session {session} is fenced by session {newest}"),
            )),
        }
    }

    /// `node` may have carried out `action`: if that removes a replica that is still on record, nothing may rely on it until
    /// the node has reported.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn doubt_removal(
        &self,
        view: &View,
        node: NodeIndex,
        action: &CommandRecordAction,
    ) -> Result<(), ViewError> {
        let (CommandRecordAction::Trim { hash, .. } | CommandRecordAction::Quarantine { hash, .. }) =
            action
        else {
            return Ok(());
        };
        let held = match ViewError::or_damage(view.file(hash))? {
            Ok(file) => file.is_some_and(|file| file.replica(node).is_some()),
            // Nobody knows.
            Err(_) => true,
        };
        let now_ms = self.now_ms();
        let mut soft = self.soft();
        if held
            && !soft.repair.doubt(*hash, node, now_ms)
            && let Some(known) = soft.cluster.get_mut(node)
        {
            known.report.doubt();
        }
        Ok(())
    }

    /// Where a file is, best node first, and how many of the first nodes are equally good.
    pub fn locate(&self, hash: ContentHash, record: &FileRecord) -> (FileLocations, usize) {
        let now_ms = self.now_ms();
        let turn = self.reads.fetch_add(1, Ordering::Relaxed);
        let soft = self.soft();
        let timeouts = soft.cluster.timeouts();
        let holders: Vec<_> = record
            .replicas
            .iter()
            .filter_map(|replica| soft.cluster.get(replica.node))
            .map(|node| {
                let suspect = soft.suspects.contains(&hash, node.index);
                node.holder(suspect, timeouts, now_ms)
            })
            .collect();
        let info = |index: NodeIndex| -> Option<DataNodeInfo> {
            let generation = record.replica(index)?.generation;
            let node = soft.cluster.get(index)?;
            Some(node.info(generation, timeouts, now_ms))
        };
        let ReadOrder { nodes, equal } = read_order::order(&holders, turn);
        let locations = FileLocations {
            file: record.info(hash),
            nodes: nodes.into_iter().filter_map(info).collect(),
        };
        (locations, equal)
    }
}

/// A place among `places`. Who finds none waits, for as long as its caller does.
pub async fn place_among(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let place = places.clone().acquire_owned().await;
    place.expect("the semaphore is never closed")
}

/// Blocking work that was lost, as callers see it.
pub fn offload_failed(error: OffloadError) -> StoreError {
    let code = match error {
        OffloadError::Panicked(_) => ErrorCode::Internal,
        OffloadError::Cancelled => ErrorCode::Unavailable,
    };
    StoreError::new(code, error.to_string())
}
