//! `admin decommission`: has a datanode emptied, and waits for it.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::{Client, NodeAdminStatus, NodeWish};
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

const ASK_EVERY: Duration = Duration::from_millis(500);

/// Which node.
#[derive(Debug, Args)]
pub struct DecommissionArguments {
    /// The datanode: its id, or its name
    node: String,
    /// Put it back in service
    #[arg(long, env = "RICHARDSTORE_UNDO")]
    undo: bool,
    /// Do not wait until it is emptied; asking again shows how far it is
    #[arg(long, env = "RICHARDSTORE_NO_WAIT")]
    no_wait: bool,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Asks for it, and prints how far it is whenever that changed. An interrupt ends the waiting, not the work.
pub async fn run(
    arguments: DecommissionArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    session
        .run(empty(&session.client, &arguments, output))
        .await
}

async fn empty(client: &Client, arguments: &DecommissionArguments, output: Output) -> Result<()> {
    let wish = match arguments.undo {
        true => NodeWish::InService,
        false => NodeWish::Decommission,
    };
    let mut shown = None;
    loop {
        let status = client.set_node_admin(&arguments.node, wish).await;
        let status = status.with_context(|| format!("cannot change {}", arguments.node))?;
        if shown.as_ref() != Some(&status) {
            output.line(&status, describe)?;
        }
        if arguments.no_wait || status.admin != "decommissioning" {
            return Ok(());
        }
        shown = Some(status);
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn describe(status: &NodeAdminStatus) -> String {
    let NodeAdminStatus {
        name,
        admin,
        replicas,
        ..
    } = status;
    match admin.as_str() {
        "decommissioning" => {
            let words = if status.checked { "" } else { "at most " };
            let mut text = format!(
                "{name}: decommissioning, {words}{} files left",
                status.blocking
            );
            if status.writes_in_flight {
                text += ", uploads of before are not over";
            }
            for file in &status.first {
                text += &format!("\n  {}  {}", file.hash, file.reason);
            }
            text
        }
        "decommissioned" => format!("{name}: decommissioned; it can be taken away"),
        _ => format!("{name}: in service, {replicas} replicas"),
    }
}
