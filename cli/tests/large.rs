//! I11: memory does not grow with file size.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::{Dev, scaled};
use richardstore_drills::{Content, wait_until};
use tokio::task::JoinSet;

const MEMORY_LIMIT_BYTES: u64 = 400 << 20;
const GONE_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_large_files_and_many_at_once_stay_under_400_mib_of_memory() {
    let one = scaled("LARGE_FILE_MIB", 256) << 20;
    let each = scaled("LARGE_PARALLEL_MIB", 24) << 20;
    let dev = Dev::start().await;
    let content = Content::new(1, one);
    let hash = dev.http.upload(content).await.unwrap();
    let found = dev.http.download_matches(&hash, content).await.unwrap();
    assert_eq!(found, Some(true));
    let peak_of_one = dev.process.peak_memory_bytes().unwrap();
    let answer = dev
        .http
        .call(http::Method::DELETE, &format!("/files/{hash}"), &[])
        .await
        .unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    // A disk that holds the one file or the sixteen need not hold both.
    wait_until("the one file's bytes are gone", GONE_WITHIN, || async {
        let info = dev.http.get("/info").await.unwrap().json().unwrap();
        info["tombstones"] == 0
    })
    .await
    .unwrap();

    let mut transfers = JoinSet::new();
    for seed in 0..16 {
        let (http, content) = (dev.http.clone(), Content::new(100 + seed, each));
        transfers.spawn(async move {
            let hash = http.upload(content).await.unwrap();
            let found = http.download_matches(&hash, content).await.unwrap();
            assert_eq!(found, Some(true));
        });
    }
    while let Some(transfer) = transfers.join_next().await {
        transfer.unwrap();
    }
    let peak = dev.process.peak_memory_bytes().unwrap();
    println!(
        "memory: peak {} MiB with one file of {} MiB, {} MiB with 16 of {} MiB at once",
        peak_of_one >> 20,
        one >> 20,
        peak >> 20,
        each >> 20,
    );
    assert!(peak < MEMORY_LIMIT_BYTES, "{} MiB", peak >> 20);
}
