//! A real network that fails: processes in network namespaces, cut off by `nft` drops, gone without a reset, behind slow links
//! (FAULTS 38, 39, 40).

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::networked::{CLIENT, DATANODES, GATEWAY, NAMENODE, Networked, in_network};
use http::{Method, StatusCode};
use richardstore_drills::{Content, Cut, Namespaces, Oracle, inspect_tree, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(120);
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms",
    "200",
    "--stale-after-ms",
    "2500",
    "--dead-after-ms",
    "4000",
];
/// Interval plus timeout of the keep-alive of every gRPC connection, and what a busy machine may add.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(8);

/// What was asked of a store, and how long the slowest answer took.
struct Asked<'a> {
    cluster: &'a Networked,
    oracle: Oracle,
    seed: u64,
    refused: u32,
    slowest: Duration,
}

impl Asked<'_> {
    /// Uploads a file. Anything but success and 503 is a failure.
    async fn upload(&mut self) -> StatusCode {
        self.seed += 1;
        let content = Content::new(self.seed, 150_000);
        let hash = content.hash();
        self.oracle.upload_started(&hash, content);
        let bytes = content.bytes();
        let status = self.ask(Method::POST, "/files", bytes).await;
        match status {
            StatusCode::CREATED => self.oracle.upload_acknowledged(&hash),
            _ => self.oracle.request_cut(),
        }
        status
    }

    async fn delete(&mut self, hash: &str) -> StatusCode {
        self.oracle.delete_started(hash);
        let path = format!("/files/{hash}");
        let status = self.ask(Method::DELETE, &path, Bytes::new()).await;
        match status.is_success() {
            true => self.oracle.delete_acknowledged(hash),
            false => self.oracle.request_cut(),
        }
        status
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> StatusCode {
        let began = Instant::now();
        let answer = self.cluster.http.send(method, path, &[], body).await;
        self.slowest = self.slowest.max(began.elapsed());
        let status = answer.unwrap().status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            self.refused += 1;
        } else {
            assert!(status.is_success(), "{status}");
        }
        status
    }

    /// Every file that must be there is read, with success.
    async fn read_all(&mut self) {
        let present = self.oracle.present();
        for (hash, content) in self.oracle.touched() {
            if present.contains(&hash) {
                let began = Instant::now();
                let found = self.cluster.http.download_matches(&hash, content).await;
                self.slowest = self.slowest.max(began.elapsed());
                assert_eq!(found.unwrap(), Some(true), "{hash}");
            }
        }
    }

    /// Everything is as it was promised, three times, and nothing is left to be done.
    async fn wait_until_healed(&mut self) -> Duration {
        let (began, cluster) = (Instant::now(), self.cluster);
        cluster.wait_for_live(DATANODES.len()).await;
        for (hash, content) in self.oracle.touched() {
            let found = cluster.http.download_matches(&hash, content).await;
            self.oracle.observed(&hash, found.unwrap());
        }
        let present = self.oracle.present();
        wait_until("it has healed", LIMIT, || async {
            let Ok(info) = cluster.http.get("/info").await.unwrap().json() else {
                return false;
            };
            let tombstones = cluster.http.get("/admin/dump/tombstones").await.unwrap();
            let mut exact = info["commands_pending"] == 0 && tombstones.body.is_empty();
            for hash in &present {
                let path = format!("/files/{hash}/status");
                let status = cluster.http.get(&path).await.unwrap().json().unwrap();
                exact &= status["replicas"].as_array().map(Vec::len) == Some(3);
            }
            exact
        })
        .await
        .unwrap();
        began.elapsed()
    }
}

/// A datanode that cannot be reached: until that is known, uploads end one way or the other; then they go on without it.
async fn use_without_datanode(asked: &mut Asked<'_>) {
    asked.upload().await;
    asked.read_all().await;
    asked.cluster.wait_for_live(DATANODES.len() - 1).await;
    for _ in 0..3 {
        assert_eq!(asked.upload().await, StatusCode::CREATED);
    }
    let victim = asked.oracle.present().pop_first().unwrap();
    assert!(asked.delete(&victim).await.is_success());
    asked.read_all().await;
}

/// A namenode that cannot be reached: a clear answer in bounded time, whatever is asked.
async fn use_without_namenode(asked: &mut Asked<'_>) {
    let began = Instant::now();
    let known = asked.oracle.present().pop_first().unwrap();
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(asked.upload().await, unavailable);
    assert_eq!(asked.delete(&known).await, unavailable);
    let path = format!("/files/{known}");
    let read = asked.ask(Method::GET, &path, Bytes::new());
    assert_eq!(read.await, unavailable);
    // Longer than a datanode lives that says nothing: the silence was the namenode's own.
    wait_until("the cut is long", LIMIT, || async {
        began.elapsed() > Duration::from_secs(6)
    })
    .await
    .unwrap();
}

#[test]
fn i01_i03_cut_off_machines_lose_nothing_and_the_store_heals_by_itself() {
    in_network(async |network| {
        let cluster = Networked::start(network, &QUICK, &[]).await;
        let mut asked = Asked {
            cluster: &cluster,
            oracle: Oracle::default(),
            seed: 0,
            refused: 0,
            slowest: Duration::ZERO,
        };
        for _ in 0..8 {
            assert_eq!(asked.upload().await, StatusCode::CREATED);
        }
        for (machine, cut) in [
            (DATANODES[0], Cut::Both),
            (DATANODES[1], Cut::Inward),
            (DATANODES[2], Cut::Outward),
            (NAMENODE, Cut::Both),
            (NAMENODE, Cut::Inward),
            (NAMENODE, Cut::Outward),
        ] {
            (asked.refused, asked.slowest) = (0, Duration::ZERO);
            network.cut(machine, cut).unwrap();
            match machine {
                NAMENODE => use_without_namenode(&mut asked).await,
                _ => use_without_datanode(&mut asked).await,
            }
            network.restore(machine).unwrap();
            let healed = asked.wait_until_healed().await;
            println!(
                "{machine} cut off ({cut:?}): refused {}, slowest answer {:.1} s, healed {:.1} s after the cut",
                asked.refused,
                asked.slowest.as_secs_f32(),
                healed.as_secs_f32(),
            );
            assert!(
                asked.slowest < Duration::from_secs(60),
                "{:?}",
                asked.slowest
            );
        }
        let tally = asked.oracle.tally();
        println!(
            "6 partitions: acknowledged {}, deleted {}, without an answer {}, lost {}, wrong {}, resurrected {}",
            tally.acknowledged,
            tally.deleted,
            tally.cut,
            tally.lost,
            tally.wrong,
            tally.resurrected
        );
        assert_eq!((tally.lost, tally.wrong, tally.resurrected), (0, 0, 0));
        let present = asked.oracle.present();
        let directory = cluster.stop().await;
        for name in DATANODES {
            let found = inspect_tree(&directory.path().join(name).join("replicas")).unwrap();
            assert!(
                found.wrong.is_empty() && found.temporary.is_empty(),
                "{name}"
            );
            assert!(
                found.replicas.iter().all(|hash| present.contains(hash)),
                "{name}"
            );
        }
    });
}

/// How long `machines` go on taking their connections with a vanished `peer` for alive.
async fn noticed(network: &Namespaces, machines: &[&str], peer: &str) -> Duration {
    let began = Instant::now();
    wait_until("all connections with it are given up", LIMIT, || async {
        let alive = |machine: &&str| network.connections(machine, peer).unwrap();
        machines.iter().map(alive).sum::<usize>() == 0
    })
    .await
    .unwrap();
    began.elapsed()
}

#[test]
fn i11_a_peer_that_vanished_without_a_reset_is_noticed_within_keep_alive() {
    in_network(async |network| {
        // Nothing but the keep-alive may notice it: a dead datanode would be given up for other reasons.
        let mut cluster = Networked::start(network, &["--dead-after-ms", "60000"], &[]).await;
        let mut files = Vec::new();
        for seed in 0..12 {
            let content = Content::new(seed, 150_000);
            files.push((cluster.http.upload(content).await.unwrap(), content));
        }
        let victim = DATANODES[0];
        let others = [NAMENODE, GATEWAY, DATANODES[1], DATANODES[2], DATANODES[3]];
        for machine in [NAMENODE, GATEWAY] {
            assert!(
                network.connections(machine, victim).unwrap() > 0,
                "{machine}"
            );
        }
        network.cut(victim, Cut::Both).unwrap();
        cluster.datanodes[0].take().unwrap().kill().await.unwrap();
        let datanode = noticed(network, &others, victim).await;
        for (hash, content) in &files {
            let found = cluster.http.download_matches(hash, *content).await;
            assert_eq!(found.unwrap(), Some(true), "{hash}");
        }
        for machine in [&[GATEWAY], &DATANODES[1..]].concat() {
            assert!(
                network.connections(machine, NAMENODE).unwrap() > 0,
                "{machine}"
            );
        }
        network.cut(NAMENODE, Cut::Both).unwrap();
        cluster.namenode.take().unwrap().kill().await.unwrap();
        let namenode = noticed(network, &others[1..], NAMENODE).await;
        println!(
            "vanished without a reset: a datanode noticed after {:.1} s, the namenode after {:.1} s",
            datanode.as_secs_f32(),
            namenode.as_secs_f32(),
        );
        for took in [datanode, namenode] {
            assert!(took < KEEP_ALIVE + BUSY, "{took:?}");
        }
        // Both come back at their addresses, and everybody finds them.
        network.restore(victim).unwrap();
        network.restore(NAMENODE).unwrap();
        cluster.namenode = Some(cluster.specs[0].start("listening on").await.unwrap());
        cluster.datanodes[0] = Some(cluster.specs[1].start("listening on").await.unwrap());
        cluster.wait_for_live(DATANODES.len()).await;
        for (hash, content) in &files {
            let found = cluster.http.download_matches(hash, *content).await;
            assert_eq!(found.unwrap(), Some(true), "{hash}");
        }
        cluster.stop().await;
    });
}

/// Until the gateway has given up its connection with the client, which has gone silent in the middle of a transfer.
async fn given_up(network: &Namespaces) -> Duration {
    noticed(network, &[GATEWAY], CLIENT).await
}

async fn begin(cluster: &Networked, head: &str) -> TcpStream {
    let mut socket = TcpStream::connect(cluster.http.authority()).await.unwrap();
    let head = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[test]
fn a_slow_transfer_that_moves_is_not_cut_and_one_that_stands_still_is() {
    in_network(async |network| {
        const PATIENCE: Duration = Duration::from_secs(4);
        let patience = PATIENCE.as_millis().to_string();
        let flags = ["--progress-timeout-ms", &patience];
        let cluster = Networked::start(network, &[], &flags).await;
        // A file takes 13 s through each of the links: longer than any node waits for one that stands still. Not slower ones: a
        // ping waits behind a frame of 256 KiB and what is in the socket, and 1 Mbit/s leaves a busy machine less than a second of
        // the five that keep-alive gives it.
        let slow = [&[CLIENT, GATEWAY], &DATANODES[..]].concat();
        let how = slow
            .iter()
            .map(|machine| network.slow(machine, 1_500).unwrap());
        let how = how.collect::<Vec<_>>()[0];
        let content = Content::new(1, 2_500_000);
        let began = Instant::now();
        let hash = cluster.http.upload(content).await.unwrap();
        let uploaded = began.elapsed();
        let began = Instant::now();
        let found = cluster.http.download_matches(&hash, content).await;
        assert_eq!(found.unwrap(), Some(true));
        let downloaded = began.elapsed();
        assert!(uploaded > 3 * PATIENCE && downloaded > 3 * PATIENCE);

        // Sent in part, and then nothing comes any more; the half that came is gone afterwards.
        let mut upload = begin(&cluster, "POST /files").await;
        upload.write_all(&[7; 100_000]).await.unwrap();
        network.cut(CLIENT, Cut::Outward).unwrap();
        let upload_given_up = given_up(network).await;
        network.restore(CLIENT).unwrap();
        drop(upload);
        let mut download = begin(&cluster, &format!("GET /files/{hash}")).await;
        let mut received = vec![0; 100_000];
        download.read_exact(&mut received).await.unwrap();
        network.cut(CLIENT, Cut::Both).unwrap();
        let download_given_up = given_up(network).await;
        network.restore(CLIENT).unwrap();
        println!(
            "links of 1.5 Mbit/s ({how}): 2.5 MB up in {:.1} s, down in {:.1} s; with {} s to stand still, an upload that stalls is cut after {:.1} s, a download after {:.1} s",
            uploaded.as_secs_f32(),
            downloaded.as_secs_f32(),
            PATIENCE.as_secs(),
            upload_given_up.as_secs_f32(),
            download_given_up.as_secs_f32(),
        );
        for took in [upload_given_up, download_given_up] {
            assert!(took < 2 * PATIENCE + BUSY, "{took:?}");
        }
        wait_until("nothing of it is left", LIMIT, || async {
            let temporary = |name: &&str| {
                let replicas = cluster.directory.path().join(name).join("replicas");
                inspect_tree(&replicas).unwrap().temporary.len()
            };
            DATANODES.iter().map(temporary).sum::<usize>() == 0
        })
        .await
        .unwrap();
        cluster.stop().await;
    });
}
