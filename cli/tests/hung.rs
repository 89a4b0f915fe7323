//! Processes that hang (SIGSTOP) or have a disk that is slow: their connections stay open, and nothing or little comes
//! (FAULTS 25, 39, 43).

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::strace::Strace;
use futures_util::future::join_all;
use http::StatusCode;
use richardstore_drills::{Content, inspect_tree, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(90);
/// As `--dead-after-ms` below.
const DEAD_AFTER: Duration = Duration::from_millis(4_000);
/// An upload through a chain of three of which one hangs: what the client waits for the chain to take bytes, and to answer.
const UPLOAD_LIMIT: Duration = Duration::from_secs(75);
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
    let reads = async {
        let mut slowest = Duration::ZERO;
        for (hash, content) in &files {
            let began = Instant::now();
            let found = cluster.http.download_matches(hash, *content).await;
            assert_eq!(found.unwrap(), Some(true), "{hash}");
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    // Small ones, which share a message: when it is known that it hangs, each finds other nodes.
    let small: Vec<Content> = (300..324).map(|seed| Content::new(seed, 4096)).collect();
    let uploads = small.iter().map(|content| async {
        let began = Instant::now();
        let hash = cluster.http.upload(*content).await.unwrap();
        (hash, *content, began.elapsed())
    });
    let (slowest, uploads) = tokio::join!(reads, join_all(uploads));
    let small_took = uploads.iter().map(|(_, _, took)| *took);
    let (soonest, latest) = (small_took.clone().min(), small_took.max());
    files.extend(
        uploads
            .into_iter()
            .map(|(hash, content, _)| (hash, content)),
    );
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
        "one datanode hung: slowest of 16 reads {slowest:?}, an upload beside it {write_took:?}, \
         24 small ones at once {soonest:?} to {latest:?}"
    );
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    assert!(latest < Some(Duration::from_secs(60)), "{latest:?}");
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
    wait_until(
        "it has hung for longer than a silent datanode lives",
        LIMIT,
        || async { began.elapsed() > DEAD_AFTER },
    )
    .await
    .unwrap();
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

/// An upload by hand, which stands in the middle until it is told to go on.
struct HalfUpload {
    content: Content,
    socket: TcpStream,
}

impl HalfUpload {
    async fn begin(cluster: &Cluster, content: Content) -> Self {
        let mut socket = TcpStream::connect(cluster.http.authority()).await.unwrap();
        let head = format!(
            "POST /files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            content.size
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let bytes = content.bytes();
        socket.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
        Self { content, socket }
    }

    /// The datanodes that have begun to write it, by number.
    async fn writers(&self, cluster: &Cluster) -> Vec<usize> {
        let writing = || {
            let begun = |number: &usize| {
                let tree = inspect_tree(&cluster.replicas(*number)).unwrap();
                !tree.temporary.is_empty()
            };
            (1..=cluster.datanodes.len())
                .filter(begun)
                .collect::<Vec<_>>()
        };
        wait_until("three datanodes write", LIMIT, || async {
            writing().len() == 3
        })
        .await
        .unwrap();
        writing()
    }

    /// Sends the rest: the answer, and how long it took.
    async fn finish(mut self) -> (StatusCode, Duration) {
        let began = Instant::now();
        let bytes = self.content.bytes();
        // Refused early, it may be closed before it is sent whole: the answer is there all the same.
        let _ = self.socket.write_all(&bytes[bytes.len() / 2..]).await;
        let mut answer = Vec::new();
        let reading = self.socket.read_to_end(&mut answer);
        let read = tokio::time::timeout(UPLOAD_LIMIT, reading).await;
        read.expect("an answer in bounded time").unwrap();
        let status = StatusCode::from_bytes(&answer[9..12]).unwrap();
        (status, began.elapsed())
    }
}

/// What an upload that somebody held up left behind: all of the file or nothing, and no temp file.
async fn assert_whole_or_absent(cluster: &Cluster, content: Content, status: StatusCode) {
    wait_until("no temp file is left", LIMIT, || async {
        let left = |number| {
            inspect_tree(&cluster.replicas(number))
                .unwrap()
                .temporary
                .len()
        };
        (1..=cluster.datanodes.len()).map(left).sum::<usize>() == 0
    })
    .await
    .unwrap();
    let hash = content.hash();
    let found = cluster.http.download_matches(&hash, content).await.unwrap();
    match status {
        StatusCode::CREATED => assert_eq!(found, Some(true)),
        StatusCode::SERVICE_UNAVAILABLE => assert_ne!(found, Some(false)),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_a_datanode_that_hangs_in_mid_write_ends_in_success_or_a_clean_503() {
    let cluster = Cluster::start(4, &QUICK).await;
    // One after the other, each place of the chain: which node has which is for the namenode to say.
    for place in 0..3 {
        let content = Content::new(place as u64, 8_000_000);
        let upload = HalfUpload::begin(&cluster, content).await;
        let number = upload.writers(&cluster).await[place];
        let victim = cluster.datanodes[number - 1].as_ref().unwrap();
        victim.pause().await.unwrap();
        let (status, took) = upload.finish().await;
        println!(
            "datanode-{number} hung in mid-write: {status} after {:.1} s",
            took.as_secs_f32()
        );
        victim.resume().unwrap();
        cluster.wait_for_live(4).await;
        assert_whole_or_absent(&cluster, content, status).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_a_datanode_that_is_slow_in_mid_write_is_waited_for_while_it_gets_on() {
    if !Strace::is_possible() {
        return;
    }
    let cluster = Cluster::start(3, &QUICK).await;
    let content = Content::new(1, 8_000_000);
    let upload = HalfUpload::begin(&cluster, content).await;
    upload.writers(&cluster).await;
    let written = inspect_tree(&cluster.replicas(1)).unwrap().temporary;
    let log = cluster.directory.path().join("strace.log");
    let victim = cluster.datanodes[0].as_ref().unwrap();
    let (calls, how) = ("write", "delay_enter=500000");
    let slow = Strace::attach_to_file(victim, &written[0], calls, how, &log).await;
    let (status, took) = upload.finish().await;
    slow.detach();
    let delayed = std::fs::read_to_string(&log).unwrap();
    let delayed = delayed
        .lines()
        .filter(|line| line.contains("DELAYED"))
        .count();
    println!(
        "a disk that takes 0.5 s for a write, {delayed} times: {status} after {:.1} s",
        took.as_secs_f32()
    );
    assert!(delayed > 4);
    assert_eq!(status, StatusCode::CREATED);
    cluster.wait_for_live(3).await;
    assert_whole_or_absent(&cluster, content, status).await;
    cluster.stop().await;
}
