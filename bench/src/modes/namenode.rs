//! A namenode alone, in this process, on a real file and over real gRPC: allocating, committing and looking up.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, Generation};
use richardstore_runtime::{Channels, Environment, tcp_dial};
use tonic::transport::Channel;

use super::Plan;
use crate::fake_datanode::{Claim, FakeDatanode};
use crate::limits::Limits;
use crate::load::{Load, Pace, Worker};
use crate::row::Row;

/// Allocations of one call, and commits of one: what a busy gateway gathers.
const LEASE: u64 = 64;
const WRITERS: usize = 16;
const READERS: usize = 64;
const REPLICAS: u8 = 3;
const HOURS_MS: u64 = 3_600_000;
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A namenode whose datanodes are not there.
pub(super) struct Alone {
    namenode: Namenode,
    pub(super) client: NameNodeClient<Channel>,
    pub(super) datanodes: Vec<FakeDatanode>,
    started_in: Duration,
}

impl Alone {
    pub(super) async fn start(directory: &Path) -> Result<Self> {
        let config = NamenodeConfig {
            dir: directory.join("namenode"),
            listen: "127.0.0.1:0".to_owned(),
            // They send no heartbeats.
            stale_after_ms: HOURS_MS,
            dead_after_ms: 2 * HOURS_MS,
            ..NamenodeConfig::default()
        };
        let starting = Instant::now();
        let namenode = Namenode::start(config, Environment::system()).await?;
        let started_in = starting.elapsed();
        let channels = Channels::new(tcp_dial());
        let client = NameNodeClient::new(channels.get(&namenode.address().to_string())?);
        let mut datanodes = Vec::new();
        for number in 1..=REPLICAS {
            datanodes.push(FakeDatanode::register(client.clone(), number).await?);
        }
        Ok(Self {
            namenode,
            client,
            datanodes,
            started_in,
        })
    }

    /// Commits files until there are `until`, and says how fast.
    pub(super) async fn fill(&self, from: u64, until: u64) -> Result<Row> {
        let nodes: Vec<_> = self.datanodes.iter().map(FakeDatanode::id).collect();
        let worker = || Committing {
            client: self.client.clone(),
            nodes: nodes.clone(),
            first: from,
        };
        let load = Load {
            operations: (until - from).div_ceil(LEASE),
            duration: Duration::from_secs(3600),
            pace: Pace::Closed,
        };
        let timings = load.run((0..WRITERS).map(|_| worker()).collect()).await?;
        ensure!(timings.failed == 0, "{:?}", timings.error);
        let mut row = Row::of(format!("namenode: commit, to {until} files"), &timings);
        row.operations *= LEASE;
        row.per_second *= LEASE as f64;
        Ok(row)
    }

    pub(super) async fn stop(self) {
        self.namenode.stop(STOP_LIMIT).await;
    }
}

struct Committing {
    client: NameNodeClient<Channel>,
    nodes: Vec<bytes::Bytes>,
    first: u64,
}

impl Worker for Committing {
    async fn operation(&mut self, number: u64) -> Result<u64> {
        let request = wire::WriteFileRequest {
            count: u32::try_from(LEASE)?,
            size_hint: 4096,
            ..Default::default()
        };
        let lease = self.client.write_file(request).await?.into_inner();
        let first = self.first + number * LEASE;
        let files = (first..).zip(&lease.allocations).map(|(file, allocation)| {
            let info = wire::FileInfo {
                hash: to_bytes(name_of(file).as_bytes()),
                size: 4096,
                blake3_root: to_bytes(&[3; 32]),
                generation: allocation.generation,
                replication: u32::from(REPLICAS),
                created_ms: 0,
            };
            wire::FileCommit {
                file: Some(info),
                nodes: self.nodes.clone(),
            }
        });
        let request = wire::CommitFilesRequest {
            files: files.collect(),
        };
        let answer = self.client.commit_files(request).await?.into_inner();
        for result in &answer.results {
            ensure!(result.error_code == 0, "{}", result.error);
        }
        Ok(0)
    }
}

struct LookingUp {
    client: NameNodeClient<Channel>,
    files: u64,
}

impl Worker for LookingUp {
    async fn operation(&mut self, number: u64) -> Result<u64> {
        let file = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.files;
        let request = wire::ReadFileRequest {
            hash: to_bytes(name_of(file).as_bytes()),
        };
        let found = self.client.read_file(request).await?.into_inner();
        ensure!(found.nodes.len() == usize::from(REPLICAS), "nodes missing");
        Ok(0)
    }
}

/// Spread as hashes are, which is the hard case for a B-tree.
pub(super) fn name_of(file: u64) -> ContentHash {
    ContentHash::new(*blake3::hash(&file.to_be_bytes()).as_bytes())
}

pub(super) async fn run(plan: &Plan, limits: &Limits) -> Result<Vec<Row>> {
    let directory = tempfile::TempDir::with_prefix_in("richardstore-bench-", &plan.place)?;
    let mut rows = Vec::new();
    let mut filled = 0;
    for files in plan.namenode_files.iter().copied() {
        let alone = Alone::start(directory.path()).await?;
        rows.push(alone.fill(filled, files).await?);
        filled = files;
        let reader = || LookingUp {
            client: alone.client.clone(),
            files,
        };
        let load = Load::closed(plan.duration);
        let timings = load.run((0..READERS).map(|_| reader()).collect()).await?;
        let name = format!("namenode: look up of {files} x{READERS}");
        rows.push(Row::of(name, &timings).with_limit(Some(limits.grpc_unary)));
        alone.stop().await;
        let again = Alone::start(directory.path()).await?;
        let seconds = again.started_in.as_secs_f64();
        rows.push(Row::rate(
            format!("namenode: open with {files}"),
            1,
            seconds,
            0,
        ));
        again.stop().await;
    }
    Ok(rows)
}

/// What the datanode with this place among three holds after [`Alone::fill`], ascending.
pub(super) async fn claims(alone: &Alone, files: u64) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let mut after = bytes::Bytes::new();
    while (claims.len() as u64) < files {
        let request = wire::ListFilesRequest {
            after: after.clone(),
            limit: 1000,
            prefix: String::new(),
        };
        let page = alone.client.clone().list_files(request).await?.into_inner();
        for file in &page.files {
            let info = file.file.as_ref().context("a file without facts")?;
            claims.push(Claim {
                hash: ContentHash::new(<[u8; 32]>::try_from(&info.hash[..])?),
                generation: Generation(info.generation),
            });
            after = info.hash.clone();
        }
        ensure!(
            page.more || claims.len() as u64 == files,
            "files are missing"
        );
    }
    Ok(claims)
}
