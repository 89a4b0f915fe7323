//! A namenode alone, on a real file and over real gRPC: allocating, committing and looking up in this process; then as a process
//! of its own that is killed under load, for what it takes of memory and how soon it answers again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, Generation};
use richardstore_runtime::{Channel, Channels, Environment, tcp_dial};

use super::Plan;
use super::killed::killed;
use crate::fake_datanode::{Claim, FakeDatanode};
use crate::limits::Limits;
use crate::load::{Load, Pace, Timings, Worker};
use crate::place::Place;
use crate::row::Row;

/// Allocations of one call, and commits of one: what a busy gateway gathers.
pub(super) const LEASE: u64 = 64;
const WRITERS: usize = 16;
const READERS: usize = 64;
const REPLICAS: u8 = 3;
/// Its datanodes send no heartbeats.
pub(super) const STALE_AFTER_MS: u64 = 3_600_000;
pub(super) const DEAD_AFTER_MS: u64 = 2 * STALE_AFTER_MS;
const FILL_LIMIT: Duration = Duration::from_secs(4 * 3600);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A namenode whose datanodes are not there.
pub(super) struct Alone {
    namenode: Namenode,
    callers: Callers,
    pub(super) datanodes: Vec<FakeDatanode>,
}

/// Those who ask a namenode whose datanodes are not there.
pub(super) struct Callers {
    pub(super) client: NameNodeClient<Channel>,
    nodes: Vec<bytes::Bytes>,
}

impl Alone {
    pub(super) async fn start(directory: &Path) -> Result<Self> {
        let config = NamenodeConfig {
            dir: directory.join("namenode"),
            listen: "127.0.0.1:0".to_owned(),
            stale_after_ms: STALE_AFTER_MS,
            dead_after_ms: DEAD_AFTER_MS,
            // A copy of all metadata in the middle would be measured with it.
            copy_interval_ms: 0,
            ..NamenodeConfig::default()
        };
        let namenode = Namenode::start(config, Environment::system()).await?;
        let (callers, datanodes) = Callers::of(&namenode.address().to_string()).await?;
        Ok(Self {
            namenode,
            callers,
            datanodes,
        })
    }

    pub(super) fn callers(&self) -> &Callers {
        &self.callers
    }

    pub(super) async fn stop(self) {
        self.namenode.stop(STOP_LIMIT).await;
    }
}

impl Callers {
    /// Those of the namenode at `address`, with datanodes that have registered there.
    pub(super) async fn of(address: &str) -> Result<(Self, Vec<FakeDatanode>)> {
        let mut callers = Self::asking(address)?;
        let mut datanodes = Vec::new();
        for number in 1..=REPLICAS {
            datanodes.push(FakeDatanode::register(callers.client.clone(), number).await?);
        }
        callers.nodes = datanodes.iter().map(FakeDatanode::id).collect();
        Ok((callers, datanodes))
    }

    /// Those who only read.
    pub(super) fn asking(address: &str) -> Result<Self> {
        let client = NameNodeClient::new(Channels::new(tcp_dial()).get(address)?);
        let nodes = Vec::new();
        Ok(Self { client, nodes })
    }

    /// Commits files until there are `until`.
    pub(super) async fn fill(&self, from: u64, until: u64) -> Result<Timings> {
        let load = Load {
            operations: until.saturating_sub(from).div_ceil(LEASE),
            duration: FILL_LIMIT,
            pace: Pace::Closed,
        };
        self.commit(load, from).await
    }

    /// Allocates and commits files from the `from`th on. Each operation is of [`LEASE`] files.
    pub(super) async fn commit(&self, load: Load, from: u64) -> Result<Timings> {
        let worker = |_| Committing {
            client: self.client.clone(),
            nodes: self.nodes.clone(),
            first: from,
        };
        let timings = load.run((0..WRITERS).map(worker).collect()).await?;
        ensure!(timings.failed == 0, "{:?}", timings.error);
        Ok(timings)
    }

    /// Looks up the first `files` files, in no order.
    async fn look_up(&self, load: Load, files: u64) -> Result<Timings> {
        let reader = |_| LookingUp {
            client: self.client.clone(),
            files,
        };
        load.run((0..READERS).map(reader).collect()).await
    }

    /// Where one of the first `files` files is.
    pub(super) async fn look_up_one(&self, files: u64) -> Result<()> {
        let mut one = LookingUp {
            client: self.client.clone(),
            files,
        };
        one.operation(1).await.map(drop)
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
    let directory = Place::under(&plan.place)?;
    let mut rows = Vec::new();
    let mut filled = 0;
    for files in plan.namenode_files.iter().copied() {
        let alone = Alone::start(directory.path()).await?;
        let filling = alone.callers.fill(filled, files).await?;
        let name = format!("namenode: allocate + commit, {filled} to {files}");
        let disk_bytes = disk_bytes_each(directory.path(), files)?;
        rows.push(per_file(name, &filling).with_bytes_each(disk_bytes));
        filled = filled.max(files.next_multiple_of(LEASE));
        let (mut commits, mut lookups) = (Vec::new(), Vec::new());
        for _ in 0..plan.repeat {
            let timings = alone.callers.commit(Load::closed(plan.duration), filled);
            let timings = timings.await?;
            // Numbers that were drawn and not used are few: one of each worker.
            filled += (timings.operations + WRITERS as u64) * LEASE;
            let name = format!("namenode: allocate + commit, at {files} x{WRITERS}");
            commits.push(per_file(name, &timings));
            let timings = alone.callers.look_up(Load::closed(plan.duration), files);
            let name = format!("namenode: look up, at {files} x{READERS}");
            lookups.push(Row::of(name, &timings.await?));
        }
        let inserts = Some(limits.database_insert);
        rows.extend(Row::median(commits).map(|row| row.with_limit(inserts)));
        let calls = Some(limits.grpc_unary);
        rows.extend(Row::median(lookups).map(|row| row.with_limit(calls)));
        alone.stop().await;
        rows.extend(killed(plan, directory.path(), files, &mut filled).await?);
    }
    Ok(rows)
}

/// Rates by the file; latencies by the call, of [`LEASE`] files.
pub(super) fn per_file(name: String, timings: &Timings) -> Row {
    let mut row = Row::of(name, timings);
    row.operations *= LEASE;
    row.per_second *= LEASE as f64;
    row
}

/// What a file takes on the disk of the namenode, in bytes.
fn disk_bytes_each(directory: &Path, files: u64) -> Result<f64> {
    let database = directory.join("namenode/metadata.redb");
    // Blocks, not length: redb grows the file ahead of need, by a hole.
    let bytes = std::fs::metadata(database)?.blocks() * 512;
    Ok(bytes as f64 / files.max(1) as f64)
}

/// What each datanode holds after [`Callers::fill`], ascending.
pub(super) async fn claims(callers: &Callers, files: u64) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let mut after = bytes::Bytes::new();
    while (claims.len() as u64) < files {
        let request = wire::ListFilesRequest {
            after: after.clone(),
            limit: 1000,
            prefix: String::new(),
        };
        let page = callers.client.clone().list_files(request).await?;
        let page = page.into_inner();
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
