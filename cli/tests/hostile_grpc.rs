//! I11: who speaks nonsense, nothing, or too much to the gRPC ports keeps nobody else out (FAULTS 47, 48, 51).

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::cluster::Cluster;
use richardstore_drills::Content;
use richardstore_proto::wire;
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_runtime::{Channels, tcp_dial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NODES: usize = 3;
const SOCKETS: usize = 1_000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// More than a role may take beside its own work.
const MEMORY_BYTES: u64 = 200 << 20;

fn address_in(ready_line: &str) -> String {
    ready_line.rsplit(' ').next().unwrap().to_owned()
}

/// The gRPC addresses of the namenode and of the first datanode.
fn addresses(cluster: &Cluster) -> [String; 2] {
    let datanode = cluster.datanodes[0].as_ref().unwrap();
    [cluster.namenode.ready_line(), datanode.ready_line()].map(address_in)
}

/// Uploads and reads one file, in time.
async fn assert_served(cluster: &Cluster, seed: u64) {
    let content = Content::new(seed, 100_000);
    let served = async {
        let hash = cluster.http.upload(content).await.unwrap();
        cluster.http.download_matches(&hash, content).await.unwrap()
    };
    let served = tokio::time::timeout(Duration::from_secs(30), served).await;
    assert_eq!(served.unwrap(), Some(true));
}

fn assert_memory(cluster: &Cluster) {
    for process in [&cluster.namenode, cluster.datanodes[0].as_ref().unwrap()] {
        let peak = process.peak_memory_bytes().unwrap();
        assert!(peak < MEMORY_BYTES, "{peak} bytes");
    }
}

/// This process needs as many sockets as it opens.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_a_thousand_sockets_that_trickle_keep_nobody_out_of_grpc() {
    raise_file_limit();
    let cluster = Cluster::start(NODES, &[]).await;
    let mut sockets = Vec::new();
    for address in addresses(&cluster) {
        for number in 0..SOCKETS {
            let mut socket = TcpStream::connect(&address).await.unwrap();
            // Some say nothing, some begin, some say hello and nothing more.
            let said = &PREFACE[..number % (PREFACE.len() + 1)];
            socket.write_all(said).await.unwrap();
            sockets.push(socket);
        }
    }
    for seed in 0..5 {
        assert_served(&cluster, seed).await;
    }
    // They are all put out: the strangers by their deadline, the others by keep-alive.
    for socket in &mut sockets {
        let end = tokio::time::timeout(Duration::from_secs(60), async {
            let mut discarded = [0; 256];
            while matches!(socket.read(&mut discarded).await, Ok(1..)) {}
        });
        end.await.expect("a silent socket stays open");
    }
    assert_memory(&cluster);
    println!(
        "{} trickling sockets on two gRPC ports: 5 of 5 uploads served, all sockets put out",
        2 * SOCKETS
    );
    cluster.stop().await;
}

/// A HEADERS frame that opens `stream` without ending it, and its RST_STREAM.
fn opened_and_reset(stream: u32) -> Vec<u8> {
    // HPACK without a table: POST, http, `:path /x`, `:authority a`.
    let block = [0x83, 0x86, 0x04, 2, b'/', b'x', 0x01, 1, b'a'];
    let id = stream.to_be_bytes();
    let mut frames = vec![0, 0, 9, 1, 4, id[0], id[1], id[2], id[3]];
    frames.extend(block);
    frames.extend([0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
    frames
}

/// Sends all of `bytes`, or as much as the peer takes, and reads what it says until it closes. Whether it did.
async fn send_and_drain(address: &str, bytes: &[u8]) -> bool {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let drained = tokio::time::timeout(Duration::from_secs(30), async {
        let mut discarded = vec![0; 64 << 10];
        while matches!(socket.read(&mut discarded).await, Ok(1..)) {}
    });
    drained.await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_garbage_and_floods_of_resets_end_their_own_connection_only() {
    let cluster = Cluster::start(NODES, &[]).await;
    let mut garbage = [PREFACE, &EMPTY_SETTINGS[..]].concat();
    // A frame of 16 MiB of an unknown kind.
    garbage.extend([0xff, 0xff, 0xff, 0x77, 0, 0, 0, 0, 1]);
    garbage.extend(vec![7; 1 << 20]);
    let mut flood = [PREFACE, &EMPTY_SETTINGS[..]].concat();
    for stream in 0..20_000 {
        flood.extend(opened_and_reset(stream * 2 + 1));
    }
    let http1 = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    for address in addresses(&cluster) {
        for bytes in [&garbage[..], &flood, &http1, &vec![0; 1 << 20]] {
            for _ in 0..5 {
                assert!(
                    send_and_drain(&address, bytes).await,
                    "{address} keeps it open"
                );
            }
        }
    }
    assert_served(&cluster, 1).await;
    assert_memory(&cluster);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_oversized_metadata_and_messages_are_refused() {
    let cluster = Cluster::start(NODES, &[]).await;
    let address = address_in(cluster.namenode.ready_line());
    let channel = || Channels::new(tcp_dial()).get(&address).unwrap();
    let mut client = NameNodeClient::new(channel());
    let mut request = tonic::Request::new(wire::InfoRequest {});
    let long = "x".repeat(64 << 10).parse().unwrap();
    request.metadata_mut().insert("x-long", long);
    assert!(client.info(request).await.is_err());

    let mut client = NameNodeClient::new(channel());
    let huge = wire::RenewWritesRequest {
        generations: vec![u64::MAX; 4 << 20],
    };
    assert!(client.renew_writes(huge).await.is_err());
    assert_served(&cluster, 1).await;
    assert_memory(&cluster);
    cluster.stop().await;
}
