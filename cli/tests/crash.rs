//! I1, I2, I3: SIGKILL of the whole store in the middle of uploads and deletes, again and again.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Dev, panics, scaled};
use richardstore_drills::{Content, Http, Oracle, Random, inspect_tree};
use tokio::task::JoinSet;

const WORKERS: u64 = 32;

/// Uploads and deletes until the store is gone. Each worker has contents of its own, so that what it knows of a file is
/// the whole truth about it.
async fn work(http: Http, oracle: Arc<Mutex<Oracle>>, seed: u64) {
    let mut random = Random::new(seed);
    let mut mine: Vec<String> = Vec::new();
    loop {
        if random.below(4) == 0 && !mine.is_empty() {
            let at = usize::try_from(random.below(mine.len() as u64)).unwrap();
            let hash = mine.swap_remove(at);
            oracle.lock().unwrap().delete_started(&hash);
            match http
                .call(http::Method::DELETE, &format!("/files/{hash}"), &[])
                .await
            {
                Ok(answer) if answer.status == 200 => {
                    oracle.lock().unwrap().delete_acknowledged(&hash);
                }
                _ => return oracle.lock().unwrap().request_cut(),
            }
        } else {
            let size = match random.below(20) {
                0 => 0,
                1..=2 => random.below(3 << 20),
                _ => random.below(40 << 10),
            };
            let content = Content::new(random.number(), size.max(1));
            let hash = content.hash();
            oracle.lock().unwrap().upload_started(&hash, content);
            match http.upload(content).await {
                Ok(answer) => {
                    assert_eq!(answer, hash);
                    oracle.lock().unwrap().upload_acknowledged(&hash);
                    mine.push(hash);
                }
                Err(_) => return oracle.lock().unwrap().request_cut(),
            }
        }
    }
}

/// Reads every file that was ever touched and tells the oracle what it found.
async fn check(http: &Http, oracle: &Arc<Mutex<Oracle>>, touched: Vec<(String, Content)>) {
    let mut reads = JoinSet::new();
    for (hash, content) in touched {
        if reads.len() >= 16 {
            reads.join_next().await.unwrap().unwrap();
        }
        let (http, oracle) = (http.clone(), oracle.clone());
        reads.spawn(async move {
            let found = http.download_matches(&hash, content).await.unwrap();
            oracle.lock().unwrap().observed(&hash, found);
        });
    }
    while let Some(read) = reads.join_next().await {
        read.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_i03_nothing_acknowledged_is_lost_over_rounds_of_sigkill() {
    let rounds = scaled("CRASH_ROUNDS", 25);
    let seed = Random::seed_from_environment("CRASH_SEED");
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let mut dev = Dev::start().await;
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let mut checked = std::collections::BTreeSet::new();
    for _ in 0..rounds {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(work(dev.http.clone(), oracle.clone(), random.number()));
        }
        // The moment of the kill is the random input of this test, not a wait for a condition.
        tokio::time::sleep(Duration::from_millis(100 + random.below(500))).await;
        dev = dev.kill_and_restart().await;
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        let touched = oracle.lock().unwrap().touched();
        let fresh = touched
            .into_iter()
            .filter(|(hash, _)| checked.insert(hash.clone()))
            .collect();
        check(&dev.http, &oracle, fresh).await;
    }
    let touched = oracle.lock().unwrap().touched();
    check(&dev.http, &oracle, touched).await;
    let tally = oracle.lock().unwrap().tally();
    let data = dev.data();
    dev.process.terminate(Duration::from_secs(5)).await.unwrap();

    let (mut replicas, mut wrong, mut temporary) = (0, Vec::new(), Vec::new());
    for node in 1..=3 {
        let findings = inspect_tree(&data.join(format!("datanode-{node}/replicas"))).unwrap();
        replicas += findings.replicas.len();
        wrong.extend(findings.wrong);
        temporary.extend(findings.temporary);
    }
    println!(
        "crash: rounds {rounds}, acknowledged {}, deleted {}, cut {}, lost {}, wrong {}, resurrected {}, replicas on disk {replicas}, temp files {}",
        tally.acknowledged,
        tally.deleted,
        tally.cut,
        tally.lost,
        tally.wrong,
        tally.resurrected,
        temporary.len(),
    );
    assert!(
        tally.acknowledged >= rounds,
        "the store did hardly any work"
    );
    assert_eq!((tally.lost, tally.wrong, tally.resurrected), (0, 0, 0));
    assert_eq!(wrong, Vec::<std::path::PathBuf>::new());
    assert_eq!(temporary, Vec::<std::path::PathBuf>::new());
    assert_eq!(panics(&dev.spec.log_text()), Vec::<&str>::new());
}
