//! [`Namenode`]: the running role, from the directory to the port and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::wire::event_log_server::EventLogServer;
use richardstore_proto::wire::name_node_admin_server::NameNodeAdminServer;
use richardstore_proto::wire::name_node_recovery_server::NameNodeRecoveryServer;
use richardstore_proto::wire::name_node_server::NameNodeServer;
use richardstore_proto::wire::{DESCRIPTOR, MAX_MESSAGE_BYTES};
use richardstore_proto::{ClusterId, EventKind};
use richardstore_runtime::metrics::{Observed, serve_metrics};
use richardstore_runtime::{
    BoundServer, Environment, OffloadError, ServeError, Tasks, grpc_server, serve_grpc,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic_health::server::HealthReporter;

use crate::cluster::Cluster;
use crate::config::{ConfigError, NamenodeConfig};
use crate::copies::{CopyShelf, run_copies};
use crate::event_log::News;
use crate::file_history::FileHistory;
use crate::history_log::run_history;
use crate::liveness::Timeouts;
use crate::metadata::{Metadata, MetadataOptions, OpenError, ViewError};
use crate::metrics::ObservedNamenode;
use crate::mutation::{Mutation, MutationError, Reply};
use crate::record::NodeRecord;
use crate::repair::{run_emptying, run_removals, run_repair};
use crate::service::{AdminService, EventLogService, NameNodeService, RecoveryService};
use crate::shared::Shared;
use crate::soft_state::SoftState;
use crate::ticker::{run_expiry, run_maintenance, run_ticker};

/// What the database gets of the stop's time limit once the calls have ended or were given up.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Why a namenode did not start.
#[derive(Debug, thiserror::Error)]
pub enum NamenodeError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metadata cannot be used as it is.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The port cannot be used.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Opening it did not come back.
    #[error(transparent)]
    Offload(#[from] OffloadError),
    /// The first read failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The new epoch was not taken down.
    #[error("the start was not recorded: {0}")]
    Epoch(MutationError),
    /// The reflection service does not accept its own descriptors.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running namenode.
pub struct Namenode {
    address: SocketAddr,
    shared: Arc<Shared>,
    metrics_address: Option<SocketAddr>,
    metadata: Metadata,
    tasks: Tasks,
    health: HealthReporter,
    serving_failed: CancellationToken,
}

impl Namenode {
    /// Opens the metadata, counts this start, and serves. Files can be read as soon as this returns.
    ///
    /// # Errors
    /// [`NamenodeError`]; nothing is left running then.
    pub async fn start(
        config: NamenodeConfig,
        environment: Environment,
    ) -> Result<Self, NamenodeError> {
        config.check()?;
        let bound = environment.bind(&config.listen).await?.for_small_answers();
        let metrics = match &config.metrics_listen {
            Some(listen) => Some(environment.bind(listen).await?),
            None => None,
        };
        let options = MetadataOptions {
            cache_bytes: config.cache_bytes,
            reserve_bytes: config.reserve_bytes,
            ..MetadataOptions::default()
        };
        let metadata = {
            let (dir, environment) = (config.dir.clone(), environment.clone());
            environment
                .offload
                .run(move || Metadata::open(&dir, &options, &environment))
                .await??
        };
        let started = Self::serve((bound, metrics), config, environment, metadata.clone()).await;
        if started.is_err() {
            metadata.close().await;
        }
        started
    }

    async fn serve(
        (bound, metrics): (BoundServer, Option<BoundServer>),
        config: NamenodeConfig,
        environment: Environment,
        metadata: Metadata,
    ) -> Result<Self, NamenodeError> {
        let tasks = Tasks::new();
        let address = bound.address();
        let shared = Arc::new(prepare(&tasks, address, config, environment, &metadata).await?);
        let (health, router) = routes(shared.clone()).await?;
        tasks.spawn(run_ticker(shared.clone()));
        tasks.spawn(run_expiry(shared.clone()));
        tasks.spawn(run_repair(shared.clone()));
        tasks.spawn(run_emptying(shared.clone()));
        tasks.spawn(run_removals(shared.clone()));
        tasks.spawn(run_maintenance(shared.clone()));
        tasks.spawn(run_copies(shared.clone()));
        tasks.spawn(run_history(shared.clone()));
        let metrics_address = metrics.as_ref().map(BoundServer::address);
        if let Some(bound) = metrics {
            let role = Arc::new(ObservedNamenode::new(shared.clone()));
            tasks.spawn(serve_metrics(bound, role, tasks.stopping()));
        }
        let serving_failed = CancellationToken::new();
        let (stopping, failed) = (tasks.stopping(), serving_failed.clone());
        tasks.spawn(async move {
            if let Err(error) = serve_grpc(bound, router, stopping).await {
                tracing::error!("the namenode stopped serving: {error}");
                failed.cancel();
            }
        });
        Ok(Self {
            address,
            shared,
            metrics_address,
            metadata,
            tasks,
            health,
            serving_failed,
        })
    }

    /// The address it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address it shows its metrics at, with the real port.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The cluster its metadata belongs to.
    pub fn cluster_id(&self) -> ClusterId {
        self.metadata.cluster_id()
    }

    /// Copies of the metadata taken from now on are also stored as files of `shelf`. To be set once.
    pub fn set_copy_shelf(&self, shelf: Arc<dyn CopyShelf>) {
        self.shared.copies.set_shelf(shelf);
    }

    /// Waits until it cannot go on: the database or the port failed. The process should end and start again.
    pub async fn failed(&self) {
        let storage = self.metadata.failed();
        tokio::select! {
            biased;
            () = storage.cancelled() => {}
            () = self.serving_failed.cancelled() => {}
        }
    }

    /// Stops: no new calls, those under way end, the database is closed. `false` when something was still running after
    /// `limit`; what was acknowledged is durable either way.
    pub async fn stop(mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        // Those who watch the health would keep their connections open; this ends their streams.
        self.health.clear_service_status(NAME_NODE_SERVICE).await;
        self.health.clear_service_status("").await;
        let ended = self.tasks.stop(limit).await;
        let left = until
            .saturating_duration_since(Instant::now())
            .max(CLOSE_LIMIT.min(limit));
        let closed = timeout(left, self.metadata.close()).await.is_ok();
        ended && closed
    }
}

const NAME_NODE_SERVICE: &str =
    <NameNodeServer<NameNodeService> as tonic::server::NamedService>::NAME;

/// Counts this start and reads the nodes.
async fn prepare(
    tasks: &Tasks,
    bound: SocketAddr,
    config: NamenodeConfig,
    environment: Environment,
    metadata: &Metadata,
) -> Result<Shared, NamenodeError> {
    let now_ms = environment.clock.now_ms();
    let start = Mutation::StartEpoch {
        now_ms,
        writes_expire_at_ms: now_ms.saturating_add(config.write_timeout_ms),
    };
    let epoch = match metadata.submit(start).await {
        Ok(Reply::Epoch(epoch)) => epoch,
        Ok(other) => {
            let words = format!("the metadata answered with {other:?}");
            return Err(NamenodeError::Epoch(MutationError::Corrupt(words)));
        }
        Err(error) => return Err(NamenodeError::Epoch(error)),
    };
    let timeouts = Timeouts {
        stale_after_ms: config.stale_after_ms,
        dead_after_ms: config.dead_after_ms,
    };
    let view = metadata.view()?;
    let mut cluster = Cluster::at_start(view.nodes()?, timeouts, config.heartbeat_interval_ms, 0);
    for (index, until_ms) in view.maintenance()? {
        cluster.set_maintenance(index, Some(until_ms));
    }
    let mut soft = SoftState::at_start(cluster);
    if view.was_restored()? {
        soft.wait_for_reports();
    }
    for index in view.removed_nodes()?.into_keys() {
        let left = |node: &NodeRecord| node.replicas > 0 || node.commands > 0;
        if view.node(index)?.is_some_and(|node| left(&node)) {
            soft.removals.leftovers.insert(index, None);
        }
    }
    let started = News::of(EventKind::NamenodeStarted).count(epoch.0);
    soft.events.tell(started, now_ms);
    soft.history = FileHistory::at_start(now_ms);
    let address = config
        .advertise
        .clone()
        .unwrap_or_else(|| bound.to_string());
    tracing::info!(
        address, %bound, cluster = %metadata.cluster_id(), epoch = epoch.0,
        safe_mode = soft.safe_mode.reason(0), "namenode starts"
    );
    Ok(Shared::new(
        metadata.clone(),
        config,
        environment,
        epoch,
        address,
        tasks.clone(),
        soft,
    ))
}

async fn routes(shared: Arc<Shared>) -> Result<(HealthReporter, Router), NamenodeError> {
    let requests = shared.metrics.requests.clone();
    let clock = shared.environment.clock.clone();
    let admin = NameNodeAdminServer::new(AdminService::new(shared.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let recovery = NameNodeRecoveryServer::new(RecoveryService::new(shared.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let service = NameNodeServer::new(NameNodeService::new(shared.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<NameNodeServer<NameNodeService>>()
        .await;
    let events = EventLogServer::new(EventLogService::new(shared));
    let router = grpc_server()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(Observed::new(admin, requests.clone(), clock.clone()))
        .add_service(Observed::new(events, requests.clone(), clock.clone()))
        .add_service(Observed::new(recovery, requests.clone(), clock.clone()))
        .add_service(Observed::new(service, requests, clock));
    Ok((health, router))
}
