//! `admin dump`: metadata as JSON lines, from a running namenode or from the file of one that is down. The two agree.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::StreamExt;
use richardstore_client::Client;
use richardstore_namenode::{DumpOf, View, open_offline};
use tokio_util::sync::CancellationToken;

use super::dump_file::DumpFile;
use crate::arguments::NamenodeAddress;
use crate::session::Session;

/// Memory for the pages of a database file.
const CACHE_BYTES: usize = 32 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// What, from where, and where to.
#[derive(Debug, Args)]
pub struct DumpArguments {
    /// One table: files, replicas, nodes, tombstones, commands, writes, recalled or meta
    #[arg(
        long,
        env = "RICHARDSTORE_TABLE",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    table: Option<String>,
    /// Everything, with a checksum, as `load` and `restore` take it
    #[arg(long, env = "RICHARDSTORE_ALL")]
    all: bool,
    /// The database file of a namenode that is down; it is not changed
    #[arg(long, env = "RICHARDSTORE_DB", value_name = "FILE")]
    db: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(long, short, env = "RICHARDSTORE_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Prints it.
pub async fn run(arguments: DumpArguments, stop: CancellationToken) -> Result<()> {
    let table = match (&arguments.table, arguments.all) {
        (Some(table), false) => table.clone(),
        _ => "all".to_owned(),
    };
    let what: DumpOf = table.parse()?;
    let Some(path) = &arguments.output else {
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
        return write(&arguments, &table, what, stop, out).await.map(drop);
    };
    let file = DumpFile::create(path)?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, file.writer()?);
    write(&arguments, &table, what, stop, out).await?;
    if what == DumpOf::All {
        file.verify()?;
    }
    file.keep()
}

async fn write<W: Write + Send + 'static>(
    arguments: &DumpArguments,
    table: &str,
    what: DumpOf,
    stop: CancellationToken,
    mut out: W,
) -> Result<W> {
    if let Some(path) = arguments.db.clone() {
        let work = move || write_offline(&path, what, out);
        return tokio::task::spawn_blocking(work).await?;
    }
    let session = Session::new(&arguments.namenode, stop);
    session
        .run(write_live(&session.client, table, &mut out))
        .await?;
    Ok(out)
}

/// Writes what a running namenode streams, and flushes it.
pub async fn write_live(client: &Client, table: &str, out: &mut impl Write) -> Result<()> {
    let lines = client.dump(table).await;
    let mut lines = Box::pin(lines.with_context(|| format!("cannot dump {table}"))?);
    while let Some(part) = lines.next().await {
        out.write_all(&part.context("the dump broke off")?)?;
    }
    Ok(out.flush()?)
}

fn write_offline<W: Write>(path: &Path, what: DumpOf, mut out: W) -> Result<W> {
    let view: View = open_offline(path, CACHE_BYTES)?;
    let mut written = Ok(());
    view.dump_of(what, &mut |line| {
        written = out
            .write_all(line.as_bytes())
            .and_then(|()| out.write_all(b"\n"));
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written?;
    out.flush()?;
    Ok(out)
}
