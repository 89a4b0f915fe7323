//! A datanode that is away on purpose is not replaced; one that is gone for good is forgotten, and refused when it returns.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::admin::{admin, holders_elsewhere};
use common::cluster::Cluster;
use richardstore_drills::{Content, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
/// Silence after which a datanode is dead here, and after which repair would long have begun. Milliseconds.
const DEAD_AFTER_MS: u64 = 8_000;
const LONG_DEAD_MS: u64 = 12_000;

async fn node(cluster: &Cluster, name: &str) -> Option<Value> {
    let nodes = cluster.http.get("/nodes").await.ok()?.json().ok()?;
    let mut nodes = nodes["nodes"].as_array()?.iter();
    nodes.find(|node| node["name"] == name).cloned()
}

async fn info(cluster: &Cluster) -> Value {
    cluster.http.get("/info").await.unwrap().json().unwrap()
}

/// The fewest replicas that a file has on other nodes than this one.
async fn fewest_elsewhere(cluster: &Cluster, id: &str) -> usize {
    let holders = holders_elsewhere(&cluster.http, id).await;
    holders.values().map(|nodes| nodes.len()).min().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_away_on_purpose_is_waited_for_and_one_that_is_gone_is_removed_and_not_let_in_again()
{
    let dead = DEAD_AFTER_MS.to_string();
    let quick = ["--heartbeat-interval-ms", "200", "--stale-after-ms", "5000"];
    let flags: Vec<&str> = quick
        .into_iter()
        .chain(["--dead-after-ms", &dead])
        .collect();
    let mut cluster = Cluster::start(4, &flags).await;
    for seed in 0..40 {
        let content = Content::new(seed, 1_000 + seed);
        cluster.http.upload(content).await.unwrap();
    }
    let (code, lines) = admin(&cluster, &["maintenance", "datanode-4", "--for", "1h"]).await;
    assert_eq!(code, Some(0));
    assert!(lines[0]["maintenance_until_ms"].as_u64().is_some());
    let id = lines[0]["node_id"].as_str().unwrap().to_owned();
    let before = holders_elsewhere(&cluster.http, &id).await;
    assert_eq!(before.values().map(|nodes| nodes.len()).min(), Some(2));
    let (code, _) = admin(&cluster, &["remove", "datanode-4"]).await;
    assert_eq!(code, Some(1), "it is there");

    let stopped = cluster.datanodes[3].take().unwrap();
    assert!(stopped.terminate(LIMIT).await.unwrap().success());
    wait_until("a long silence", LIMIT, || async {
        let node = node(&cluster, "datanode-4").await;
        node.is_some_and(|node| node["last_heartbeat_age_ms"].as_u64() > Some(LONG_DEAD_MS))
    })
    .await
    .unwrap();
    assert_eq!(holders_elsewhere(&cluster.http, &id).await, before);
    let shown = info(&cluster).await;
    assert_eq!(
        (&shown["status"], &shown["nodes"]["maintenance"]),
        (&"running".into(), &1.into())
    );
    assert_eq!(
        node(&cluster, "datanode-4").await.unwrap()["state"],
        "maintenance"
    );

    let (code, _) = admin(&cluster, &["maintenance", "datanode-4", "--end"]).await;
    assert_eq!(code, Some(0));
    wait_until("three replicas elsewhere", LIMIT, || async {
        fewest_elsewhere(&cluster, &id).await == 3
    })
    .await
    .unwrap();
    let (code, lines) = admin(&cluster, &["remove", "datanode-4"]).await;
    assert_eq!((code, &lines[0]["admin"]), (Some(0), &"removed".into()));
    assert!(node(&cluster, "datanode-4").await.is_none());

    let returned = cluster.datanode_specs[3]
        .start("listening on")
        .await
        .unwrap();
    wait_until("the word to wipe it", LIMIT, || async {
        cluster.datanode_specs[3]
            .log_text()
            .contains("wipe its directory")
    })
    .await
    .unwrap();
    // It ends by itself; whether it still ran when it was told to does not matter.
    let _ = returned.terminate(LIMIT).await;
    let directory = cluster.directory.path().join("datanode-4");
    std::fs::remove_dir_all(directory).unwrap();
    let wiped = cluster.datanode_specs[3]
        .start("listening on")
        .await
        .unwrap();
    cluster.datanodes[3] = Some(wiped);
    cluster.wait_for_live(4).await;
    assert_ne!(
        node(&cluster, "datanode-4").await.unwrap()["node_id"],
        id.as_str()
    );
    cluster.stop().await;
}
