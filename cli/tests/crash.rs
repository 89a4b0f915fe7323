//! I1, I2, I3: SIGKILL of the whole store in the middle of uploads and deletes, again and again.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::workload::{Disks, Workload, assert_kept};
use common::{Dev, scaled};
use richardstore_drills::{Random, inspect_tree, wait_until};
use tokio::task::JoinSet;

const WORKERS: u64 = 32;
const LIMIT: Duration = Duration::from_secs(120);
/// A database that loses pages in each crash would grow by more than this.
const DATABASE_BYTES: u64 = 32 << 20;
const DATABASE_BYTES_PER_FILE: u64 = 4 << 10;

/// Commands, tombstones and writes all come to their end, however often that was put off by a kill, and on the disks lies
/// what was promised and nothing else.
async fn wait_for_nothing_left(dev: &Dev, promised: &BTreeSet<String>) {
    let data = dev.data();
    wait_until("nothing is left to do", LIMIT, || async {
        let info = dev.http.get("/info").await.unwrap().json().unwrap();
        let idle = ["commands_pending", "tombstones", "writes_in_flight"]
            .iter()
            .all(|what| info[what] == 0);
        // Second: this reads every replica, some of which may be on their way out.
        idle && (1..=3).all(|node| {
            let root = data.join(format!("datanode-{node}/replicas"));
            inspect_tree(&root)
                .is_ok_and(|found| found.replicas.iter().all(|hash| promised.contains(hash)))
        })
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_i03_nothing_acknowledged_is_lost_over_rounds_of_sigkill() {
    let rounds = scaled("CRASH_ROUNDS", 25);
    let seed = Random::seed_from_environment("CRASH_SEED");
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    // A write that a kill cut is given up within the test.
    let mut dev = Dev::start_with(&["--write-timeout-ms", "5000"]).await;
    let workload = Workload::default();
    for _ in 0..rounds {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(workload.clone().work(dev.http.clone(), random.number()));
        }
        workload.wait_for_an_answer().await;
        // The moment of the kill is the random input of this test, not a wait for a condition.
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
        dev = dev.kill_and_restart().await;
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        workload.check_fresh(&dev.http).await;
    }
    workload.check_all(&dev.http).await;
    let tally = workload.tally();
    wait_for_nothing_left(&dev, &workload.present()).await;
    let data = dev.data();
    dev.process
        .terminate(Duration::from_secs(30))
        .await
        .unwrap();

    let disks = Disks::inspect(&data);
    let database_bytes = std::fs::metadata(data.join("namenode/metadata.redb"))
        .unwrap()
        .len();
    println!(
        "crash: rounds {rounds}, acknowledged {}, deleted {}, cut {}, lost {}, wrong {}, resurrected {}, replicas on disk {}, temp files {}, commands, tombstones and open writes 0, database {database_bytes} bytes",
        tally.acknowledged,
        tally.deleted,
        tally.cut,
        tally.lost,
        tally.wrong,
        tally.resurrected,
        disks.replicas(),
        disks.temporary.len(),
    );
    assert_kept(tally, &disks, rounds, &dev.spec.log_text());
    assert_eq!(
        disks.copies.keys().cloned().collect::<BTreeSet<_>>(),
        workload.present()
    );
    let limit = DATABASE_BYTES + DATABASE_BYTES_PER_FILE * tally.acknowledged;
    assert!(
        database_bytes < limit,
        "the database has {database_bytes} bytes"
    );
}
