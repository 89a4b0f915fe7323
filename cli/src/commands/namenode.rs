//! `namenode`: one namenode in this process.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::rebuild::{self, RebuildArguments};
use crate::arguments::{Listen, MetricsListen, NAMENODE_PORT, NamenodeTuning};
use crate::output::Output;
use crate::role::{Role, run_until_stopped, unless_stopped};

/// Where and how.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NamenodeArguments {
    #[command(subcommand)]
    command: Option<NamenodeCommand>,
    /// Where the metadata lies
    #[arg(
        long,
        env = "RICHARDSTORE_DIR",
        default_value = "./richardstore-data/namenode"
    )]
    dir: PathBuf,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    tuning: NamenodeTuning,
    #[command(flatten)]
    metrics: MetricsListen,
}

#[derive(Debug, Subcommand)]
enum NamenodeCommand {
    /// Make the metadata anew, from a copy, from the datanodes, or from both
    Rebuild(RebuildArguments),
}

/// Runs it until it is told to stop.
pub async fn run(
    arguments: NamenodeArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    if let Some(NamenodeCommand::Rebuild(arguments)) = arguments.command {
        return rebuild::run(arguments, output, stop).await;
    }
    let listen = arguments.listen.resolve(NAMENODE_PORT);
    let mut config = arguments.tuning.config(arguments.dir, listen);
    config.advertise = arguments.listen.advertise;
    config.metrics_listen = arguments.metrics.listen;
    let start = async {
        let started = Role::namenode(config).await;
        started.context("the namenode did not start")
    };
    let role = unless_stopped(&stop, start).await?;
    let ready = json!({
        "role": "namenode",
        "listening": role.address().to_string(),
        "metrics": role.metrics_address().map(|address| address.to_string()),
    });
    output.line(&ready, |_| {
        format!("namenode listening on {}", role.address())
    })?;
    run_until_stopped(vec![role], stop).await
}
