//! Registers files in a namenode's metadata and says what it took: `million_files [FILES] [DIR]`.
//!
//! Every file goes the way of an upload, through `submit`: allocation, then commit with three replicas, from many callers
//! at a time. Then the database is copied as a SIGKILL would leave it, opened again, and asked for a file. The database
//! library walks all pages at opening where it is built with debug assertions: for that figure, run with
//! `--release`, or with `--config 'profile.dev.package.redb.debug-assertions=false'`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use richardstore_namenode::{Metadata, MetadataOptions, Mutation, Reply};
use richardstore_proto::{Blake3Root, ContentHash, Generation, JournalId, NodeId, SessionEpoch};
use richardstore_runtime::Environment;

const CALLERS: u64 = 64;
const NODES: u8 = 3;
/// Allocations are leased in batches, as clients with many uploads do.
const LEASE: u32 = 16;

fn hash_of(file: u64) -> ContentHash {
    // The names of files are evenly spread, as those of real ones are.
    ContentHash::new(*blake3::hash(&file.to_le_bytes()).as_bytes())
}

fn node(number: u8) -> NodeId {
    NodeId::new([number; 16])
}

async fn register(metadata: &Metadata) {
    for number in 1..=NODES {
        let registered = metadata.submit(Mutation::RegisterNode {
            node_id: node(number),
            session_epoch: SessionEpoch(1),
            name: format!("datanode-{number}"),
            address: "127.0.0.1:7000".to_owned(),
            rack: String::new(),
            journal_id: JournalId::new([number; 16]),
            now_ms: 1,
        });
        registered.await.unwrap();
    }
}

async fn upload(metadata: Metadata, files: std::ops::Range<u64>) {
    let mut lease: Vec<Generation> = Vec::new();
    for file in files {
        if lease.is_empty() {
            let allocation = Mutation::AllocateWrites {
                count: LEASE,
                expires_at_ms: u64::MAX,
            };
            let Ok(Reply::Writes { first }) = metadata.submit(allocation).await else {
                panic!("no allocation");
            };
            lease.extend(
                (0..u64::from(LEASE))
                    .rev()
                    .map(|at| Generation(first.0 + at)),
            );
        }
        let hash = hash_of(file);
        let commit = Mutation::CommitFile {
            generation: lease.pop().unwrap(),
            hash,
            size: 4096 + file % 100_000,
            blake3_root: Blake3Root::new(*hash.as_bytes()),
            replication: 3,
            nodes: (1..=NODES).map(node).collect(),
            now_ms: 1_700_000_000_000 + file,
        };
        metadata.submit(commit).await.unwrap();
    }
}

fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field));
    line.unwrap_or("?").to_owned()
}

/// Milliseconds since `start`.
fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

async fn reopen(from: &Path, to: &Path, files: u64) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["metadata.redb", "cluster.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
        // Or opening would be charged for writing the copy out.
        let copied = std::fs::File::open(to.join(name)).unwrap();
        copied.sync_all().unwrap();
    }
    let start = Instant::now();
    let metadata = Metadata::open(to, &MetadataOptions::default(), &Environment::system()).unwrap();
    let opened = millis(start);
    let record = metadata.view().unwrap().file(&hash_of(files / 2)).unwrap();
    println!(
        "open as after SIGKILL: {opened:.1} ms, first answer after {:.1} ms, {} replicas",
        millis(start),
        record.unwrap().replicas.len()
    );
    let looked_up = 100_000.min(files);
    let start = Instant::now();
    for at in 0..looked_up {
        let file = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % files;
        let view = metadata.view().unwrap();
        assert!(view.file(&hash_of(file)).unwrap().is_some());
    }
    let rate = 1000.0 * f64::from(u32::try_from(looked_up).unwrap()) / millis(start);
    println!("look-ups, one thread, a view each: {rate:.0}/s");
    println!("{}", status("VmRSS"));
    metadata.close().await;
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let files: u64 = arguments
        .next()
        .map_or(1_000_000, |files| files.parse().unwrap());
    let dir = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("million-files-{}", std::process::id())),
        PathBuf::from,
    );
    let (live, copy) = (dir.join("live"), dir.join("copy"));

    let metadata =
        Metadata::open(&live, &MetadataOptions::default(), &Environment::system()).unwrap();
    register(&metadata).await;
    let start = Instant::now();
    let each = files / CALLERS;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(upload(metadata.clone(), caller * each..(caller + 1) * each)))
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let took: Duration = start.elapsed();
    let files = each * CALLERS;
    let counts = metadata.view().unwrap().counts().unwrap();
    assert_eq!(counts.files, files);
    // Blocks, not length: redb grows the file ahead of need, by a hole.
    let bytes = std::fs::metadata(live.join("metadata.redb"))
        .unwrap()
        .blocks()
        * 512;
    println!(
        "{files} files by {CALLERS} callers: {:.1} s, {} files/s, {} bytes of disk a file",
        took.as_secs_f64(),
        u128::from(files) * 1000 / took.as_millis().max(1),
        bytes / files
    );
    println!("{}", status("VmRSS"));
    reopen(&live, &copy, files).await;
    metadata.close().await;
    if std::env::var_os("KEEP").is_none() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
