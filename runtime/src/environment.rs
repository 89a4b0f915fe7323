//! [`Environment`]: everything of the outside world that a role is handed when it starts.

use std::sync::Arc;

use crate::{Channels, Offload, SharedClock, SystemClock, tcp_dial};

/// Clock, blocking work and network of one role. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    /// Wall time.
    pub clock: SharedClock,
    /// Where blocking work runs.
    pub offload: Offload,
    /// Connections to other roles.
    pub channels: Channels,
}

impl Environment {
    /// The machine's own clock, threads and TCP.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            offload: Offload::Threads,
            channels: Channels::new(tcp_dial()),
        }
    }
}
