//! [`MetricsListen`]: where a role shows what it counts.

use clap::Args;

/// Where metrics and probes are answered.
#[derive(Debug, Clone, Args)]
pub struct MetricsListen {
    /// Answer /metrics, /healthz and /readyz over HTTP here; port 0 lets the kernel choose [default: nowhere]
    #[arg(
        id = "metrics_listen",
        long = "metrics-listen",
        env = "RICHARDSTORE_METRICS_LISTEN",
        value_name = "HOST:PORT"
    )]
    pub listen: Option<String>,
}
