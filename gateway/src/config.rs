//! [`GatewayConfig`]: what an operator may set.

use std::time::Duration;

use crate::body::PaceLimits;

/// Settings of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where to listen, `host:port`; port 0 lets the kernel choose.
    pub listen: String,
    /// The namenode's `host:port`, as `/info` shows it.
    pub namenode: String,
    /// Largest body of one upload, in bytes.
    pub body_limit_bytes: u64,
    /// Origins whose pages may call this gateway from a browser, such as `https://example.org`; `*` is all. Empty: none.
    pub cors_origins: Vec<String>,
    /// Connections open at once.
    pub max_connections: usize,
    /// How long the headers of a request may take, and how long a connection may idle between two, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a transfer may stand still, in milliseconds.
    pub progress_timeout_ms: u64,
    /// Least rate of an upload, averaged over [`GatewayConfig::progress_timeout_ms`]; 0 asks for none.
    pub min_body_bytes_per_second: u64,
    /// Files of which the client of this gateway remembers for a moment where they are; 0: none.
    pub remembered_files: usize,
    /// Replicas of an uploaded file; `None` is the namenode's default.
    pub replication: Option<u32>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            namenode: "127.0.0.1:9000".to_owned(),
            body_limit_bytes: 64 << 30,
            cors_origins: Vec::new(),
            max_connections: 1024,
            header_timeout_ms: 10_000,
            progress_timeout_ms: 30_000,
            min_body_bytes_per_second: 256,
            remembered_files: 16_384,
            replication: None,
        }
    }
}

impl GatewayConfig {
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn progress_timeout(&self) -> Duration {
        Duration::from_millis(self.progress_timeout_ms)
    }

    pub(crate) fn pace(&self) -> PaceLimits {
        PaceLimits {
            progress: self.progress_timeout(),
            window: self.progress_timeout(),
            min_bytes_per_second: self.min_body_bytes_per_second,
        }
    }
}
