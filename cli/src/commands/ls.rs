//! `ls`: lists files in the order of their hashes.

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::{Client, FileStatus};
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

/// Files that are asked for at once.
const PAGE: u32 = 1_000;

/// Which files.
#[derive(Debug, Args)]
pub struct LsArguments {
    /// Only files whose hash begins with these digits
    #[arg(
        long,
        env = "RICHARDSTORE_PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    prefix: String,
    /// At most this many files [default: all]
    #[arg(long, env = "RICHARDSTORE_LIMIT")]
    limit: Option<u64>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Prints them page by page, however many there are.
pub async fn run(arguments: LsArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    session.run(list(&session.client, &arguments, output)).await
}

async fn list(client: &Client, arguments: &LsArguments, output: Output) -> Result<()> {
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut after = None;
    while left > 0 {
        let limit = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
        let page = client.list(after, &arguments.prefix, limit).await;
        let page = page.context("cannot list files")?;
        for file in &page.files {
            output.line(&FileStatus::from(file), row)?;
        }
        left = left.saturating_sub(page.files.len() as u64);
        after = page.files.last().map(|file| file.file.hash);
        if !page.more || after.is_none() {
            break;
        }
    }
    Ok(())
}

fn row(file: &FileStatus) -> String {
    let FileStatus {
        hash,
        size,
        replicas,
        replication,
        ..
    } = file;
    format!("{hash}  {size:>14}  {}/{replication}", replicas.len())
}
