//! A datanode is killed, and its replicas are made again: four datanodes as processes of their own.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use richardstore_client::{Client, ClientConfig, NodeStatus};
use richardstore_drills::{Process, ProcessSpec};
use richardstore_proto::NodeState;
use richardstore_runtime::Environment;

use super::{Plan, size_name};
use crate::connection::{Addresses, Connection};
use crate::load::{Load, Pace, Worker};
use crate::payload::Payload;
use crate::row::Row;
use crate::test_store::this_binary;

const DATANODES: usize = 4;
const REPLICAS: u64 = 3;
/// Repair must not wait for the limit that protects a cluster in use: its own speed is measured.
const UNLIMITED: &str = "100GiB";
const REPAIR_LIMIT: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LARGE: usize = 1 << 20;

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
}

impl Worker for Filling {
    async fn operation(&mut self, number: u64) -> Result<u64> {
        self.connection.put(self.payload.chunks(number)).await?;
        Ok(self.payload.size() as u64)
    }
}

pub(super) async fn run(plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &size in &plan.sizes {
        let fewer = if size >= LARGE { 64 } else { 1 };
        rows.push(lose_one(plan, size, (plan.repair_files / fewer).max(4)).await?);
    }
    Ok(rows)
}

async fn lose_one(plan: &Plan, size: usize, files: u64) -> Result<Row> {
    let place = tempfile::TempDir::with_prefix_in("richardstore-bench-", &plan.place)?;
    let mut cluster = Cluster::start(place.path()).await?;
    let connections = Connection::several(&cluster.addresses, true, 16);
    let filling = connections.into_iter().map(|connection| Filling {
        connection,
        payload: Payload::new(size, 1),
    });
    let load = Load {
        operations: files,
        duration: REPAIR_LIMIT,
        pace: Pace::Closed,
    };
    let stored = load.run(filling.collect()).await?;
    ensure!(stored.failed == 0, "{:?}", stored.error);
    let lost = cluster.datanodes.pop().context("there are four")?;
    lost.kill().await?;
    let dead = |nodes: &[NodeStatus]| nodes.iter().any(|node| node.state == NodeState::Dead);
    cluster.wait("the lost datanode is dead", dead).await?;
    let begun = Instant::now();
    let held = live_replicas(&cluster.client.nodes().await?);
    let missing = (files * REPLICAS).saturating_sub(held);
    ensure!(missing > 0, "the lost datanode held nothing");
    let healed = |nodes: &[NodeStatus]| live_replicas(nodes) >= files * REPLICAS;
    cluster.wait("all replicas are there again", healed).await?;
    let name = format!("repair {} of {files}", size_name(size));
    let bytes = missing * size as u64;
    Ok(Row::rate(
        name,
        missing,
        begun.elapsed().as_secs_f64(),
        bytes,
    ))
}

fn live(nodes: &[NodeStatus]) -> impl Iterator<Item = &NodeStatus> {
    nodes.iter().filter(|node| node.state == NodeState::Live)
}

/// As the namenode counts them.
fn live_replicas(nodes: &[NodeStatus]) -> u64 {
    live(nodes).map(|node| node.replicas).sum()
}

fn address_of(process: &Process) -> Result<String> {
    let line = process.ready_line();
    let last = line.rsplit(' ').next().context("an empty line")?;
    let last = last.trim_start_matches("http://");
    Ok(last.trim_end_matches('/').to_owned())
}
