//! `put`: stores files, directories and standard input, a few at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use richardstore_client::{Client, PutOptions, PutOutcome, SourceError};
use richardstore_proto::{ContentHash, ErrorCode, StoreError};
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::exit::{Exit, SomeFailed};
use crate::file_walk::{Found, walk};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::Session;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Files that were found and wait to be stored: a directory is not listed in memory.
const FOUND_AHEAD: usize = 64;

/// What to store.
#[derive(Debug, Args)]
pub struct PutArguments {
    /// Files, directories with all that is in them, or `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Files that are stored at once
    #[arg(long, env = "RICHARDSTORE_JOBS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Replicas of each file [default: the namenode's]
    #[arg(long, env = "RICHARDSTORE_REPLICATION")]
    replication: Option<u32>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// One line of output.
#[derive(Debug, Serialize)]
struct Stored {
    path: String,
    hash: String,
    size: u64,
    replicas: u32,
    created: bool,
}

/// Stores each of them, also after one that failed, and prints the hashes as `sha256sum` does.
pub async fn run(arguments: PutArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    session
        .run(store_all(&session.client, &arguments, output))
        .await
}

async fn store_all(client: &Client, arguments: &PutArguments, output: Output) -> Result<()> {
    let only_stdin = arguments.paths.iter().all(|path| is_stdin(path));
    let progress = Progress::new((!only_stdin).then_some(0));
    let mut stored = find(arguments.paths.clone())
        .map(|found| store(client, found, arguments.replication, progress.clone()))
        .buffer_unordered(usize::from(arguments.jobs));
    let (mut total, mut failed, mut first) = (0, 0, None);
    while let Some(result) = stored.next().await {
        total += 1;
        match result {
            Ok(stored) => progress.suspend(|| {
                output.line(&stored, |stored| {
                    format!("{}  {}", stored.hash, stored.path)
                })
            })?,
            Err(error) => {
                let exit = Exit::of(&error);
                progress.suspend(|| output.error(&format!("{error:#}"), exit.code()));
                failed += 1;
                first.get_or_insert(exit);
            }
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(SomeFailed {
            failed,
            total,
            first,
        }
        .into()),
    }
}

/// All files below `paths`, as they are found.
fn find(paths: Vec<PathBuf>) -> impl Stream<Item = Result<Found>> {
    let (sender, mut receiver) = mpsc::channel(FOUND_AHEAD);
    tokio::task::spawn_blocking(move || {
        for path in paths {
            let send = &mut |found| sender.blocking_send(found).is_ok();
            let wanted = match is_stdin(&path) {
                true => send(Ok(Found { path, size: None })),
                false => walk(path, send),
            };
            if !wanted {
                return;
            }
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

async fn store(
    client: &Client,
    found: Result<Found>,
    replication: Option<u32>,
    progress: Progress,
) -> Result<Stored> {
    let found = found?;
    let path = found.path.display().to_string();
    progress.expect(found.size.unwrap_or(0));
    let outcome = send(client, &found, replication, progress)
        .await
        .with_context(|| format!("{path} was not stored"))?;
    check(client, &outcome)
        .await
        .with_context(|| format!("{path} was stored, and cannot be confirmed"))?;
    Ok(Stored {
        path,
        hash: outcome.file.hash.to_hex(),
        size: outcome.file.size,
        replicas: outcome.replicas,
        created: outcome.created,
    })
}

async fn send(
    client: &Client,
    found: &Found,
    replication: Option<u32>,
    progress: Progress,
) -> Result<PutOutcome> {
    let sent_before = AtomicU64::new(0);
    let options = PutOptions {
        size_hint: found.size,
        replication,
        request_id: uuid::Uuid::new_v4().to_string(),
        progress: Some(Arc::new(move |sent| {
            progress.add(sent - sent_before.swap(sent, Ordering::Relaxed));
        })),
        ..PutOptions::default()
    };
    let outcome = if is_stdin(&found.path) {
        client.put(source(tokio::io::stdin()), options).await
    } else {
        let file = tokio::fs::File::open(&found.path).await?;
        client.put(source(file), options).await
    };
    Ok(outcome?)
}

fn source<R>(reader: R) -> impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin
where
    R: AsyncRead + Send + Unpin,
{
    ReaderStream::with_capacity(reader, READ_BYTES)
        .map(|read| read.map_err(|error| SourceError::new(ErrorCode::Internal, error.to_string())))
}

/// Compares what the namenode says about the file with what was computed here while it was sent.
async fn check(client: &Client, outcome: &PutOutcome) -> Result<()> {
    let sent = &outcome.file;
    let known = client.locate(&sent.hash).await?.file;
    let facts = |file: &richardstore_proto::FileInfo| (file.hash, file.size, file.blake3_root);
    if facts(&known) != facts(sent) {
        let differs = differs(&sent.hash, sent.size, known.size);
        return Err(StoreError::new(ErrorCode::Corrupt, differs).into());
    }
    Ok(())
}

fn differs(hash: &ContentHash, sent: u64, known: u64) -> String {
    format!("the store has other bytes under {hash}: {known} of them, {sent} were sent")
}
