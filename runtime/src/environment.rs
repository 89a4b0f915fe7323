//! [`Environment`]: everything of the outside world that a role is handed when it starts.

use std::sync::Arc;

use crate::{
    BoundServer, Channels, Listen, Offload, ServeError, SharedClock, SharedEntropy, SystemClock,
    SystemEntropy, tcp_dial, tcp_listen,
};

/// Clock, blocking work, ids and network of one role. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    /// Wall time.
    pub clock: SharedClock,
    /// New ids.
    pub entropy: SharedEntropy,
    /// Where blocking work runs.
    pub offload: Offload,
    /// Connections to other roles.
    pub channels: Channels,
    /// Connections from other roles.
    pub listen: Listen,
}

impl Environment {
    /// The machine's own clock, threads and TCP.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            offload: Offload::Threads,
            channels: Channels::new(tcp_dial()),
            listen: tcp_listen(),
        }
    }

    /// Binds `address` (`host:port`, port 0 lets the network choose).
    ///
    /// # Errors
    /// [`ServeError::Bind`] naming the address.
    pub async fn bind(&self, address: &str) -> Result<BoundServer, ServeError> {
        BoundServer::bind(&self.listen, address).await
    }
}
