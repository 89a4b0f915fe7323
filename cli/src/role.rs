//! [`Role`]: a running namenode, datanode or gateway, and how a process of one or many of them lives and ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use richardstore_client::{Client, ClientConfig};
use richardstore_datanode::{Datanode, DatanodeConfig};
use richardstore_gateway::{Gateway, GatewayConfig};
use richardstore_namenode::{Namenode, NamenodeConfig, NamenodeError};
use richardstore_runtime::Environment;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::store_shelf::StoreShelf;

/// What each kind of role gets of the five seconds in which a process ends. Roles get up to a second more to cut what they
/// could not drain.
const DRAIN_GATEWAY: Duration = Duration::from_millis(1_000);
const DRAIN_CLIENT: Duration = Duration::from_millis(300);
const DRAIN_DATANODE: Duration = Duration::from_millis(500);
const DRAIN_NAMENODE: Duration = Duration::from_millis(800);
/// Past this the process ends as it is: what was acknowledged is durable, and what was not is swept at the next start.
const DRAIN_ALL: Duration = Duration::from_millis(4_700);

/// A running role.
pub enum Role {
    /// A namenode.
    Namenode(Namenode),
    /// A datanode.
    Datanode(Datanode),
    /// A gateway and the client that it uses.
    Gateway(Gateway, Client),
}

impl Role {
    /// Starts a namenode.
    pub async fn namenode(config: NamenodeConfig) -> Result<Self, NamenodeError> {
        let started = Box::pin(Namenode::start(config, Environment::system())).await?;
        started.set_copy_shelf(Arc::new(StoreShelf::new(&started.address().to_string())));
        Ok(Self::Namenode(started))
    }

    /// Starts a datanode.
    pub async fn datanode(config: DatanodeConfig) -> Result<Self> {
        let name = config.name.clone();
        let started = Box::pin(Datanode::start(config, Environment::system())).await;
        Ok(Self::Datanode(started.with_context(|| {
            format!("datanode {name:?} did not start")
        })?))
    }

    /// Starts a gateway.
    pub async fn gateway(config: GatewayConfig) -> Result<Self> {
        let environment = Environment::system();
        let client = ClientConfig {
            remembered_files: config.remembered_files,
            ..ClientConfig::new(&config.namenode)
        };
        let client = Client::new(client, environment.clone());
        let gateway = Gateway::start(config, client.clone(), environment)
            .await
            .context("the gateway did not start")?;
        Ok(Self::Gateway(gateway, client))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Namenode(namenode) => namenode.address(),
            Self::Datanode(datanode) => datanode.address(),
            Self::Gateway(gateway, _) => gateway.address(),
        }
    }

    /// Where it shows its metrics, if not at its own address.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Namenode(namenode) => namenode.metrics_address(),
            Self::Datanode(datanode) => datanode.metrics_address(),
            Self::Gateway(..) => None,
        }
    }

    /// Waits until it cannot go on, and says why.
    async fn failed(&self) -> anyhow::Error {
        match self {
            Self::Namenode(namenode) => {
                namenode.failed().await;
                anyhow!("the namenode failed; the log says why")
            }
            Self::Datanode(datanode) => {
                datanode.failed().await;
                let reason = datanode.failure().map(anyhow::Error::from);
                reason
                    .unwrap_or_else(|| anyhow!("no reason given"))
                    .context("a datanode failed")
            }
            // A gateway holds nothing that could fail for good.
            Self::Gateway(..) => std::future::pending().await,
        }
    }

    async fn stop(self) {
        match self {
            Self::Namenode(namenode) => {
                namenode.stop(DRAIN_NAMENODE).await;
            }
            Self::Datanode(datanode) => datanode.stop(DRAIN_DATANODE).await,
            Self::Gateway(gateway, client) => {
                gateway.stop(DRAIN_GATEWAY).await;
                client.close(DRAIN_CLIENT).await;
            }
        }
    }

    /// Gateways stop first, since they bring the work; namenodes last, since all others talk to them.
    fn stop_order(&self) -> usize {
        match self {
            Self::Gateway(..) => 0,
            Self::Datanode(_) => 1,
            Self::Namenode(_) => 2,
        }
    }
}

/// Lets `roles` run until `stop` is cancelled or one of them fails, and ends them all within five seconds.
///
/// # Errors
/// What a role failed with.
pub async fn run_until_stopped(roles: Vec<Role>, stop: CancellationToken) -> Result<()> {
    let failure = {
        let mut failures: futures_util::stream::FuturesUnordered<_> =
            roles.iter().map(Role::failed).collect();
        tokio::select! {
            () = stop.cancelled() => None,
            failure = futures_util::StreamExt::next(&mut failures) => failure,
        }
    };
    if let Some(error) = &failure {
        tracing::error!("stopping: {error:#}");
    }
    let drained = tokio::time::timeout(DRAIN_ALL, stop_all(roles)).await;
    if drained.is_err() {
        tracing::warn!("not everything had ended in time");
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Starts `role` unless it is told to stop before it is up.
///
/// # Errors
/// The start's own; that it was stopped.
pub async fn unless_stopped<T>(
    stop: &CancellationToken,
    start: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        started = start => started,
        () = stop.cancelled() => bail!("told to stop while it started"),
    }
}

async fn stop_all(roles: Vec<Role>) {
    let mut phases = [Vec::new(), Vec::new(), Vec::new()];
    for role in roles {
        phases[role.stop_order()].push(role);
    }
    for phase in phases {
        let mut stopping: JoinSet<()> = phase.into_iter().map(Role::stop).collect();
        while stopping.join_next().await.is_some() {}
    }
}
