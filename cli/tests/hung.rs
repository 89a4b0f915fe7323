//! Processes that hang (SIGSTOP): their connections stay open, and nothing comes (FAULTS 39, 43).

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::{Duration, Instant};

use common::cluster::Cluster;
use richardstore_drills::{Content, wait_until};

const LIMIT: Duration = Duration::from_secs(90);
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms",
    "200",
    "--stale-after-ms",
    "1500",
    "--dead-after-ms",
    "4000",
];

async fn counts(cluster: &Cluster, state: &str) -> u64 {
    let info = cluster.http.get("/info").await.unwrap().json().unwrap();
    info["nodes"][state].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i06_a_hung_datanode_holds_up_no_reader_and_is_taken_in_again() {
    let cluster = Cluster::start(4, &QUICK).await;
    let mut files = Vec::new();
    for seed in 0..16 {
        let content = Content::new(seed, 300_000);
        files.push((cluster.http.upload(content).await.unwrap(), content));
    }
    let victim = cluster.datanodes[0].as_ref().unwrap();
    victim.pause().await.unwrap();
    let mut slowest = Duration::ZERO;
    for (hash, content) in &files {
        let began = Instant::now();
        let found = cluster.http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true), "{hash}");
        slowest = slowest.max(began.elapsed());
    }
    wait_until("it is stale", LIMIT, || async {
        counts(&cluster, "live").await == 3
    })
    .await
    .unwrap();
    // From then on it is asked for no write, and the others take it all.
    let content = Content::new(100, 300_000);
    let began = Instant::now();
    files.push((cluster.http.upload(content).await.unwrap(), content));
    let write_took = began.elapsed();
    wait_until("it is dead", LIMIT, || async {
        counts(&cluster, "dead").await == 1
    })
    .await
    .unwrap();
    let content = Content::new(200, 300_000);
    files.push((cluster.http.upload(content).await.unwrap(), content));
    victim.resume().unwrap();
    wait_until("it is taken in again", LIMIT, || async {
        counts(&cluster, "live").await == 4
    })
    .await
    .unwrap();
    wait_until("three replicas of all, and no more", LIMIT, || async {
        let mut exact = true;
        for (hash, _) in &files {
            let path = format!("/files/{hash}/status");
            let status = cluster.http.get(&path).await.unwrap().json().unwrap();
            exact &= status["replicas"].as_array().unwrap().len() == 3;
        }
        exact
    })
    .await
    .unwrap();
    for (hash, content) in &files {
        let found = cluster.http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true), "{hash}");
    }
    println!(
        "one datanode hung: slowest of 16 reads {slowest:?}, an upload beside it {write_took:?}"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i07_a_hung_namenode_is_a_clear_error_and_nobody_is_declared_dead_when_it_goes_on() {
    let cluster = Cluster::start(3, &QUICK).await;
    let content = Content::new(1, 50_000);
    let hash = cluster.http.upload(content).await.unwrap();
    cluster.namenode.pause().await.unwrap();
    let began = Instant::now();
    let info = cluster.http.get("/info").await.unwrap().json().unwrap();
    assert_eq!(info["status"], "unavailable");
    let read = cluster.http.get(&format!("/files/{hash}")).await.unwrap();
    assert_eq!(read.status, 503);
    let answered_in = began.elapsed();
    // Longer than a silent datanode lives.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    cluster.namenode.resume().unwrap();
    wait_until("it answers again", LIMIT, || async {
        let found = cluster.http.download_matches(&hash, content).await;
        matches!(found, Ok(Some(true)))
    })
    .await
    .unwrap();
    cluster.wait_for_live(3).await;
    let log = cluster.namenode_spec.log_text();
    assert!(!log.contains("datanode is dead"), "the silence was its own");
    println!("a hung namenode: two calls answered with the reason within {answered_in:?}");
    cluster.stop().await;
}
