//! I3, I6, I7, I10: the namenode is killed again and again while files are copied, trimmed and deleted (FAULTS 9, 10).

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use common::cluster::Cluster;
use common::{binary, scaled};
use richardstore_drills::{Content, Random, inspect_tree, wait_until};

const NODES: usize = 4;
const REPLICAS: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);

/// Wants datanode 4 emptied, or not any more. It is of no concern whether this command sees the end of it.
async fn decommission(cluster: &Cluster, undo: bool) {
    let namenode = cluster.namenode.ready_line().rsplit(' ').next().unwrap();
    let mut command = tokio::process::Command::new(binary());
    command.args([
        "admin",
        "decommission",
        "datanode-4",
        "--namenode",
        namenode,
    ]);
    command.args(undo.then_some("--undo"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).kill_on_drop(true);
    let wish_is_taken = Duration::from_millis(300);
    let _ = tokio::time::timeout(wish_is_taken, command.status()).await;
}

async fn number(cluster: &Cluster, what: &str) -> u64 {
    let info = cluster.http.get("/info").await.unwrap().json().unwrap();
    info[what].as_u64().unwrap_or(u64::MAX)
}

/// How many replicas of each file lie on the disks; `None` while one comes or goes.
fn on_disk(cluster: &Cluster) -> Option<BTreeMap<String, usize>> {
    let mut copies = BTreeMap::new();
    for node in 1..=NODES {
        let found = inspect_tree(&cluster.replicas(node)).ok()?;
        assert_eq!(found.wrong, Vec::<PathBuf>::new());
        for hash in found.replicas {
            *copies.entry(hash).or_default() += 1;
        }
    }
    Some(copies)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i06_i10_repairs_and_deletes_complete_over_kills_of_the_namenode_and_none_twice() {
    let kills = scaled("NAMENODE_KILLS", 6);
    let seed = Random::seed_from_environment("NAMENODE_KILLS_SEED");
    println!("NAMENODE_KILLS_SEED={seed} NAMENODE_KILLS={kills}");
    let mut random = Random::new(seed);
    // So slow that no drain ends between two kills.
    let flags = [
        "--heartbeat-interval-ms",
        "200",
        "--repair-bytes-per-second",
        "400000",
    ];
    let mut cluster = Cluster::start(NODES, &flags).await;
    let mut files = BTreeMap::new();
    let mut next = 0;
    let (mut deleted, mut pending, mut busy) = (0, 0, 0);
    for kill in 0..kills {
        for _ in 0..20 {
            next += 1;
            let content = Content::new(next, 20_000);
            files.insert(cluster.http.upload(content).await.unwrap(), content);
        }
        decommission(&cluster, kill % 2 == 1).await;
        let gone: Vec<String> = files.keys().step_by(3).cloned().collect();
        for hash in gone {
            let path = format!("/files/{hash}");
            let answer = cluster.http.call(http::Method::DELETE, &path, &[]).await;
            assert_eq!(answer.unwrap().status, 200);
            files.remove(&hash);
            deleted += 1;
        }
        // The moment of the kill is the random input of this test, not a wait for a condition. Every other one comes at once,
        // when the deletes cannot be confirmed yet.
        let moment = random.below(500) * (kill % 2);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let commands = number(&cluster, "commands_pending").await;
        pending += commands;
        busy += u64::from(commands > 0);
        cluster.namenode.kill().await.unwrap();
        cluster.namenode = cluster.namenode_spec.start("listening on").await.unwrap();
        cluster.wait_for_live(NODES).await;
    }
    decommission(&cluster, true).await;
    wait_until("everything came to its end", LIMIT, || async {
        let idle = [
            "commands_pending",
            "tombstones",
            "writes_in_flight",
            "under_replicated",
        ];
        for what in idle {
            if number(&cluster, what).await > 0 {
                return false;
            }
        }
        let exact = |copies: &BTreeMap<String, usize>| {
            copies.keys().eq(files.keys()) && copies.values().all(|copies| *copies == REPLICAS)
        };
        on_disk(&cluster).as_ref().is_some_and(exact)
    })
    .await
    .unwrap();
    for (hash, content) in &files {
        let found = cluster.http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true), "{hash}");
    }
    println!(
        "namenode killed {kills} times, {busy} of them with commands under way ({pending} in all): {deleted} deletes complete, \
         {} files with exactly {REPLICAS} replicas, missing 0, surplus 0",
        files.len()
    );
    assert!(busy > 0, "nothing was ever under way");
    cluster.stop().await;
}
