//! The paths of uploads, downloads and look-ups, all roles on one thread, for counting instructions:
//! `hot_paths` names them, `hot_paths PATH DIR` runs one and says how often.
//!
//! A namenode, three datanodes and a client over real sockets, with blocking work done in place: what a count says then does
//! not depend on how threads take turns. The path runs inside one call of [`counted`], so that callgrind can count that
//! call alone. Run by `.ci/instructions`.

#![allow(clippy::print_stdout)] // what `.ci/instructions` reads

use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use richardstore_client::{Client, ClientConfig, GetOptions, PutOptions, SourceError};
use richardstore_datanode::{Datanode, DatanodeConfig};
use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::{ContentHash, NodeState};
use richardstore_runtime::{Environment, Offload};
use tokio::runtime::{Builder, Runtime};

const DATANODES: usize = 3;
const CHUNK_BYTES: usize = 256 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing that only time brings about is to happen meanwhile.
const NEVER_MS: u64 = 3_600_000;
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What is repeated.
#[derive(Clone, Copy)]
enum HotPath {
    /// Uploads of so many bytes.
    Put(usize),
    /// Downloads of a file of so many bytes.
    Get(usize),
    /// Asking the namenode where a file is.
    LookUp,
}

/// Name, what, and how often.
const HOT_PATHS: [(&str, HotPath, u32); 5] = [
    ("upload-4k", HotPath::Put(4 << 10), 50),
    ("upload-1m", HotPath::Put(1 << 20), 4),
    ("download-4k", HotPath::Get(4 << 10), 400),
    ("download-1m", HotPath::Get(1 << 20), 10),
    ("look-up", HotPath::LookUp, 1000),
];
/// Before what is counted, so that connections are there and memory is taken.
const WARM_UPS: u32 = 2;
/// Time for what uploads leave to be done: reports, and allocations that nobody took.
const SETTLING: Duration = Duration::from_secs(2);

struct Cluster {
    namenode: Namenode,
    datanodes: Vec<Datanode>,
    client: Client,
}

impl HotPath {
    /// Stores what is read, if anything is. Not part of what is counted.
    async fn prepare(self, client: &Client) -> Result<ContentHash> {
        match self {
            Self::Put(_) => Ok(ContentHash::EMPTY),
            Self::Get(size) => put(client, size, 0).await,
            Self::LookUp => put(client, 1, 0).await,
        }
    }

    /// Uploads are of files that no other number has.
    async fn repeat(self, client: &Client, hash: &ContentHash, numbers: Range<u32>) -> Result<()> {
        for number in numbers {
            match self {
                Self::Put(size) => drop(put(client, size, number).await?),
                Self::Get(size) => {
                    let mut bytes = client.get(hash, 0, None, GetOptions::default()).await?;
                    let mut came = 0;
                    while let Some(chunk) = bytes.next().await {
                        came += chunk?.len();
                    }
                    ensure!(came == size, "{came} bytes came");
                }
                Self::LookUp => {
                    let found = client.locate(hash).await?;
                    ensure!(found.nodes.len() == DATANODES, "replicas are missing");
                }
            }
        }
        Ok(())
    }
}

impl Cluster {
    async fn start(dir: &Path) -> Result<Self> {
        let environment = Environment {
            offload: Offload::Inline,
            ..Environment::system()
        };
        let config = NamenodeConfig {
            dir: dir.join("namenode"),
            listen: "127.0.0.1:0".to_owned(),
            heartbeat_interval_ms: NEVER_MS,
            stale_after_ms: 3 * NEVER_MS,
            dead_after_ms: 4 * NEVER_MS,
            copy_interval_ms: 0,
            ..NamenodeConfig::default()
        };
        let namenode = Namenode::start(config, environment.clone()).await?;
        let address = namenode.address().to_string();
        let mut datanodes = Vec::new();
        for number in 1..=DATANODES {
            let dir = dir.join(format!("datanode-{number}"));
            let mut config = DatanodeConfig::new(dir, "127.0.0.1:0", address.clone());
            config.scrub_interval = Duration::ZERO;
            datanodes.push(Datanode::start(config, environment.clone()).await?);
        }
        let client = Client::new(ClientConfig::new(address), environment);
        loop {
            let nodes = client.nodes().await?;
            let live = nodes.iter().filter(|node| node.state == NodeState::Live);
            if live.count() == DATANODES {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self {
            namenode,
            datanodes,
            client,
        })
    }

    async fn stop(self) {
        self.client.close(STOP_LIMIT).await;
        for datanode in self.datanodes {
            datanode.stop(STOP_LIMIT).await;
        }
        self.namenode.stop(STOP_LIMIT).await;
    }
}

/// Stores a content that no other number has.
async fn put(client: &Client, size: usize, number: u32) -> Result<ContentHash> {
    let mut content = vec![7; size];
    let mark = number.to_le_bytes();
    let marked = size.min(mark.len());
    content[..marked].copy_from_slice(&mark[..marked]);
    let content = Bytes::from(content);
    let chunks: Vec<_> = (0..size)
        .step_by(CHUNK_BYTES)
        .map(|at| Ok::<_, SourceError>(content.slice(at..size.min(at + CHUNK_BYTES))))
        .collect();
    let options = PutOptions {
        size_hint: Some(size as u64),
        ..PutOptions::default()
    };
    Ok(client.put(stream::iter(chunks), options).await?.file.hash)
}

/// The only function whose instructions are counted. Nothing else may have its name in its own, closures least of all.
#[inline(never)]
fn counted(runtime: &Runtime, work: Pin<Box<dyn Future<Output = Result<()>> + '_>>) -> Result<()> {
    runtime.block_on(work)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wanted, dir] = &arguments[..] else {
        HOT_PATHS.iter().for_each(|(name, ..)| println!("{name}"));
        return Ok(());
    };
    let found = HOT_PATHS.iter().find(|(name, ..)| name == wanted);
    let (_, path, count) = *found.with_context(|| format!("no path {wanted}"))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let cluster = runtime.block_on(Cluster::start(Path::new(dir)))?;
    let hash = runtime.block_on(path.prepare(&cluster.client))?;
    runtime.block_on(path.repeat(&cluster.client, &hash, 0..WARM_UPS))?;
    runtime.block_on(async { tokio::time::sleep(SETTLING).await });
    let numbers = WARM_UPS..WARM_UPS + count;
    counted(
        &runtime,
        Box::pin(path.repeat(&cluster.client, &hash, numbers)),
    )?;
    runtime.block_on(cluster.stop());
    println!("{count}");
    Ok(())
}
