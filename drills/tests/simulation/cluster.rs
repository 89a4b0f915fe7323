//! The hosts of the simulation: a namenode, three datanodes and a spare one, on real directories.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use richardstore_datanode::{Datanode, DatanodeConfig, Identity};
use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::{NamenodeEpoch, NodeId, SessionEpoch};
use richardstore_runtime::Environment;
use richardstore_store::{Depth, Layout};
use turmoil::Sim;

use crate::host::Host;
use crate::network::World;

/// The namenode's host.
pub const NAMENODE: &str = "namenode";
/// Where the namenode is reached.
pub const NAMENODE_ADDRESS: &str = "namenode:9000";
/// The datanodes' hosts. A file gets three replicas, so one of them is spare.
pub const DATANODES: [&str; 4] = ["node-1", "node-2", "node-3", "node-4"];

/// The client's host.
pub const CLIENT: &str = "client";
/// The host of the one who only reads.
pub const READER: &str = "reader";
/// All hosts.
pub const HOSTS: [&str; 7] = [
    NAMENODE, CLIENT, READER, "node-1", "node-2", "node-3", "node-4",
];

/// Room of a datanode, in bytes.
const CAPACITY_BYTES: u64 = 1 << 30;

/// Bit rot is found by the scrub where no reader finds it.
const SCRUB_INTERVAL: Duration = Duration::from_secs(40);

/// Adds namenode and datanodes to `sim`. They keep what they keep below `directory`, which survives their crashes.
pub fn add_cluster(sim: &mut Sim<'_>, directory: &Path, world: &World) -> turmoil::Result {
    let dir = directory.join(NAMENODE);
    let shared = world.clone();
    sim.host(NAMENODE, move || {
        let role = run_namenode(dir.clone(), shared.environment(NAMENODE));
        process(shared.host(NAMENODE).clone(), role)
    });
    for (number, name) in (1..).zip(DATANODES) {
        let dir = directory.join(name);
        write_identity(&dir, number);
        let shared = world.clone();
        sim.host(name, move || {
            let role = run_datanode(name, dir.clone(), shared.environment(name));
            process(shared.host(name).clone(), role)
        });
    }
    Ok(())
}

/// A datanode makes up an id where it finds none, and its pauses between retries follow from that. With an id it was given
/// they follow from the seed like all else.
fn write_identity(dir: &Path, number: u8) {
    let identity = Identity {
        node_id: NodeId::new([number; 16]),
        cluster_id: None,
        session_epoch: SessionEpoch(0),
        namenode_epoch: NamenodeEpoch(0),
    };
    std::fs::create_dir_all(dir).unwrap();
    identity.save(dir).unwrap();
}

/// Runs `role` until it is killed, and then leaves it as it is, without connections, until it is taken away.
async fn process(host: Arc<Host>, role: impl Future<Output = turmoil::Result>) -> turmoil::Result {
    let killed = host.begin();
    let mut role = pin!(role);
    tokio::select! {
        biased;
        () = killed.cancelled() => host.hang_up(),
        ended = &mut role => return ended,
    }
    std::future::pending().await
}

async fn run_namenode(dir: PathBuf, environment: Environment) -> turmoil::Result {
    let config = NamenodeConfig {
        dir,
        listen: "0.0.0.0:9000".to_owned(),
        advertise: Some(NAMENODE_ADDRESS.to_owned()),
        heartbeat_interval_ms: 500,
        stale_after_ms: 2_500,
        dead_after_ms: 8_000,
        write_timeout_ms: 20_000,
        cache_bytes: 1 << 20,
        reserve_bytes: 0,
        // Copies of the metadata are files in the store, which the oracle does not know.
        copy_interval_ms: 0,
        ..NamenodeConfig::default()
    };
    let namenode = Namenode::start(config, environment).await?;
    namenode.failed().await;
    Err("the namenode could not go on".into())
}

async fn run_datanode(name: &str, dir: PathBuf, environment: Environment) -> turmoil::Result {
    let config = DatanodeConfig {
        advertise: Some(format!("{name}:9100")),
        name: name.to_owned(),
        headroom_bytes: 0,
        layout: Some(Layout::new(1, Depth::Levels(1))?),
        scrub_interval: SCRUB_INTERVAL,
        // The machine's free space changes while a seed runs; placement must not follow that.
        capacity_bytes: Some(CAPACITY_BYTES),
        index_cache_bytes: 1 << 20,
        ..DatanodeConfig::new(dir, "0.0.0.0:9100", NAMENODE_ADDRESS)
    };
    let datanode = Datanode::start(config, environment).await?;
    datanode.failed().await;
    Err(format!("{name} could not go on: {:?}", datanode.failure()).into())
}
