//! `rm`: deletes files.

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::Client;
use richardstore_proto::{ContentHash, ErrorCode, StoreError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::exit::{Exit, SomeFailed};
use crate::output::Output;
use crate::session::Session;

/// Which files.
#[derive(Debug, Args)]
pub struct RmArguments {
    /// The files
    #[arg(required = true, value_name = "HASH")]
    hashes: Vec<ContentHash>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Deletes each of them, also after one that failed.
pub async fn run(arguments: RmArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    session
        .run(remove_all(&session.client, &arguments.hashes, output))
        .await
}

async fn remove_all(client: &Client, hashes: &[ContentHash], output: Output) -> Result<()> {
    let (mut failed, mut first) = (0, None);
    for hash in hashes {
        match remove(client, hash).await {
            Ok(()) => output.line(&json!({"hash": hash.to_hex(), "deleted": true}), |_| hash)?,
            Err(error) => {
                let exit = Exit::of(&error);
                output.error(&format!("{error:#}"), exit.code());
                failed += 1;
                first.get_or_insert(exit);
            }
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(SomeFailed {
            failed,
            total: hashes.len() as u64,
            first,
        }
        .into()),
    }
}

async fn remove(client: &Client, hash: &ContentHash) -> Result<()> {
    let existed = client.delete(hash).await;
    if !existed.with_context(|| format!("cannot delete {hash}"))? {
        let missing = format!("no file {hash}");
        return Err(StoreError::new(ErrorCode::NotFound, missing).into());
    }
    Ok(())
}
