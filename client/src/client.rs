//! [`Client`]: one cluster, as seen from outside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use richardstore_proto::{ClusterId, ContentHash, FileInfo, FileLocations};
use richardstore_runtime::{Environment, Tasks};

use crate::error::{ClientError, SourceError};
use crate::events::{EventBatch, EventPosition};
use crate::get::{FirstByteTimes, GetOptions, GetStream, LookUpCounts, LookUps, WholeReads};
use crate::namenode::NameNode;
use crate::put::{Ledger, PutOptions, PutOutcome, WholeWrites};
use crate::status::{ClusterInfo, FilePage, NodeAdminStatus, NodeStatus, SafeModeStatus};
use crate::wishes::{NodeWish, SafeModeWish};

/// Where the cluster is, and how patient to be with it.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The namenode's `host:port`.
    pub namenode: String,
    /// A datanode that delivers no byte for this long is given up and another one is read, in milliseconds.
    pub read_progress_timeout_ms: u64,
    /// A datanode that takes no byte for this long is given up, in milliseconds. Longer, since a disk that writes back may
    /// stand still for a while; and 5 s a replica where that is more, since the nodes in front of a stuck one need that to
    /// find it.
    pub write_progress_timeout_ms: u64,
    /// Files of which it remembers for a moment where they are. For a client that lives long and reads much: deletes wait for
    /// those who remember, for a second where one has gone without a word. 0: the namenode is asked each time.
    pub remembered_files: usize,
}

/// A cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What the clones of a client share.
pub(crate) struct Shared {
    pub(crate) namenode: NameNode,
    pub(crate) environment: Environment,
    pub(crate) tasks: Tasks,
    pub(crate) ledger: Ledger,
    pub(crate) whole_writes: WholeWrites,
    pub(crate) whole_reads: WholeReads,
    pub(crate) look_ups: LookUps,
    pub(crate) read_progress_timeout: Duration,
    pub(crate) write_progress_timeout: Duration,
    pub(crate) first_byte_times: FirstByteTimes,
    cluster_id: Mutex<Option<ClusterId>>,
}

impl ClientConfig {
    /// The default patience with the cluster of `namenode` (`host:port`).
    pub fn new(namenode: impl Into<String>) -> Self {
        Self {
            namenode: namenode.into(),
            read_progress_timeout_ms: 10_000,
            write_progress_timeout_ms: 30_000,
            remembered_files: 0,
        }
    }
}

impl Client {
    /// A client of the cluster in `config`. Connects on first use.
    pub fn new(config: ClientConfig, environment: Environment) -> Self {
        let namenode = NameNode::new(config.namenode, environment.channels.clone());
        let tasks = Tasks::new();
        Self {
            shared: Arc::new(Shared {
                ledger: Ledger::new(&namenode, &tasks),
                whole_writes: WholeWrites::new(&environment.channels, &tasks),
                whole_reads: WholeReads::new(&environment.channels, &tasks),
                look_ups: LookUps::new(&namenode, &tasks, config.remembered_files),
                namenode,
                environment,
                tasks,
                read_progress_timeout: Duration::from_millis(config.read_progress_timeout_ms),
                write_progress_timeout: Duration::from_millis(config.write_progress_timeout_ms),
                first_byte_times: FirstByteTimes::default(),
                cluster_id: Mutex::new(None),
            }),
        }
    }

    /// The namenode's `host:port`.
    pub fn namenode(&self) -> &str {
        self.shared.namenode.address()
    }

    /// Stores what `source` yields. When this returns `Ok`, the file is durable on at least `min_replication` datanodes and
    /// readable by everybody (I1); otherwise, and when the future is dropped, nothing of it is left (I2).
    ///
    /// # Errors
    /// [`ClientError::Source`] with the source's own error, [`ClientError::HashMismatch`],
    /// [`ClientError::InsufficientReplicas`], [`ClientError::PipelineBroken`], or the namenode's refusal.
    pub async fn put<S>(&self, source: S, options: PutOptions) -> Result<PutOutcome, ClientError>
    where
        S: Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
    {
        crate::put::put(&self.shared, source, options).await
    }

    /// Where a file is, best replica first. The namenode is asked each time.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`](richardstore_proto::ErrorCode::NotFound), or the namenode is away.
    pub async fn locate(&self, hash: &ContentHash) -> Result<FileLocations, ClientError> {
        self.shared.look_ups.locate(hash).await
    }

    /// What is known of a file besides its bytes. Without a call where that is remembered.
    ///
    /// # Errors
    /// As [`Client::locate`].
    pub async fn describe(&self, hash: &ContentHash) -> Result<FileInfo, ClientError> {
        let (located, _) = self.shared.look_ups.find(hash).await?;
        Ok(located.file)
    }

    /// How many look-ups there were since the start.
    pub fn look_up_counts(&self) -> LookUpCounts {
        self.shared.look_ups.counts()
    }

    /// Reads `length` bytes of a file from `offset`, to the end with `None` or where the file ends before. Returns when the first
    /// bytes are here.
    ///
    /// # Errors
    /// `NotFound`, [`ClientError::RangeNotSatisfiable`] for an offset past the end, [`ClientError::Unreadable`] and
    /// [`ClientError::Corrupt`] where no replica could deliver.
    pub async fn get(
        &self,
        hash: &ContentHash,
        offset: u64,
        length: Option<u64>,
        options: GetOptions,
    ) -> Result<GetStream, ClientError> {
        crate::get::get(&self.shared, hash, offset, length, options).await
    }

    /// Deletes a file. `false` where there was none.
    ///
    /// # Errors
    /// The namenode is away or takes no changes.
    pub async fn delete(&self, hash: &ContentHash) -> Result<bool, ClientError> {
        self.shared.namenode.delete(hash).await
    }

    /// One page of files in the order of their hashes: those after `after` whose hash begins with the hex digits `prefix`.
    ///
    /// # Errors
    /// The namenode is away, or `prefix` is no hex.
    pub async fn list(
        &self,
        after: Option<ContentHash>,
        prefix: &str,
        limit: u32,
    ) -> Result<FilePage, ClientError> {
        self.shared.namenode.list(after, prefix, limit).await
    }

    /// All datanodes the namenode knows.
    ///
    /// # Errors
    /// The namenode is away.
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, ClientError> {
        self.shared.namenode.nodes().await
    }

    /// The cluster in figures.
    ///
    /// # Errors
    /// The namenode is away.
    pub async fn info(&self) -> Result<ClusterInfo, ClientError> {
        self.shared.namenode.info().await
    }

    /// Has the datanode with this id or name emptied, or puts it back in service, and says how far it is. Asking again changes
    /// nothing.
    ///
    /// # Errors
    /// No such datanode, several of that name, or the namenode is away.
    pub async fn set_node_admin(
        &self,
        node: &str,
        wish: NodeWish,
    ) -> Result<NodeAdminStatus, ClientError> {
        self.shared.namenode.set_node_admin(node, wish).await
    }

    /// Enters or leaves safe mode, or only asks whether it is on.
    ///
    /// # Errors
    /// The namenode is away.
    pub async fn set_safe_mode(&self, wish: SafeModeWish) -> Result<SafeModeStatus, ClientError> {
        self.shared.namenode.set_safe_mode(wish).await
    }

    /// The records of one metadata table as JSON lines, from one snapshot.
    ///
    /// # Errors
    /// No such table, or the namenode is away. An item that is an error ends the stream.
    pub async fn dump(
        &self,
        table: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let stream = self.shared.namenode.dump(table).await?;
        let namenode = self.shared.namenode.clone();
        Ok(stream.map(move |item| {
            item.map(|part| part.lines)
                .map_err(|status| namenode.failed("Dump")(status.into()))
        }))
    }

    /// What happens in the cluster: what the namenode remembers behind `after`, then each event as it comes.
    ///
    /// # Errors
    /// The namenode is away, or too many listen. An item that is an error ends the stream, and so does the namenode's stop.
    pub async fn follow(
        &self,
        after: Option<EventPosition>,
    ) -> Result<impl Stream<Item = Result<EventBatch, ClientError>> + Send + use<>, ClientError>
    {
        let stream = self.shared.namenode.follow(after).await?;
        let namenode = self.shared.namenode.clone();
        Ok(stream.map(move |item| {
            let response = item.map_err(|status| namenode.failed("Follow")(status.into()))?;
            EventBatch::try_from(response).map_err(namenode.malformed("Follow"))
        }))
    }

    /// Waits for work that outlives its calls: giving back what failed uploads had allocated. `false` when some was left after
    /// `limit`; those allocations expire by themselves.
    pub async fn close(&self, limit: Duration) -> bool {
        self.shared.tasks.stop(limit).await
    }
}

impl Shared {
    /// The cluster's id, asked for once.
    pub(crate) async fn cluster_id(&self) -> Result<ClusterId, ClientError> {
        let known = *self.known_cluster();
        if let Some(known) = known {
            return Ok(known);
        }
        let id = self.namenode.info().await?.cluster_id;
        *self.known_cluster() = Some(id);
        Ok(id)
    }

    /// Asks again next time: a datanode said that it belongs to another cluster.
    pub(crate) fn forget_cluster_id(&self) {
        *self.known_cluster() = None;
    }

    fn known_cluster(&self) -> std::sync::MutexGuard<'_, Option<ClusterId>> {
        self.cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
