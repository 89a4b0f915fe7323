//! `admin backup`: a copy of the metadata, now.

use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::{Client, TakenCopy};
use tokio_util::sync::CancellationToken;

use super::dump::write_live;
use super::dump_file::DumpFile;
use super::load;
use crate::arguments::NamenodeAddress;
use crate::output::{Output, human_bytes};
use crate::session::Session;

const BUFFER_BYTES: usize = 256 << 10;

/// Where to.
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// Write it to this file, instead of having the namenode keep it with its other copies
    #[arg(long, short, env = "RICHARDSTORE_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Takes it, and says where it is.
pub async fn run(
    arguments: BackupArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let take = async {
        match &arguments.output {
            Some(path) => {
                let summary = to_file(&session.client, path).await?;
                load::print(&summary, output)
            }
            None => {
                let copy = session.client.take_copy().await;
                output.line(&copy.context("no copy was taken")?, describe)?;
                Ok(())
            }
        }
    };
    session.run(take).await
}

async fn to_file(
    client: &Client,
    path: &std::path::Path,
) -> Result<richardstore_namenode::DumpSummary> {
    let file = DumpFile::create(path)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file.writer()?);
    write_live(client, "all", &mut out).await?;
    let summary = file.verify()?;
    file.keep()?;
    Ok(summary)
}

fn describe(copy: &TakenCopy) -> String {
    let stored = match copy.stored {
        true => "also in the store",
        false => "not in the store",
    };
    format!(
        "{}  {}  {} ({stored})",
        copy.hash,
        human_bytes(copy.size),
        copy.path
    )
}
