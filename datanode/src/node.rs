//! [`Node`]: what the parts of one running datanode share.

use std::sync::{Arc, Mutex, PoisonError};

use richardstore_proto::{
    DataNodeInfo, ErrorCode, Generation, JournalId, NodeState, NodeStats, Sequence, StoreError,
};
use richardstore_runtime::{Environment, Tasks};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::bad_replicas::BadReplicas;
use crate::config::DatanodeConfig;
use crate::membership::Membership;
use crate::memory::Memory;
use crate::metrics::DatanodeMetrics;
use crate::namenode::NamenodeLink;
use crate::pipeline::{SmallCopies, SmallFiles, offload_failed};
use crate::recent_uploads::RecentUploads;
use crate::volume::Volume;

/// What the namenode answered to the registration in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The journal that was registered.
    pub(crate) journal_id: JournalId,
    /// Report from here.
    pub(crate) next_sequence: Sequence,
}

/// One running datanode.
pub(crate) struct Node {
    pub(crate) config: DatanodeConfig,
    pub(crate) environment: Environment,
    /// `host:port` as others reach it.
    pub(crate) address: String,
    pub(crate) volume: Arc<Volume>,
    /// Publishes them on the volume.
    pub(crate) small_files: Arc<SmallFiles>,
    /// Sends them to other nodes.
    pub(crate) small_copies: SmallCopies,
    /// Copies make room for them.
    pub(crate) uploads: RecentUploads,
    pub(crate) membership: Membership,
    /// What is kept for a namenode that may lose its metadata.
    pub(crate) memory: Arc<Memory>,
    pub(crate) namenode: NamenodeLink,
    pub(crate) bad_replicas: BadReplicas,
    /// Loops and copies; its token stops them.
    pub(crate) tasks: Tasks,
    /// Cancelled when draining has taken too long: cuts the streams that are left.
    pub(crate) cut: CancellationToken,
    pub(crate) registration: watch::Sender<Option<Registration>>,
    /// Someone was told that this datanode is not registered.
    pub(crate) register_again: Notify,
    /// The operator wants the scrub to begin anew now.
    pub(crate) scrub_wanted: Notify,
    /// What is counted.
    pub(crate) metrics: DatanodeMetrics,
    /// The namenode wants a full report.
    pub(crate) full_report_wanted: Notify,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    failure: Mutex<Option<StoreError>>,
    failed: CancellationToken,
}

impl Node {
    /// A node with nothing running yet.
    pub(crate) fn new(
        config: DatanodeConfig,
        environment: Environment,
        address: String,
        volume: Arc<Volume>,
        membership: Membership,
        memory: Arc<Memory>,
    ) -> Self {
        let tasks = Tasks::new();
        Self {
            uploads: RecentUploads::default(),
            small_copies: SmallCopies::new(&tasks, &environment.channels),
            small_files: Arc::new(SmallFiles::new(&tasks, &volume, environment.offload)),
            namenode: NamenodeLink::new(config.namenode.clone(), environment.channels.clone()),
            writes: Arc::new(Semaphore::new(config.max_writes)),
            reads: Arc::new(Semaphore::new(config.max_reads)),
            bad_replicas: BadReplicas::default(),
            tasks,
            cut: CancellationToken::new(),
            registration: watch::Sender::new(None),
            register_again: Notify::new(),
            scrub_wanted: Notify::new(),
            metrics: DatanodeMetrics::default(),
            full_report_wanted: Notify::new(),
            failure: Mutex::new(None),
            failed: CancellationToken::new(),
            config,
            environment,
            address,
            volume,
            membership,
            memory,
        }
    }

    /// Room for one more write.
    pub(crate) fn admit_write(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.admit(&self.writes, 1, "writes")
    }

    /// Room for `count` small writes that arrive together. Where there is some room they are taken, even when it is less than they
    /// fill: refused together, each would come again alone.
    pub(crate) fn admit_writes(&self, count: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        self.admit_some(&self.writes, count, "writes")
    }

    /// Room for one more read or copy.
    pub(crate) fn admit_read(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.admit(&self.reads, 1, "reads")
    }

    /// Room for `count` reads that are wanted together, as [`Node::admit_writes`].
    pub(crate) fn admit_reads(&self, count: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        self.admit_some(&self.reads, count, "reads")
    }

    fn admit_some(
        &self,
        room: &Arc<Semaphore>,
        count: usize,
        what: &str,
    ) -> Result<OwnedSemaphorePermit, StoreError> {
        let some = room.available_permits().clamp(1, count.max(1));
        // Somebody may take of it meanwhile.
        self.admit(room, some, what)
            .or_else(|_| self.admit(room, 1, what))
    }

    fn admit(
        &self,
        room: &Arc<Semaphore>,
        count: usize,
        what: &str,
    ) -> Result<OwnedSemaphorePermit, StoreError> {
        if self.tasks.stopping().is_cancelled() {
            return Err(StoreError::new(
                ErrorCode::Unavailable,
                "the datanode is stopping",
            ));
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        room.clone().try_acquire_many_owned(count).map_err(|_| {
            StoreError::new(
                ErrorCode::Unavailable,
                format!(
                    "datanode {} has no room for more {what}",
                    self.membership.node_id()
                ),
            )
        })
    }

    /// This datanode as it introduces itself.
    pub(crate) fn info(&self, generation: Generation) -> DataNodeInfo {
        DataNodeInfo {
            node_id: self.membership.node_id(),
            address: self.address.clone(),
            state: NodeState::Live,
            name: self.config.name.clone(),
            rack: self.config.rack.clone(),
            generation,
        }
    }

    /// Space and load at this moment.
    pub(crate) async fn stats(&self) -> Result<NodeStats, StoreError> {
        let volume = self.volume.clone();
        let mut stats = self
            .environment
            .offload
            .run(move || volume.stats())
            .await
            .map_err(offload_failed)?;
        stats.active_writes = in_use(&self.writes, self.config.max_writes);
        stats.active_reads = in_use(&self.reads, self.config.max_reads);
        Ok(stats)
    }

    /// Spreads the retries of different datanodes.
    pub(crate) fn backoff_seed(&self) -> u64 {
        let id = self.membership.node_id();
        let mut half = [0; 8];
        half.copy_from_slice(&id.as_bytes()[..8]);
        u64::from_be_bytes(half)
    }

    /// Something that this datanode cannot go on from.
    pub(crate) fn fail(&self, error: StoreError) {
        tracing::error!(code = ?error.code, %error, "the datanode cannot go on");
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.failed.cancel();
    }

    /// Resolves when [`Node::fail`] was called.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// What it failed of.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn in_use(room: &Semaphore, size: usize) -> u32 {
    u32::try_from(size.saturating_sub(room.available_permits())).unwrap_or(u32::MAX)
}
