//! I1, I2, I3: SIGKILL of the whole store in the middle of uploads and deletes, again and again.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::workload::{Disks, Workload, assert_kept};
use common::{Dev, scaled};
use richardstore_drills::Random;
use tokio::task::JoinSet;

const WORKERS: u64 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_i03_nothing_acknowledged_is_lost_over_rounds_of_sigkill() {
    let rounds = scaled("CRASH_ROUNDS", 25);
    let seed = Random::seed_from_environment("CRASH_SEED");
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let mut dev = Dev::start().await;
    let workload = Workload::default();
    for _ in 0..rounds {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(workload.clone().work(dev.http.clone(), random.number()));
        }
        // The moment of the kill is the random input of this test, not a wait for a condition.
        tokio::time::sleep(Duration::from_millis(100 + random.below(500))).await;
        dev = dev.kill_and_restart().await;
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        workload.check_fresh(&dev.http).await;
    }
    workload.check_all(&dev.http).await;
    let tally = workload.tally();
    let data = dev.data();
    dev.process.terminate(Duration::from_secs(5)).await.unwrap();

    let disks = Disks::inspect(&data);
    println!(
        "crash: rounds {rounds}, acknowledged {}, deleted {}, cut {}, lost {}, wrong {}, resurrected {}, replicas on disk {}, temp files {}",
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
}
