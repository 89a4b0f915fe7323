//! I6: a datanode is emptied by one command while readers see nothing of it, and can then be taken away.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::{Duration, Instant};

use common::admin::{admin, holders_elsewhere};
use common::cluster::Cluster;
use common::scaled;
use richardstore_drills::{Content, Http, wait_until};

async fn read_all(http: &Http, files: &[(String, Content)]) {
    for (hash, content) in files {
        let found = http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true), "{hash}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i06_a_decommissioned_datanode_is_emptied_under_reads_and_can_be_taken_away() {
    let quick = ["--heartbeat-interval-ms", "200", "--stale-after-ms", "1500"];
    let mut cluster = Cluster::start(4, &quick).await;
    let mut files = Vec::new();
    for seed in 0..scaled("DECOMMISSION_FILES", 60) {
        let content = Content::new(seed, 1_000 + seed);
        files.push((cluster.http.upload(content).await.unwrap(), content));
    }
    let began = Instant::now();
    let (code, lines) = {
        let decommission = admin(&cluster, &["decommission", "datanode-4"]);
        tokio::pin!(decommission);
        loop {
            tokio::select! {
                ended = &mut decommission => break ended,
                () = read_all(&cluster.http, &files) => {}
            }
        }
    };
    let end = lines.last().unwrap();
    assert_eq!(
        (code, end["admin"].as_str()),
        (Some(0), Some("decommissioned"))
    );
    println!(
        "decommission: {} files in {:?}",
        files.len(),
        began.elapsed()
    );
    let id = end["node_id"].as_str().unwrap().to_owned();
    let elsewhere = holders_elsewhere(&cluster.http, &id).await;
    assert_eq!(elsewhere.len(), files.len());
    assert!(elsewhere.values().all(|holders| holders.len() == 3));

    let stopped = cluster.datanodes[3].take().unwrap();
    let limit = Duration::from_secs(30);
    assert!(stopped.terminate(limit).await.unwrap().success());
    read_all(&cluster.http, &files).await;
    wait_until("a cluster without faults", limit, || async {
        let info = cluster.http.get("/info").await.unwrap().json().unwrap();
        info["nodes"]["live"] == 3 && info["status"] == "running"
    })
    .await
    .unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_cannot_end_lists_what_blocks_it_and_safe_mode_is_the_operators() {
    let cluster = Cluster::start(3, &["--heartbeat-interval-ms", "200"]).await;
    let hash = cluster.http.upload(Content::new(1, 9_000)).await.unwrap();
    let ask = ["decommission", "datanode-1", "--no-wait"];
    wait_until("the blocking file", Duration::from_secs(30), || async {
        let (code, lines) = admin(&cluster, &ask).await;
        assert_eq!((code, lines.len()), (Some(0), 1));
        let status = &lines[0];
        assert_eq!(status["admin"], "decommissioning");
        status["first"][0]["hash"] == hash
            && status["first"][0]["reason"] == "no other datanode can take it"
    })
    .await
    .unwrap();
    let (code, lines) = admin(&cluster, &["decommission", "datanode-1", "--undo"]).await;
    assert_eq!((code, &lines[0]["admin"]), (Some(0), &"in_service".into()));
    let (code, _) = admin(&cluster, &["decommission", "nobody"]).await;
    assert_eq!(code, Some(3));
    for (action, on) in [
        ("get", false),
        ("enter", true),
        ("get", true),
        ("leave", false),
    ] {
        let (code, lines) = admin(&cluster, &["safemode", action]).await;
        assert_eq!((code, &lines[0]["on"]), (Some(0), &on.into()), "{action}");
    }
    cluster.stop().await;
}
