//! `get`: fetches a file. What arrived before a break is kept beside the target as `FILE.part`, and the next `get` goes on from
//! there; the target appears when all of it is there and has the hash that was asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use richardstore_client::{Client, ClientError, ContentHasher, GetOptions, GetStream};
use richardstore_proto::ContentHash;
use richardstore_runtime::Offload;
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::Session;

/// Bytes of a part that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Which file, and where to.
#[derive(Debug, Args)]
pub struct GetArguments {
    /// The file
    hash: ContentHash,
    /// Where to put it: a file, a directory, or `-` for standard output [default: a file named by the hash]
    #[arg(short, long, env = "RICHARDSTORE_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Fetches it.
pub async fn run(arguments: GetArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let hash = arguments.hash;
    let fetch = async {
        if arguments.output.as_deref() == Some(Path::new("-")) {
            return to_stdout(&session.client, hash).await;
        }
        let target = target(arguments.output, &hash);
        let size = to_file(&session.client, hash, &target).await?;
        let path = target.display().to_string();
        let line = json!({"hash": hash.to_hex(), "size": size, "path": path});
        output.line(&line, |_| path)?;
        Ok(())
    };
    session.run(fetch).await
}

fn target(wanted: Option<PathBuf>, hash: &ContentHash) -> PathBuf {
    match wanted {
        None => PathBuf::from(hash.to_hex()),
        Some(directory) if directory.is_dir() => directory.join(hash.to_hex()),
        Some(file) => file,
    }
}

async fn to_stdout(client: &Client, hash: ContentHash) -> Result<()> {
    // The client compares the whole file with its hash before it hands out the last bytes.
    let mut stream = open(client, hash, 0).await?;
    let progress = Progress::new(Some(stream.length));
    let mut stdout = tokio::io::stdout();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.with_context(|| cannot_fetch(&hash))?;
        stdout.write_all(&chunk).await?;
        progress.add(chunk.len() as u64);
    }
    stdout.flush().await?;
    Ok(())
}

/// Returns the size of the file, in bytes.
async fn to_file(client: &Client, hash: ContentHash, target: &Path) -> Result<u64> {
    let mut part = Part::open(target).await?;
    match part.fetch(client, hash).await {
        Ok(size) => {
            part.publish(target).await?;
            Ok(size)
        }
        Err(error) => {
            part.remove_if_empty().await?;
            Err(error)
        }
    }
}

/// The bytes that have arrived so far.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    async fn open(target: &Path) -> Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .await
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    /// Completes the part, if need be from the beginning. What is left after an error can be gone on from.
    async fn fetch(&mut self, client: &Client, hash: ContentHash) -> Result<u64> {
        let began_with = self.len().await?;
        let mut fetched = self.complete(client, hash).await;
        if let Err(error) = &fetched
            && began_with > 0
            && is_wrong(error)
        {
            // The part was of another file, or damaged: the file itself may be good.
            tracing::warn!("{error:#}; starting again from the beginning");
            self.clear().await?;
            fetched = self.complete(client, hash).await;
        }
        if fetched.as_ref().is_err_and(is_wrong) {
            // Going on from wrong bytes would never end well.
            self.clear().await?;
        }
        fetched
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().await?.len())
    }

    /// There is nothing to go on from, so nothing should lie about.
    async fn remove_if_empty(self) -> Result<()> {
        if self.len().await? == 0 {
            tokio::fs::remove_file(&self.path).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).await?;
        Ok(())
    }

    /// Fetches what is missing, and compares all of it with `hash`.
    async fn complete(&mut self, client: &Client, hash: ContentHash) -> Result<u64> {
        let mut hasher = self.hash_present().await?;
        let mut stream = open(client, hash, hasher.size()).await?;
        let progress = Progress::new(Some(stream.file.size));
        progress.add(stream.offset);
        self.file
            .seek(std::io::SeekFrom::Start(stream.offset))
            .await?;
        while let Some(chunk) = stream.next().await {
            let chunk: Bytes = chunk.with_context(|| cannot_fetch(&hash))?;
            self.file.write_all(&chunk).await?;
            progress.add(chunk.len() as u64);
            hasher.update(chunk).await?;
        }
        self.file.flush().await?;
        let digest = hasher.finish().await?;
        if digest.hash != hash {
            let detail = format!("what arrived has the hash {}", digest.hash);
            return Err(ClientError::Corrupt { hash, detail }.into());
        }
        Ok(digest.size)
    }

    /// Hashes what is there already.
    async fn hash_present(&mut self) -> Result<ContentHasher> {
        let mut hasher = ContentHasher::new(Offload::Threads);
        self.file.rewind().await?;
        let mut present = ReaderStream::with_capacity(&mut self.file, READ_BYTES);
        while let Some(chunk) = present.next().await {
            let chunk = chunk.with_context(|| format!("cannot read {}", self.path.display()))?;
            hasher.update(chunk).await?;
        }
        Ok(hasher)
    }

    /// Synced before it gets its name, so that the name never stands for less than the file.
    async fn publish(self, target: &Path) -> Result<()> {
        self.file.sync_all().await?;
        tokio::fs::rename(&self.path, target)
            .await
            .with_context(|| format!("cannot write {}", target.display()))
    }
}

async fn open(client: &Client, hash: ContentHash, offset: u64) -> Result<GetStream> {
    let options = GetOptions {
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let opened = client.get(&hash, offset, None, options).await;
    opened.with_context(|| cannot_fetch(&hash))
}

fn cannot_fetch(hash: &ContentHash) -> String {
    format!("cannot fetch {hash}")
}

/// The part, and not the connection, is to blame.
fn is_wrong(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ClientError>(),
        Some(ClientError::Corrupt { .. } | ClientError::RangeNotSatisfiable { .. })
    )
}
