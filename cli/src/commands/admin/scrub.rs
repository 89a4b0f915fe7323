//! `admin scrub`: has datanodes read all their replicas again now.

use anyhow::{Context, Result, bail};
use clap::Args;
use richardstore_client::{Client, NodeStatus};
use richardstore_proto::NodeState;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::exit::{Exit, SomeFailed};
use crate::output::Output;
use crate::session::Session;

/// Which datanodes.
#[derive(Debug, Args)]
pub struct ScrubArguments {
    /// Begin now, and not when the next pass is due
    #[arg(long, env = "RICHARDSTORE_NOW", required = true)]
    now: bool,
    /// Only this datanode: its id, or its name [default: all]
    #[arg(long, env = "RICHARDSTORE_NODE")]
    node: Option<String>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// What one datanode said.
#[derive(Debug, Serialize)]
struct Answer {
    node: String,
    running: bool,
    error: Option<String>,
}

/// Asks them, and fails where one does not begin.
pub async fn run(arguments: ScrubArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let work = scrub(&session.client, arguments.node.as_deref(), output);
    session.run(work).await
}

async fn scrub(client: &Client, wanted: Option<&str>, output: Output) -> Result<()> {
    let nodes = client.nodes().await.context("cannot list the datanodes")?;
    let total = nodes.len();
    let nodes: Vec<NodeStatus> = nodes
        .into_iter()
        .filter(|node| match wanted {
            Some(text) => node.name == text || node.node_id.to_string() == text,
            None => node.state != NodeState::Dead,
        })
        .collect();
    if nodes.is_empty() {
        bail!("none of the {total} datanodes is meant");
    }
    let mut failed = 0;
    for node in &nodes {
        let asked = client.scrub_now(&node.address).await;
        let answer = Answer {
            node: node.name.clone(),
            running: asked.as_ref().is_ok_and(|running| *running),
            error: asked.err().map(|error| error.to_string()),
        };
        failed += u64::from(!answer.running);
        output.line(&answer, describe)?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(SomeFailed {
            failed,
            total: nodes.len() as u64,
            first: Exit::Failure,
        }
        .into()),
    }
}

fn describe(answer: &Answer) -> String {
    let node = &answer.node;
    match (&answer.error, answer.running) {
        (Some(error), _) => format!("{node}: {error}"),
        (None, true) => format!("{node}: reads all its replicas again"),
        (None, false) => format!("{node}: its scrub is switched off"),
    }
}
