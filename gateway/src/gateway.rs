//! [`Gateway`]: a running gateway. Stopping it lets requests under way finish, up to a limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use richardstore_client::Client;
use richardstore_runtime::{Environment, ServeError, Tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::connection::{ConnectionSettings, Connections, accept_connections};
use crate::event_feed::run_event_feed;
use crate::metrics::Metrics;
use crate::router;
use crate::sampler::run_sampler;

/// How long connections get to notice that they were aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The port could not be had.
    #[error(transparent)]
    Listen(#[from] ServeError),
    /// An origin in the configuration is none.
    #[error("{0:?} is no origin; one looks like https://example.org, or is * for all")]
    Origin(String),
}

/// A gateway that serves.
pub struct Gateway {
    address: SocketAddr,
    tasks: Tasks,
    abort: CancellationToken,
}

impl Gateway {
    /// Listens on `config.listen` and serves `client`'s cluster. The cluster need not be there yet.
    ///
    /// # Errors
    /// [`GatewayError`]: the port is taken, or the configuration makes no sense.
    pub async fn start(
        config: GatewayConfig,
        client: Client,
        environment: Environment,
    ) -> Result<Self, GatewayError> {
        let metrics = Arc::<Metrics>::default();
        let connections = Connections::new(config.max_connections, metrics.clone());
        let abort = CancellationToken::new();
        let settings = ConnectionSettings {
            connections: connections.clone(),
            metrics: metrics.clone(),
            header_timeout: config.header_timeout(),
            progress_timeout: config.progress_timeout(),
            abort: abort.clone(),
        };
        let listen = config.listen.clone();
        let tasks = Tasks::new();
        let app = App::new(client, config, metrics, connections, tasks.stopping());
        let app = Arc::new(app);
        let router = router::build(app.clone())?;
        let (listener, address) = listen_tcp(listen).await?;
        tasks.spawn(run_event_feed(app.clone(), tasks.stopping()));
        tasks.spawn(run_sampler(app, environment.clock, tasks.stopping()));
        tasks.spawn(accept_connections(
            listener,
            router,
            settings,
            tasks.clone(),
        ));
        tracing::info!(%address, "the gateway serves");
        Ok(Self {
            address,
            tasks,
            abort,
        })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, closes idle ones, and waits up to `limit` for requests under way; what is not done by
    /// then is broken off, and no task is left when this returns.
    pub async fn stop(self, limit: Duration) {
        if !self.tasks.stop(limit).await {
            tracing::warn!(?limit, "requests were broken off to stop in time");
            self.abort.cancel();
            self.tasks.stop(ABORT_LIMIT).await;
        }
    }
}

/// Clients of the gateway come over TCP, whatever the roles use among themselves.
async fn listen_tcp(address: String) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(&address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let bound = bound.await;
    bound.map_err(|source| ServeError::Bind { address, source })
}
