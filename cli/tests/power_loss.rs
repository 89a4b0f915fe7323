//! I1, I2, I3 when every node loses power together: what no sync has brought to the disk is gone, page cache and all.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::workload::{Disks, Workload, assert_kept};
use common::{Dev, has_loop_disks, scaled};
use richardstore_drills::{LoopDisk, ProcessSpec, Random};
use tempfile::TempDir;
use tokio::task::JoinSet;

const WORKERS: u64 = 16;
/// Takes only what is written to it.
const DISK_BYTES: u64 = 16 << 30;
/// What `dev` promises by default before it acknowledges.
const MIN_REPLICATION: usize = 2;

/// Starts the store and cuts the power again before, or just after, it is up: its recovery must not lose anything either.
async fn lose_power_while_starting(spec: &ProcessSpec, disk: &LoopDisk, after: Duration) {
    let mut start = Box::pin(spec.start("http://"));
    let started = tokio::time::timeout(after, &mut start).await;
    disk.power_cut().unwrap();
    if let Ok(up_already) = started {
        up_already.unwrap().kill().await.unwrap();
    }
    drop(start);
    disk.remount().await.unwrap();
}

/// Before anything could be healed: every replica is what its name says, every acknowledged file is there twice.
fn inspect_after_power_loss(data: &Path, workload: &Workload) {
    let disks = Disks::inspect(data);
    assert_eq!(disks.wrong, Vec::<PathBuf>::new());
    let held = workload.held();
    assert_eq!(disks.short(&held, MIN_REPLICATION), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_nothing_acknowledged_is_lost_when_every_node_loses_power_together() {
    if !has_loop_disks().await {
        return;
    }
    let rounds = scaled("POWER_ROUNDS", 5);
    let seed = Random::seed_from_environment("POWER_SEED");
    println!("POWER_SEED={seed} POWER_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    // Declared in this order so that the store ends first, then its disk goes, then the directory it was mounted in.
    let place = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = LoopDisk::create(place.path(), "disk", DISK_BYTES).unwrap();
    let logs = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut dev = Dev::start_in(logs, disk.path().join("data"), &[]).await;
    let data = dev.data();
    let workload = Workload::default();
    let mut cuts = 0;
    for round in 0..rounds {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(workload.clone().work(dev.http.clone(), random.number()));
        }
        workload.wait_for_an_answer().await;
        // The moment of the cut is the random input of this test, not a wait for a condition.
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
        // First what counts, then the cut: an answer between the two is left open, never the other way round.
        workload.freeze();
        disk.power_cut().unwrap();
        cuts += 1;
        let again = Duration::from_millis(random.below(400));
        dev = dev
            .kill_and_restart_after(async |spec| {
                disk.remount().await.unwrap();
                inspect_after_power_loss(&data, &workload);
                if round % 2 == 1 {
                    lose_power_while_starting(spec, &disk, again).await;
                    cuts += 1;
                    inspect_after_power_loss(&data, &workload);
                }
            })
            .await;
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        workload.thaw();
        workload.check_fresh(&dev.http).await;
    }
    workload.check_all(&dev.http).await;
    let tally = workload.tally();
    dev.process
        .terminate(Duration::from_secs(30))
        .await
        .unwrap();
    let disks = Disks::inspect(&data);
    println!(
        "power loss: rounds {rounds}, cuts {cuts}, acknowledged {}, deleted {}, cut {}, answered too late to count {}, lost {}, wrong {}, resurrected {}, replicas on disk {}, temp files {}",
        tally.acknowledged,
        tally.deleted,
        tally.cut,
        workload.late(),
        tally.lost,
        tally.wrong,
        tally.resurrected,
        disks.replicas(),
        disks.temporary.len(),
    );
    assert_kept(tally, &disks, rounds, &dev.spec.log_text());
}
