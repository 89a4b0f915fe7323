//! I5, I6: dead nodes and bad replicas are noticed and made good again, while readers see nothing of it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::scaled;
use richardstore_drills::{Content, Http, inspect_tree, wait_until};
use tokio::task::JoinSet;

/// Times that let a test see in seconds what takes half a minute by default.
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms",
    "200",
    "--stale-after-ms",
    "1500",
    "--dead-after-ms",
    "4000",
];

/// Replicas of every file: hash -> (on nodes that are not dead, on all). A node that was silent for a moment still has its own.
async fn replicas_of_all(http: &Http) -> BTreeMap<String, (usize, usize)> {
    let nodes = http.get("/nodes").await.unwrap().json().unwrap();
    let there: Vec<String> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["state"] != "dead")
        .map(|node| node["node_id"].to_string())
        .collect();
    let replicas = http.get("/admin/dump/replicas").await.unwrap();
    let mut all = BTreeMap::new();
    for line in String::from_utf8(replicas.body.to_vec()).unwrap().lines() {
        let replica: serde_json::Value = serde_json::from_str(line).unwrap();
        let hash = replica["hash"].as_str().unwrap().to_owned();
        let (on_there, on_all) = all.entry(hash).or_insert((0, 0));
        *on_all += 1;
        *on_there += usize::from(there.contains(&replica["node"].to_string()));
    }
    all
}

async fn upload_all(http: &Http, files: u64) -> Vec<(String, Content)> {
    let mut uploads = JoinSet::new();
    let mut done = Vec::new();
    for seed in 0..files {
        if uploads.len() >= 16 {
            done.push(uploads.join_next().await.unwrap().unwrap());
        }
        let (http, content) = (http.clone(), Content::new(seed, 1_000 + seed));
        uploads.spawn(async move { (http.upload(content).await.unwrap(), content) });
    }
    while let Some(upload) = uploads.join_next().await {
        done.push(upload.unwrap());
    }
    done
}

/// Reads one file after the other until it is told to stop; every read must be right.
async fn read_on(http: Http, files: Vec<(String, Content)>, stop: Arc<AtomicBool>) -> u64 {
    let reads = AtomicU64::new(0);
    while !stop.load(Ordering::SeqCst) {
        for (hash, content) in &files {
            let found = http.download_matches(hash, *content).await;
            assert_eq!(found.unwrap(), Some(true), "{hash}");
            reads.fetch_add(1, Ordering::SeqCst);
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
    }
    reads.into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i06_a_dead_datanode_is_repaired_while_readers_see_no_error_and_its_return_is_trimmed() {
    let files = scaled("HEALING_FILES", 300);
    let mut cluster = Cluster::start(4, &QUICK).await;
    let uploaded = upload_all(&cluster.http, files).await;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read_on(
        cluster.http.clone(),
        uploaded.clone(),
        stop.clone(),
    ));

    cluster.datanodes[3].take().unwrap().kill().await.unwrap();
    cluster.wait_for_live(3).await;
    let info = || async { cluster.http.get("/info").await.unwrap().json().unwrap() };
    wait_until("the node is dead", Duration::from_secs(30), || async {
        info().await["nodes"]["dead"] == 1
    })
    .await
    .unwrap();
    let dead_since = Instant::now();
    wait_until(
        "three replicas of all",
        Duration::from_secs(120),
        || async {
            let all = replicas_of_all(&cluster.http).await;
            all.len() as u64 == files && all.values().all(|(there, _)| *there >= 3)
        },
    )
    .await
    .unwrap();
    let repaired_in = dead_since.elapsed();

    let spec = &cluster.datanode_specs[3];
    cluster.datanodes[3] = Some(spec.start("listening on").await.unwrap());
    cluster.wait_for_live(4).await;
    let back_since = Instant::now();
    wait_until("surplus trimmed", Duration::from_secs(120), || async {
        let all = replicas_of_all(&cluster.http).await;
        assert!(all.values().all(|(there, _)| *there >= 3), "below target");
        all.values().all(|counts| *counts == (3, 3))
    })
    .await
    .unwrap();
    let trimmed_in = back_since.elapsed();
    stop.store(true, Ordering::SeqCst);
    let reads = reader.await.unwrap();
    println!(
        "healing: {files} files, repaired {repaired_in:?} after the node was declared dead, \
         trimmed {trimmed_in:?} after it was back, {reads} reads meanwhile without an error"
    );
    assert!(reads > 0);
    assert!(repaired_in < Duration::from_secs(20), "{repaired_in:?}");
    let directory = cluster.directory.path().to_owned();
    wait_until(
        "what is on the disks is what is on record",
        Duration::from_secs(30),
        || async {
            let on_disk: usize = (1..=4)
                .map(|node| {
                    let root = directory.join(format!("datanode-{node}/replicas"));
                    inspect_tree(&root).map_or(0, |found| found.replicas.len())
                })
                .sum();
            on_disk as u64 == files * 3
        },
    )
    .await
    .unwrap();
    cluster.stop().await;
}

/// The path of a replica below a store's root, whatever the layout.
fn replica_path(root: &Path, hash: &str) -> Option<PathBuf> {
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                let name = entry.file_name().into_string().ok()?;
                if hash.contains(&name) {
                    waiting.push(path);
                }
            } else if path.file_name().is_some_and(|name| name == hash) {
                return Some(path);
            }
        }
    }
    None
}

fn flip_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Number of the datanode that readers are sent to first.
async fn first_choice(http: &Http, hash: &str) -> usize {
    let status = http.get(&format!("/files/{hash}/status")).await.unwrap();
    let name = status.json().unwrap()["replicas"][0]["name"].to_string();
    name.trim_matches('"')
        .trim_start_matches("datanode-")
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i05_a_flipped_byte_is_never_served_and_is_made_good_again() {
    let cluster = Cluster::start(3, &QUICK).await;
    let content = Content::new(1, 300_000);
    let hash = cluster.http.upload(content).await.unwrap();
    let node = first_choice(&cluster.http, &hash).await;
    let root = cluster.replicas(node);
    flip_a_byte(&replica_path(&root, &hash).unwrap());
    let (flipped, reads) = (Instant::now(), AtomicU64::new(0));
    wait_until(
        "the replica is whole again",
        Duration::from_secs(60),
        || async {
            reads.fetch_add(1, Ordering::Relaxed);
            let found = cluster.http.download_matches(&hash, content).await;
            assert_eq!(found.unwrap(), Some(true));
            inspect_tree(&root)
                .is_ok_and(|found| found.wrong.is_empty() && found.replicas == [hash.clone()])
        },
    )
    .await
    .unwrap();
    println!(
        "one flipped byte: {} reads, all right; made anew {:.1} s after the flip",
        reads.into_inner(),
        flipped.elapsed().as_secs_f32()
    );
    let aside = std::fs::read_dir(root.join("quarantine")).unwrap().count();
    assert_eq!(aside, 1, "the bad replica is kept for the operator");
    // The disk is ahead of the report that tells the namenode.
    wait_until("it is on record again", Duration::from_secs(30), || async {
        replicas_of_all(&cluster.http).await[&hash] == (3, 3)
    })
    .await
    .unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i05_with_all_replicas_bad_reads_fail_clearly_and_nothing_is_deleted() {
    let cluster = Cluster::start(3, &QUICK).await;
    let content = Content::new(2, 300_000);
    let hash = cluster.http.upload(content).await.unwrap();
    for node in 1..=3 {
        flip_a_byte(&replica_path(&cluster.replicas(node), &hash).unwrap());
    }
    for _ in 0..5 {
        let answer = cluster.http.get(&format!("/files/{hash}")).await;
        // Either an error with a reason, or a transfer that is broken off: never an end as if it were whole.
        if let Ok(answer) = answer {
            assert!(answer.status.is_server_error(), "{}", answer.status);
            assert!(answer.json().unwrap()["error"].is_string());
        }
    }
    let kept = (1..=3)
        .filter(|node| replica_path(&cluster.replicas(*node), &hash).is_some())
        .count();
    assert_eq!(kept, 3, "nothing is deleted or put aside");
    cluster.stop().await;
}
