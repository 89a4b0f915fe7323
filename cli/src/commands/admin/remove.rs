//! `admin remove`: forgets a datanode that is gone for good.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use richardstore_client::{Client, NodeAdminStatus, NodeWish};
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

const ASK_EVERY: Duration = Duration::from_millis(100);

/// Which node.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// The datanode: its id, or its name
    node: String,
    /// Remove it also where it has the last replica of a file, and name those files
    #[arg(long, env = "RICHARDSTORE_ACCEPT_LOSS")]
    accept_loss: bool,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Removes it, or says what it still has that nobody else has.
pub async fn run(
    arguments: RemoveArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    session
        .run(remove(&session.client, &arguments, output))
        .await
}

async fn remove(client: &Client, arguments: &RemoveArguments, output: Output) -> Result<()> {
    let wish = NodeWish::Remove {
        accept_loss: arguments.accept_loss,
    };
    loop {
        let status = client.set_node_admin(&arguments.node, wish).await;
        let status = status.with_context(|| format!("cannot remove {}", arguments.node))?;
        if !status.checked {
            tokio::time::sleep(ASK_EVERY).await;
            continue;
        }
        let removed = status.admin == "removed";
        output.line(&status, |status| describe(status, removed))?;
        if removed {
            return Ok(());
        }
        bail!(
            "{} was not removed; --accept-loss does it all the same",
            status.name
        );
    }
}

fn describe(status: &NodeAdminStatus, removed: bool) -> String {
    let NodeAdminStatus { name, blocking, .. } = status;
    let mut text = match (removed, blocking) {
        (true, 0) => format!("{name}: removed; if it ever returns, wipe its directory first"),
        (true, lost) => format!("{name}: removed, and with it the last replica of {lost} files"),
        (false, lost) => format!("{name}: no other live datanode has {lost} of its files"),
    };
    for file in &status.first {
        text += &format!("\n  {}", file.hash);
    }
    text
}
