//! A datanode is killed, and its replicas are made again: alone, and while files are uploaded, which are timed before and
//! afterwards, too. Four datanodes as processes of their own.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use richardstore_client::{Client, ClientConfig, NodeStatus};
use richardstore_drills::{Process, ProcessSpec};
use richardstore_proto::NodeState;
use richardstore_runtime::Environment;
use tokio_util::sync::CancellationToken;

use super::{Plan, size_name};
use crate::connection::{Addresses, Connection};
use crate::limits::Limits;
use crate::load::{Load, Pace, Worker};
use crate::payload::Payload;
use crate::place::Place;
use crate::row::Row;
use crate::test_store::this_binary;

const DATANODES: usize = 4;
const REPLICAS: u64 = 3;
/// Repair must not wait for the limit that protects a cluster in use: its own speed is measured.
const UNLIMITED: &str = "100GiB";
const REPAIR_LIMIT: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LARGE: usize = 1 << 20;
/// Those who upload while replicas are made again.
const UPLOADERS: usize = 4;

struct Cluster {
    client: Client,
    addresses: Addresses,
    datanodes: Vec<Process>,
    _others: [Process; 2],
}

impl Cluster {
    async fn start(place: &Path) -> Result<Self> {
        let binary = this_binary()?;
        let start = async |name: &str, arguments: &[&str]| -> Result<Process> {
            let directory = place.join(name);
            let mut all: Vec<OsString> = vec![arguments[0].into()];
            if arguments[0] != "gateway" {
                all.extend(["--dir".into(), directory.into()]);
            }
            all.extend(["--listen", "127.0.0.1:0", "--log", "warn"].map(OsString::from));
            all.extend(arguments[1..].iter().map(OsString::from));
            let spec = ProcessSpec {
                binary: binary.clone(),
                arguments: all,
                log: place.join(format!("{name}.log")),
            };
            spec.start("listening on").await
        };
        let timing = [
            "--heartbeat-interval-ms=200",
            "--stale-after-ms=1000",
            "--dead-after-ms=2000",
        ];
        let rate = format!("--repair-bytes-per-second={UNLIMITED}");
        let mut arguments = vec!["namenode", &rate];
        arguments.extend(timing);
        let namenode = start("namenode", &arguments).await?;
        let address = address_of(&namenode)?;
        let mut datanodes = Vec::new();
        for number in 1..=DATANODES {
            let name = format!("datanode-{number}");
            let arguments = ["datanode", "--namenode", &address, "--name", &name];
            datanodes.push(start(&name, &arguments).await?);
        }
        let gateway = start("gateway", &["gateway", "--namenode", &address]).await?;
        let client = Client::new(ClientConfig::new(address.clone()), Environment::system());
        let cluster = Self {
            client,
            addresses: Addresses {
                gateway: address_of(&gateway)?,
                namenode: address,
            },
            datanodes,
            _others: [namenode, gateway],
        };
        let all = |nodes: &[NodeStatus]| live(nodes).count() == DATANODES;
        cluster.wait("all datanodes are live", all).await?;
        Ok(cluster)
    }

    /// Kills a datanode, and waits until it is given up.
    async fn lose_one(&mut self) -> Result<()> {
        let lost = self.datanodes.pop().context("there are four")?;
        lost.kill().await?;
        let dead = |nodes: &[NodeStatus]| nodes.iter().any(|node| node.state == NodeState::Dead);
        self.wait("the lost datanode is dead", dead).await
    }

    /// Waits until the live datanodes hold all replicas of as many files as `stored` says. What was missing at first is what
    /// is made again.
    async fn repair(&self, name: String, size: usize, stored: impl Fn() -> u64) -> Result<Row> {
        let begun = Instant::now();
        let held = live_replicas(&self.client.nodes().await?);
        let missing = (stored() * REPLICAS).saturating_sub(held);
        ensure!(missing > 0, "the lost datanode held nothing");
        loop {
            // Asked before the nodes: files that are stored in between must not count as missing.
            let wanted = stored() * REPLICAS;
            if live_replicas(&self.client.nodes().await?) >= wanted {
                break;
            }
            ensure!(
                begun.elapsed() < REPAIR_LIMIT,
                "{wanted} replicas were not there within {REPAIR_LIMIT:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (seconds, bytes) = (begun.elapsed().as_secs_f64(), missing * size as u64);
        Ok(Row::rate(name, missing, seconds, bytes))
    }

    async fn wait(&self, what: &str, holds: impl Fn(&[NodeStatus]) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let nodes = self.client.nodes().await?;
            if holds(&nodes) {
                return Ok(());
            }
            if begun.elapsed() > REPAIR_LIMIT {
                bail!("not within {REPAIR_LIMIT:?}: {what}: {nodes:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

struct Filling {
    connection: Connection,
    payload: Payload,
    /// Files that the store has acknowledged, of all workers.
    acknowledged: Arc<AtomicU64>,
}

impl Worker for Filling {
    async fn operation(&mut self, number: u64) -> Result<u64> {
        self.connection.put(self.payload.chunks(number)).await?;
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        Ok(self.payload.size() as u64)
    }
}

pub(super) async fn run(plan: &Plan, limits: &Limits) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &size in &plan.sizes {
        let files = file_count(plan, size);
        let mut alone = Vec::new();
        for _ in 0..plan.repeat {
            alone.push(lose_one(plan, size, files).await?);
        }
        rows.extend(Row::median(alone).map(|row| row.with_limit(limits.repair(size))));
    }
    if let Some(&size) = plan.sizes.first() {
        rows.extend(lose_one_beside_uploads(plan, size).await?);
    }
    Ok(rows)
}

/// Fewer of large files, which fill a disk.
fn file_count(plan: &Plan, size: usize) -> u64 {
    let fewer = if size >= LARGE { 64 } else { 1 };
    (plan.repair_files / fewer).max(4)
}

/// A cluster in which `files` files are stored.
async fn filled(place: &Path, size: usize, files: u64) -> Result<Cluster> {
    let cluster = Cluster::start(place).await?;
    let connections = Connection::several(&cluster.addresses, true, 16);
    let filling = connections.into_iter().map(|connection| Filling {
        connection,
        payload: Payload::new(size, 1),
        acknowledged: Arc::default(),
    });
    let load = Load {
        operations: files,
        duration: REPAIR_LIMIT,
        pace: Pace::Closed,
    };
    let stored = load.run(filling.collect()).await?;
    ensure!(stored.failed == 0, "{:?}", stored.error);
    Ok(cluster)
}

async fn lose_one(plan: &Plan, size: usize, files: u64) -> Result<Row> {
    let place = Place::under(&plan.place)?;
    let mut cluster = filled(place.path(), size, files).await?;
    cluster.lose_one().await?;
    cluster
        .repair(
            format!("repair {} of {files}", size_name(size)),
            size,
            || files,
        )
        .await
}

/// Uploads before a loss, while its replicas are made again, and afterwards with one datanode less.
async fn lose_one_beside_uploads(plan: &Plan, size: usize) -> Result<[Row; 4]> {
    let place = Place::under(&plan.place)?;
    let files = file_count(plan, size);
    let mut cluster = filled(place.path(), size, files).await?;
    let acknowledged = Arc::new(AtomicU64::new(files));
    let uploads = |salt| {
        let connections = Connection::several(&cluster.addresses, plan.native, UPLOADERS);
        let worker = |connection| Filling {
            connection,
            payload: Payload::new(size, salt),
            acknowledged: acknowledged.clone(),
        };
        connections.into_iter().map(worker).collect::<Vec<_>>()
    };
    let (way, size_name) = (plan.way(), size_name(size));
    let quiet = Load::closed(plan.duration).run(uploads(2)).await?;
    let quiet = Row::of(
        format!("put {way} {size_name} x{UPLOADERS}, no repair"),
        &quiet,
    );
    let (beside, afterwards) = (uploads(3), uploads(4));
    cluster.lose_one().await?;
    let ended = CancellationToken::new();
    let load = Load::closed(REPAIR_LIMIT).run_until(ended.clone(), beside);
    let name = format!("repair {size_name} of {files}, beside uploads");
    let repair = async {
        let row = cluster.repair(name, size, || acknowledged.load(Ordering::SeqCst));
        let row = row.await;
        ended.cancel();
        row
    };
    let (repair, uploads) = tokio::join!(repair, load);
    let uploads = Row::of(
        format!("put {way} {size_name} x{UPLOADERS}, beside repair"),
        &uploads?,
    );
    let repair = repair?;
    let afterwards = Load::closed(plan.duration).run(afterwards).await?;
    let afterwards = Row::of(
        format!("put {way} {size_name} x{UPLOADERS}, after repair"),
        &afterwards,
    );
    Ok([quiet, repair, uploads, afterwards])
}

fn live(nodes: &[NodeStatus]) -> impl Iterator<Item = &NodeStatus> {
    nodes.iter().filter(|node| node.state == NodeState::Live)
}

/// As the namenode counts them.
fn live_replicas(nodes: &[NodeStatus]) -> u64 {
    live(nodes).map(|node| node.replicas).sum()
}

pub(super) fn address_of(process: &Process) -> Result<String> {
    let line = process.ready_line();
    let last = line.rsplit(' ').next().context("an empty line")?;
    let last = last.trim_start_matches("http://");
    Ok(last.trim_end_matches('/').to_owned())
}
