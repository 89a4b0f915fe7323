//! The paths of uploads and look-ups, all roles on one thread, for counting instructions: `hot_paths PATH COUNT DIR`.
//!
//! A namenode, three datanodes and a client over real sockets, with blocking work done in place: what a count says then does
//! not depend on how threads take turns. Run by `.ci/instructions` under callgrind, with two counts: the difference is what
//! the operations took, without starting and stopping.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use richardstore_client::{Client, ClientConfig, GetOptions, PutOptions, SourceError};
use richardstore_datanode::{Datanode, DatanodeConfig};
use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::{ContentHash, NodeState};
use richardstore_runtime::{Environment, Offload};

const DATANODES: usize = 3;
const CHUNK_BYTES: usize = 256 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing that only time brings about is to happen meanwhile.
const NEVER_MS: u64 = 3_600_000;
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What is repeated.
enum HotPath {
    /// Uploads of so many bytes.
    Put(usize),
    /// Downloads of a file of so many bytes.
    Get(usize),
    /// Asking the namenode where a file is.
    LookUp,
}

struct Cluster {
    namenode: Namenode,
    datanodes: Vec<Datanode>,
    client: Client,
}

impl HotPath {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "upload-4k" => Self::Put(4 << 10),
            "upload-1m" => Self::Put(1 << 20),
            "download-4k" => Self::Get(4 << 10),
            "download-1m" => Self::Get(1 << 20),
            "look-up" => Self::LookUp,
            other => bail!("no path {other}"),
        })
    }

    async fn repeat(&self, client: &Client, count: u32) -> Result<()> {
        match *self {
            Self::Put(size) => {
                for number in 0..count {
                    put(client, size, number).await?;
                }
            }
            Self::Get(size) => {
                let hash = put(client, size, 0).await?;
                for _ in 0..count {
                    let mut bytes = client.get(&hash, 0, None, GetOptions::default()).await?;
                    let mut came = 0;
                    while let Some(chunk) = bytes.next().await {
                        came += chunk?.len();
                    }
                    ensure!(came == size, "{came} bytes came");
                }
            }
            Self::LookUp => {
                let hash = put(client, 1, 0).await?;
                for _ in 0..count {
                    let found = client.locate(&hash).await?;
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
    let mark = number.to_be_bytes();
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

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, count, dir] = &arguments[..] else {
        bail!("hot_paths PATH COUNT DIR");
    };
    let path = HotPath::parse(path)?;
    let count = count.parse().context("COUNT is a number")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::start(Path::new(dir)).await?;
        let repeated = path.repeat(&cluster.client, count).await;
        cluster.stop().await;
        repeated
    })
}
