//! Disks that are full (FAULTS 11, 12): uploads are refused or go elsewhere, everything else goes on, and room that is made
//! is used.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::has_loop_disks;
use richardstore_drills::{Content, LoopDisk, inspect_tree, wait_until};
use tempfile::TempDir;

const NODES: usize = 3;
const DISK_BYTES: u64 = 64 << 20;
const HEADROOM: [&str; 2] = ["--headroom", "16MiB"];
const FILE_BYTES: u64 = 3 << 20;
const LIMIT: Duration = Duration::from_secs(60);

type Files = BTreeMap<String, Content>;

/// A cluster in which each of `roles` has a small disk of its own.
async fn start(roles: &[&str], namenode_flags: &[&str]) -> (Vec<LoopDisk>, Cluster) {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = |role: &&str| LoopDisk::create(directory.path(), role, DISK_BYTES).unwrap();
    let disks = roles.iter().map(disk).collect();
    let cluster = Cluster::start_in(directory, NODES, namenode_flags, &HEADROOM).await;
    (disks, cluster)
}

/// In this order: a disk can only go after the processes on it, and the directory after the disks.
async fn stop(disks: Vec<LoopDisk>, cluster: Cluster) {
    let directory = cluster.stop().await;
    drop(disks);
    drop(directory);
}

async fn read_all(cluster: &Cluster, files: &Files) {
    for (hash, content) in files {
        let found = cluster.http.download_matches(hash, *content).await;
        assert_eq!(found.unwrap(), Some(true), "{hash}");
    }
}

/// The status of the answer to a delete.
async fn delete(cluster: &Cluster, hash: &str) -> u16 {
    let path = format!("/files/{hash}");
    let answer = cluster.http.call(http::Method::DELETE, &path, &[]).await;
    answer.unwrap().status.as_u16()
}

/// Replicas on each node, none of them wrong; `None` while a temp file is about.
fn replicas(cluster: &Cluster) -> Option<Vec<Vec<String>>> {
    (1..=NODES)
        .map(|node| {
            // A replica may go while it is looked for.
            let found = inspect_tree(&cluster.replicas(node)).ok()?;
            assert_eq!(found.wrong, Vec::<PathBuf>::new());
            found.temporary.is_empty().then_some(found.replicas)
        })
        .collect()
}

/// Only acknowledged files lie on the disks, whole, and nothing else stays there.
async fn wait_for_nothing_but(cluster: &Cluster, files: &Files) {
    wait_until("nothing half there", LIMIT, || async {
        replicas(cluster)
            .is_some_and(|nodes| nodes.iter().flatten().all(|hash| files.contains_key(hash)))
    })
    .await
    .unwrap();
}

/// Whether the disks are as they were left: nobody went into the headroom.
fn assert_headroom(disks: &[LoopDisk]) {
    for disk in disks {
        let free = disk.available_bytes().unwrap();
        // What is not replicas (the index) may use some of it; that is what it is for.
        assert!(free > 8 << 20, "{} has {free} left", disk.path().display());
    }
}

/// Uploads until one is refused, and says how.
async fn fill(cluster: &Cluster, files: &mut Files) -> String {
    for seed in 1..200 {
        let content = Content::new(seed, FILE_BYTES);
        match cluster.http.upload(content).await {
            Ok(hash) => drop(files.insert(hash, content)),
            Err(refusal) => return refusal.to_string(),
        }
    }
    panic!("the disks never were full");
}

/// Uploads until there are `count` files; how often that was refused meanwhile. Each refusal must be a 507.
async fn fill_again(cluster: &Cluster, files: &mut Files, count: usize) -> u64 {
    let deadline = Instant::now() + LIMIT;
    let (mut seed, mut refused) = (1_000, 0);
    while files.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} fit", files.len());
        seed += 1;
        let content = Content::new(seed, FILE_BYTES);
        match cluster.http.upload(content).await {
            Ok(hash) => drop(files.insert(hash, content)),
            Err(refusal) => {
                assert!(refusal.to_string().contains("507"), "{refusal:#}");
                refused += 1;
                // Paces the asking: the room comes with the deletes' commands and the next heartbeats.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i02_i11_full_disks_answer_507_and_take_uploads_again_after_deletes() {
    if !has_loop_disks().await {
        return;
    }
    let (disks, cluster) = start(&["datanode-1", "datanode-2", "datanode-3"], &[]).await;
    let mut files = Files::new();
    let refusal = fill(&cluster, &mut files).await;
    assert!(refusal.contains("507"), "{refusal}");
    // Sent without waiting for an answer, which comes early and must not be lost. A length that nobody said in advance is
    // found out in mid-stream at the earliest.
    for extra in 0..2 {
        let bytes = Content::new(2_000 + extra, 40 << 20).bytes();
        let answer = cluster.http.upload_form(&bytes).await.unwrap();
        assert_eq!(answer.status, 507, "{:?}", answer.body);
    }
    read_all(&cluster, &files).await;
    wait_for_nothing_but(&cluster, &files).await;
    assert_headroom(&disks);
    let full = files.len();

    let gone: Vec<String> = files.keys().take(full / 2).cloned().collect();
    for hash in &gone {
        assert_eq!(delete(&cluster, hash).await, 200);
        files.remove(hash);
    }
    let refused = fill_again(&cluster, &mut files, full - 1).await;
    read_all(&cluster, &files).await;
    wait_for_nothing_but(&cluster, &files).await;
    println!(
        "full disks: {full} files until 507, {} deleted, {refused} refused until there was room, {} there in the end, all readable",
        gone.len(),
        files.len()
    );
    stop(disks, cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i11_one_full_disk_is_left_out_and_catches_up_when_it_has_room() {
    if !has_loop_disks().await {
        return;
    }
    let (disks, cluster) = start(&["datanode-1"], &[]).await;
    let mut files = Files::new();
    // More than the small disk holds.
    for seed in 1..=DISK_BYTES * 4 / 3 / FILE_BYTES {
        let content = Content::new(seed, FILE_BYTES);
        files.insert(cluster.http.upload(content).await.unwrap(), content);
    }
    read_all(&cluster, &files).await;
    wait_for_nothing_but(&cluster, &files).await;
    assert_headroom(&disks);
    let held = replicas(&cluster).unwrap();
    assert!(held[0].len() < files.len(), "the small disk was never full");
    assert_eq!((held[1].len(), held[2].len()), (files.len(), files.len()));
    println!(
        "one full disk: {} files, {} of them on the small disk",
        files.len(),
        held[0].len()
    );
    for hash in &held[0] {
        assert_eq!(delete(&cluster, hash).await, 200);
        files.remove(hash);
    }
    let content = Content::new(10_000, FILE_BYTES);
    // The small disk takes new replicas by itself, of this upload or of the files that it could not take before.
    wait_until("room on the small disk is used", LIMIT, || async {
        let hash = cluster.http.upload(content).await.unwrap();
        let known = |found: &String| files.contains_key(found) || *found == hash;
        replicas(&cluster).is_some_and(|nodes| !nodes[0].is_empty() && nodes[0].iter().all(known))
    })
    .await
    .unwrap();
    read_all(&cluster, &files).await;
    stop(disks, cluster).await;
}

/// The status of one small upload, and the hash if there is one.
async fn upload(cluster: &Cluster, content: Content) -> (u16, String) {
    let answer = cluster.http.upload_form(&content.bytes()).await.unwrap();
    let hash = answer.json().unwrap()["hash"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status.as_u16(), hash)
}

/// Leaves `bytes` of `disk` free by writing to the file `ballast`.
fn leave_free(disk: &LoopDisk, bytes: u64) {
    use std::io::Write;
    let mut ballast = std::fs::File::options()
        .create(true)
        .append(true)
        .open(disk.path().join("ballast"))
        .unwrap();
    let page = vec![7; 64 << 10];
    while disk.available_bytes().unwrap() > bytes {
        if ballast.write_all(&page).is_err() {
            break;
        }
    }
    ballast.sync_all().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i07_i11_a_full_namenode_disk_serves_reads_says_so_and_recovers_by_itself() {
    if !has_loop_disks().await {
        return;
    }
    // What a write leaves that cannot even be given back on the full disk goes when its time has run out.
    let flags = ["--metadata-reserve=32MiB", "--write-timeout-ms=10000"];
    let (disks, mut cluster) = start(&["namenode"], &flags).await;
    let disk = &disks[0];
    let mut files = Files::new();
    for seed in 1..=20 {
        let content = Content::new(seed, 10_000);
        files.insert(cluster.http.upload(content).await.unwrap(), content);
    }

    // Into the reserve: no new files, deletes work.
    leave_free(disk, 20 << 20);
    assert_eq!(upload(&cluster, Content::new(100, 10_000)).await.0, 507);
    let gone = files.keys().next().unwrap().clone();
    assert_eq!(delete(&cluster, &gone).await, 200);
    files.remove(&gone);
    wait_for_nothing_but(&cluster, &files).await;
    let info = cluster.http.get("/info").await.unwrap().json().unwrap();
    assert_eq!(info["status"], "degraded");
    let reason = info["reason"].to_string();
    assert!(reason.contains("the namenode's disk has"), "{reason}");

    // To the last byte: only reads, and nothing breaks.
    leave_free(disk, 0);
    let mut refused = 0;
    for seed in 200..220 {
        let (status, _) = upload(&cluster, Content::new(seed, 10_000)).await;
        assert_eq!(status, 507);
        refused += 1;
    }
    let kept = files.keys().next().unwrap().clone();
    assert_eq!(delete(&cluster, &kept).await, 507);
    read_all(&cluster, &files).await;

    // Room comes back, and nobody has to do anything.
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    let content = Content::new(300, 10_000);
    wait_until("uploads work again", LIMIT, || async {
        upload(&cluster, content).await == (200, content.hash())
    })
    .await
    .unwrap();
    files.insert(content.hash(), content);
    assert_eq!(delete(&cluster, &kept).await, 200);
    files.remove(&kept);

    cluster.namenode.kill().await.unwrap();
    cluster.namenode = cluster.namenode_spec.start("listening on").await.unwrap();
    cluster.wait_for_live(NODES).await;
    read_all(&cluster, &files).await;
    wait_for_nothing_but(&cluster, &files).await;
    println!(
        "full namenode disk: {refused} uploads refused with 507, all {} files readable throughout and after a kill",
        files.len()
    );
    stop(disks, cluster).await;
}
