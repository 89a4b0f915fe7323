//! `admin repair`: has repair look at everything now.

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::RepairAnswer;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

/// When.
#[derive(Debug, Args)]
pub struct RepairArguments {
    /// Begin now, and try again at once what failed
    #[arg(long, env = "RICHARDSTORE_NOW", required = true)]
    now: bool,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Asks for it, and says what is in the way.
pub async fn run(
    arguments: RepairArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let work = async {
        let answer = session.client.repair_now().await;
        output.line(&answer.context("cannot ask for repairs")?, describe)?;
        Ok(())
    };
    session.run(work).await
}

fn describe(answer: &RepairAnswer) -> String {
    match answer.halted.as_str() {
        "" => format!(
            "repair looks at everything again; {} files were being copied, {} waited for their turn",
            answer.copying, answer.waiting
        ),
        reason => format!("repair looks at everything again when it may: {reason}"),
    }
}
