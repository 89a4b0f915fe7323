//! Disks that fail without being full (FAULTS 13, 14, 19, 20, 25): a sync or a read with EIO, a slow disk, a lost index.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::strace::Strace;
use richardstore_drills::{Content, Random, inspect_tree, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms",
    "200",
    "--stale-after-ms",
    "3000",
    "--dead-after-ms",
    "20000",
];

type Files = Vec<(String, Content)>;

async fn upload(cluster: &Cluster, files: &mut Files, count: u64, size: u64) {
    for _ in 0..count {
        let content = Content::new(files.len() as u64, size);
        files.push((cluster.http.upload(content).await.unwrap(), content));
    }
}

async fn read_all(cluster: &Cluster, files: &Files) {
    for (hash, content) in files {
        let found = cluster.http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true), "{hash}");
    }
}

async fn node(cluster: &Cluster, name: &str) -> Value {
    let nodes = cluster.http.get("/nodes").await.unwrap().json().unwrap();
    let nodes = nodes["nodes"].as_array().unwrap().clone();
    nodes.into_iter().find(|node| node["name"] == name).unwrap()
}

/// Names of the nodes that hold the file, as the namenode knows them.
async fn holders(cluster: &Cluster, hash: &str) -> BTreeSet<String> {
    let path = format!("/files/{hash}/status");
    let status = cluster.http.get(&path).await.unwrap().json().unwrap();
    let replicas = status["replicas"].as_array().unwrap().clone();
    let name = |replica: Value| replica["name"].as_str().unwrap().to_owned();
    replicas.into_iter().map(name).collect()
}

async fn wait_for_three_replicas(cluster: &Cluster, files: &Files) {
    wait_until("three replicas of all", LIMIT, || async {
        for (hash, _) in files {
            if holders(cluster, hash).await.len() != 3 {
                return false;
            }
        }
        true
    })
    .await
    .unwrap();
}

async fn restart(cluster: &mut Cluster, number: usize, meanwhile: impl FnOnce(&Path)) {
    let process = cluster.datanodes[number - 1].take().unwrap();
    process.kill().await.unwrap();
    let directory = cluster.replicas(number).parent().unwrap().to_owned();
    meanwhile(&directory);
    let spec = &cluster.datanode_specs[number - 1];
    cluster.datanodes[number - 1] = Some(spec.start("listening on").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_a_failed_sync_fails_the_volume_for_good_and_others_take_over() {
    if !Strace::is_possible() {
        return;
    }
    let mut cluster = Cluster::start(4, &QUICK).await;
    let mut files = Files::new();
    upload(&cluster, &mut files, 5, 50_000).await;
    let log = cluster.directory.path().join("strace.log");
    let victim = cluster.datanodes[0].as_ref().unwrap();
    let syncs = "fsync,fdatasync,syncfs";
    let failing = Strace::attach(victim, syncs, "error=EIO", &log).await;
    let volume_failed = |log: &str| log.matches("volume failed").count();
    let mut met = 0;
    while volume_failed(&cluster.datanode_specs[0].log_text()) == 0 {
        assert!(met < 200, "no upload came to the failing disk");
        upload(&cluster, &mut files, 1, 50_000).await;
        met += 1;
    }
    // The disk says that all is well again. What it lost before, it lost.
    failing.detach();
    let held = inspect_tree(&cluster.replicas(1)).unwrap().replicas;
    wait_until("the node reports itself", LIMIT, || async {
        node(&cluster, "datanode-1").await["read_only"] == true
    })
    .await
    .unwrap();
    upload(&cluster, &mut files, 20, 50_000).await;
    for (hash, _) in &files {
        let holders = holders(&cluster, hash).await;
        assert!(holders.len() >= 2, "{hash}: {holders:?}");
        let claimed = holders.contains("datanode-1");
        assert!(
            !claimed || held.contains(hash),
            "{hash} is claimed and not there"
        );
    }
    for (hash, _) in &files[files.len() - 20..] {
        wait_until("the other three have all of it", LIMIT, || async {
            holders(&cluster, hash).await.len() == 3
        })
        .await
        .unwrap();
        assert!(!holders(&cluster, hash).await.contains("datanode-1"));
    }
    assert_eq!(
        inspect_tree(&cluster.replicas(1)).unwrap().replicas,
        held,
        "it takes no writes"
    );
    assert_eq!(volume_failed(&cluster.datanode_specs[0].log_text()), 1);
    read_all(&cluster, &files).await;

    restart(&mut cluster, 1, |_| ()).await;
    wait_until("a restart takes it in again", LIMIT, || async {
        node(&cluster, "datanode-1").await["read_only"] == false
    })
    .await
    .unwrap();
    wait_for_three_replicas(&cluster, &files).await;
    read_all(&cluster, &files).await;
    println!(
        "a disk whose syncs fail: noticed at upload {met}, {} files acknowledged, all readable",
        files.len()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i05_reads_that_fail_on_one_disk_are_served_by_others_and_made_good() {
    if !Strace::is_possible() {
        return;
    }
    let cluster = Cluster::start(3, &QUICK).await;
    let mut files = Files::new();
    upload(&cluster, &mut files, 12, 100_000).await;
    let log = cluster.directory.path().join("strace.log");
    let victim = cluster.datanodes[0].as_ref().unwrap();
    let failing = Strace::attach(victim, "pread64", "error=EIO", &log).await;
    let mut rounds = 0;
    while !std::fs::read_to_string(&log).unwrap().contains("EIO") {
        assert!(rounds < 50, "no read came to the failing disk");
        read_all(&cluster, &files).await;
        rounds += 1;
    }
    failing.detach();
    wait_for_three_replicas(&cluster, &files).await;
    wait_until("nothing is left to make good", LIMIT, || async {
        let info = cluster.http.get("/info").await.unwrap().json().unwrap();
        let found = inspect_tree(&cluster.replicas(1)).unwrap();
        info["commands_pending"] == 0
            && info["status"] == "running"
            && found.wrong.is_empty()
            && found.replicas.len() == files.len()
    })
    .await
    .unwrap();
    read_all(&cluster, &files).await;
    println!(
        "a disk whose reads fail: {} of {} files served all along",
        files.len(),
        files.len()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_does_not_slow_down_reads_of_what_others_hold() {
    if !Strace::is_possible() {
        return;
    }
    let cluster = Cluster::start(3, &QUICK).await;
    let mut files = Files::new();
    upload(&cluster, &mut files, 12, 100_000).await;
    let log = cluster.directory.path().join("strace.log");
    let victim = cluster.datanodes[0].as_ref().unwrap();
    // Far longer than a read takes that does not wait for it.
    let slow = Strace::attach(victim, "pread64", "delay_enter=6000000", &log).await;
    let mut slowest = Duration::ZERO;
    for (hash, content) in &files {
        let began = Instant::now();
        let found = cluster.http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true));
        slowest = slowest.max(began.elapsed());
    }
    slow.detach();
    println!(
        "one disk that takes 6 s for a read: slowest of {} reads {slowest:?}",
        files.len()
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    cluster.stop().await;
}

/// All lines of the namenode's table of replicas.
async fn replicas_on_record(cluster: &Cluster) -> BTreeSet<String> {
    let dump = cluster.http.get("/admin/dump/replicas").await.unwrap();
    let text = String::from_utf8(dump.body.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Bytes that mean nothing in place of every file of `directory`.
fn overwrite_with_noise(directory: &Path) {
    let mut random = Random::new(7);
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            overwrite_with_noise(&path);
        } else {
            let length = entry.metadata().unwrap().len();
            let noise: Vec<u8> = (0..length)
                .map(|_| random.number().to_le_bytes()[0])
                .collect();
            std::fs::write(path, noise).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i09_an_index_that_is_gone_or_noise_is_made_anew_and_reports_the_same() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    let mut files = Files::new();
    upload(&cluster, &mut files, 40, 5_000).await;
    for (number, noise) in [(1, false), (2, true), (3, false), (3, true)] {
        let before = replicas_on_record(&cluster).await;
        assert_eq!(before.len(), 3 * files.len());
        let session = |node: &Value| node["session_epoch"].as_u64().unwrap();
        let name = format!("datanode-{number}");
        let old = session(&node(&cluster, &name).await);
        restart(&mut cluster, number, |directory| {
            let index = directory.join("index");
            match noise {
                true => overwrite_with_noise(&index),
                false => std::fs::remove_dir_all(&index).unwrap(),
            }
        })
        .await;
        read_all(&cluster, &files).await;
        wait_until("it has reported all it holds", LIMIT, || async {
            let node = node(&cluster, &name).await;
            session(&node) > old && node["last_report_age_ms"].as_u64().is_some()
        })
        .await
        .unwrap();
        wait_until("the same is on record", LIMIT, || async {
            let info = cluster.http.get("/info").await.unwrap().json().unwrap();
            info["commands_pending"] == 0 && replicas_on_record(&cluster).await == before
        })
        .await
        .unwrap();
        read_all(&cluster, &files).await;
        upload(&cluster, &mut files, 1, 5_000).await;
        wait_for_three_replicas(&cluster, &files).await;
    }
    println!(
        "4 indexes lost or overwritten: {} files, the same replicas on record each time",
        files.len()
    );
    cluster.stop().await;
}
