//! [`Datanode`]: one datanode from start to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::wire::data_node_admin_server::DataNodeAdminServer;
use richardstore_proto::wire::data_node_inventory_server::DataNodeInventoryServer;
use richardstore_proto::wire::{self, data_node_server::DataNodeServer};
use richardstore_proto::{NodeId, StoreError};
use richardstore_runtime::in_place::ServedInPlace;
use richardstore_runtime::metrics::{Observed, serve_metrics};
use richardstore_runtime::{
    BoundServer, Environment, OffloadError, ServeError, SharedEntropy, grpc_server, serve_grpc,
};
use tonic::transport::server::Router;

use crate::admin_service::DataNodeAdminService;
use crate::bad_replicas::report_bad_replicas;
use crate::commands::Commands;
use crate::config::DatanodeConfig;
use crate::identity::{Identity, IdentityError};
use crate::inventory::InventoryService;
use crate::membership::Membership;
use crate::memory::Memory;
use crate::metrics::ObservedDatanode;
use crate::node::Node;
use crate::rebuild::rebuild_index;
use crate::reports::report;
use crate::scrub::scrub;
use crate::service::DataNodeService;
use crate::session::keep_session;
use crate::volume::{Volume, VolumeError};

/// For what is cut at the end of a drain to notice it.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// Why a datanode did not start.
#[derive(Debug, thiserror::Error)]
pub enum DatanodeError {
    /// Its directory cannot be made.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its replicas or its index cannot be opened.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Its identity cannot be read or kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It cannot listen.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// gRPC reflection cannot be set up.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Opening did not come to its end.
    #[error(transparent)]
    Offload(#[from] OffloadError),
}

/// A running datanode. Dropped without [`Datanode::stop`] it ends as by a crash.
pub struct Datanode {
    node: Arc<Node>,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
}

impl Datanode {
    /// Opens what is in `config.dir`, or formats it, and starts to serve. It registers with the namenode in the
    /// background, for as long as that takes.
    ///
    /// # Errors
    /// Where the directory is in use, damaged or not writable, or the port is taken.
    pub async fn start(
        config: DatanodeConfig,
        environment: Environment,
    ) -> Result<Self, DatanodeError> {
        let (opening, entropy) = (config.clone(), environment.entropy.clone());
        let (volume, identity, memory) = environment
            .offload
            .run(move || open(&opening, &entropy))
            .await??;
        let bound = environment.bind(&config.listen).await?;
        let metrics = match &config.metrics_listen {
            Some(listen) => Some(environment.bind(listen).await?),
            None => None,
        };
        let metrics_address = metrics.as_ref().map(BoundServer::address);
        let address = bound.address();
        let membership = Membership::new(config.dir.clone(), identity);
        let advertised = config.advertised(address);
        let node = Arc::new(Node::new(
            config,
            environment,
            advertised,
            Arc::new(volume),
            membership,
            Arc::new(memory),
        ));
        let router = router(&node).await?;
        node.tasks.spawn(serve(node.clone(), bound, router));
        if let Some(bound) = metrics {
            let role = Arc::new(ObservedDatanode::new(node.clone()));
            let stopping = node.tasks.stopping();
            node.tasks.spawn(serve_metrics(bound, role, stopping));
        }
        let commands = Arc::new(Commands::default());
        node.tasks.spawn(rebuild_index(node.clone()));
        node.tasks.spawn(keep_session(node.clone(), commands));
        node.tasks.spawn(report(node.clone()));
        node.tasks.spawn(report_bad_replicas(node.clone()));
        node.tasks.spawn(scrub(node.clone()));
        tracing::info!(node = %identity.node_id, %address, "datanode started");
        Ok(Self {
            node,
            address,
            metrics_address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it shows its metrics.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Its identity.
    pub fn node_id(&self) -> NodeId {
        self.node.membership.node_id()
    }

    /// Resolves when it cannot go on: another cluster, or a newer session under its id. [`Datanode::failure`] says why.
    pub async fn failed(&self) {
        self.node.failed().await;
    }

    /// Why it cannot go on.
    pub fn failure(&self) -> Option<StoreError> {
        self.node.failure()
    }

    /// Stops: takes nothing new, lets what is under way end for at most `limit`, cuts the rest, and closes the index.
    pub async fn stop(self, limit: Duration) {
        if !self.node.tasks.stop(limit).await {
            tracing::warn!("draining took too long; what is left is cut");
            self.node.cut.cancel();
            if !self.node.tasks.stop(CUT_LIMIT).await {
                tracing::warn!("some calls did not end");
            }
        }
        let volume = self.node.volume.clone();
        match self
            .node
            .environment
            .offload
            .run(move || volume.close())
            .await
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the index was not closed cleanly; it will be rebuilt");
            }
            Err(error) => tracing::warn!(%error, "the index was not closed"),
        }
    }
}

impl Drop for Datanode {
    fn drop(&mut self) {
        self.node.tasks.stopping().cancel();
        self.node.cut.cancel();
    }
}

/// Replicas first: their lock is what keeps a second process from counting up the session of this one.
fn open(
    config: &DatanodeConfig,
    entropy: &SharedEntropy,
) -> Result<(Volume, Identity, Memory), DatanodeError> {
    std::fs::create_dir_all(&config.dir).map_err(|source| DatanodeError::Directory {
        path: config.dir.clone(),
        source,
    })?;
    let volume = Volume::open(config, entropy.clone())?;
    let identity = Identity::begin_session(&config.dir, entropy.as_ref())?;
    let memory = Memory::open(&config.dir).map_err(|source| DatanodeError::Directory {
        path: config.dir.clone(),
        source,
    })?;
    Ok((volume, identity, memory))
}

async fn router(node: &Arc<Node>) -> Result<Router, DatanodeError> {
    let service = ServedInPlace::new(DataNodeService::new(node.clone()), |others| {
        others
            .max_decoding_message_size(wire::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(wire::MAX_MESSAGE_BYTES)
    });
    let admin = DataNodeAdminServer::new(DataNodeAdminService::new(node.clone()))
        .max_decoding_message_size(wire::MAX_MESSAGE_BYTES);
    let inventory = DataNodeInventoryServer::new(InventoryService::new(node.clone()));
    let (requests, clock) = (&node.metrics.requests, &node.environment.clock);
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<DataNodeServer<DataNodeService>>()
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTOR)
        .build_v1()?;
    Ok(grpc_server()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(Observed::new(inventory, requests.clone(), clock.clone()))
        .add_service(Observed::new(admin, requests.clone(), clock.clone()))
        .add_service(Observed::new(service, requests.clone(), clock.clone())))
}

async fn serve(node: Arc<Node>, bound: BoundServer, router: Router) {
    let stopping = node.tasks.stopping();
    let served = tokio::select! {
        biased;
        () = node.cut.cancelled() => return,
        served = serve_grpc(bound, router, stopping) => served,
    };
    if let Err(error) = served {
        node.fail(StoreError::new(
            richardstore_proto::ErrorCode::Internal,
            error.to_string(),
        ));
    }
}
