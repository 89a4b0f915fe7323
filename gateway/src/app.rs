//! [`App`]: what every request handler is given. Nothing in it is state of the store: gateways can come and go.

use std::sync::Arc;

use richardstore_client::Client;

use crate::config::GatewayConfig;
use crate::connection::Connections;
use crate::metrics::Metrics;

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
}
