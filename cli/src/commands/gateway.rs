//! `gateway`: one gateway in this process.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::arguments::{GATEWAY_PORT, GatewayTuning, Listen, NamenodeAddress};
use crate::output::Output;
use crate::role::{Role, run_until_stopped, unless_stopped};

/// Where and how.
#[derive(Debug, Args)]
pub struct GatewayArguments {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    namenode: NamenodeAddress,
    /// Replicas of the files that are uploaded here [default: the namenode's]
    #[arg(long, env = "RICHARDSTORE_REPLICATION")]
    replication: Option<u32>,
    #[command(flatten)]
    tuning: GatewayTuning,
}

/// Runs it until it is told to stop.
pub async fn run(
    arguments: GatewayArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let listen = arguments.listen.resolve(GATEWAY_PORT);
    let mut config = arguments
        .tuning
        .config(listen, arguments.namenode.resolve());
    config.replication = arguments.replication;
    let role = unless_stopped(&stop, Role::gateway(config)).await?;
    let url = format!("http://{}", role.address());
    let ready = json!({"role": "gateway", "listening": role.address().to_string(), "url": url});
    output.line(&ready, |_| format!("gateway listening on {url}"))?;
    run_until_stopped(vec![role], stop).await
}
