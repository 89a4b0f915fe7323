//! [`App`]: what every request handler is given. Nothing in it is state of the store: gateways can come and go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use richardstore_client::Client;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::GatewayConfig;
use crate::connection::Connections;
use crate::event_feed::EventFeed;
use crate::history::History;
use crate::metrics::Metrics;

/// Listeners to the events at once: open pages of the console.
const MAX_LISTENERS: usize = 64;

/// Shared by all handlers of one gateway.
pub(crate) struct App {
    /// The cluster.
    pub(crate) client: Client,
    /// Settings.
    pub(crate) config: GatewayConfig,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Open connections.
    pub(crate) connections: Connections,
    /// What happens in the cluster.
    pub(crate) events: EventFeed,
    /// Places for those who listen to the events.
    pub(crate) listeners: Arc<Semaphore>,
    /// Cancelled when responses without an end have to end.
    pub(crate) stopping: CancellationToken,
    history: Mutex<History>,
}

impl App {
    /// Puts them together.
    pub(crate) fn new(
        client: Client,
        config: GatewayConfig,
        metrics: Arc<Metrics>,
        connections: Connections,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            client,
            config,
            metrics,
            connections,
            events: EventFeed::default(),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            stopping,
            history: Mutex::default(),
        }
    }

    /// The figures of the last hour. Held for memory work only.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
