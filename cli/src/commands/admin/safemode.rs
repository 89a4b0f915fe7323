//! `admin safemode`: shows, enters or leaves safe mode.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use richardstore_client::SafeModeWish;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

/// What to do with it.
#[derive(Debug, Args)]
pub struct SafemodeArguments {
    /// What to do
    action: Action,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// Say whether it is on, and what it waits for
    Get,
    /// End it now, and repair even though most datanodes may be away
    Leave,
    /// Copy and delete nothing until it is left; a restart of the namenode forgets this
    Enter,
}

/// Does it and prints how it is then.
pub async fn run(
    arguments: SafemodeArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let wish = match arguments.action {
        Action::Get => SafeModeWish::Get,
        Action::Leave => SafeModeWish::Leave,
        Action::Enter => SafeModeWish::Enter,
    };
    let work = async {
        let status = session.client.set_safe_mode(wish).await;
        let status = status.context("cannot ask for safe mode")?;
        output.line(&status, |status| match (status.on, &*status.repair_rests) {
            (true, _) => format!("safe mode is on: {}", status.reason),
            (false, "") => "safe mode is off".to_owned(),
            (false, rests) => format!("safe mode is off; {rests}"),
        })?;
        Ok(())
    };
    session.run(work).await
}
