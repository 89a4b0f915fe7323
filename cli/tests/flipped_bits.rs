//! A namenode's database with flipped bits (FAULTS 21): each opened by a process of its own, which either reads it or refuses it
//! with the right exit code. What is read is never a reason to delete a file.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::binary;
use common::cluster::Cluster;
use common::scaled;
use richardstore_drills::{Content, Random, inspect_tree, wait_until};
use serde_json::Value;

/// Nothing takes longer, on the busiest machine.
const LIMIT: Duration = Duration::from_secs(60);
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms=200",
    "--stale-after-ms=2000",
    "--dead-after-ms=6000",
    "--metadata-reserve=0",
    "--cache=8MiB",
    "--copy-interval-ms=0",
];
/// A namenode's database that is damaged, as the exit codes of `richardstore --help` have it.
const DAMAGED: i32 = 23;
/// A record that is not what was written, found on reading.
const FAILED: i32 = 1;

/// Not an exit code: redb panicked over its own pages, and once more when it closed the file. That ends the process, with the words of
/// the panic.
const ABORTED: i32 = 134;

/// What flipped databases came to.
#[derive(Debug, Default)]
struct Outcomes {
    opened: u64,
    refused: u64,
    record_refused: u64,
    aborted: u64,
    started: u64,
    start_refused: u64,
    slowest: Duration,
}

/// Runs the binary to its end, and measures it.
async fn run(arguments: &[&str], outcomes: &mut Outcomes) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let began = Instant::now();
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    outcomes.slowest = outcomes.slowest.max(began.elapsed());
    ended.expect("it does not hang").unwrap()
}

/// Neither killed nor gone without a word, whatever it met.
fn assert_said_why(output: &Output, flip: &str) -> i32 {
    let words = String::from_utf8_lossy(&output.stderr);
    let code = match output.status.code() {
        // By a signal, or by a panic that nobody contained.
        None | Some(101) => {
            let by_redb = words.contains("panicked at") && words.contains("/redb-");
            assert!(by_redb, "{flip}: {}, {words}", output.status);
            return ABORTED;
        }
        Some(code) => code,
    };
    if code != 0 {
        assert!(
            !words.trim().is_empty(),
            "{flip}: exit code {code} without a word"
        );
    }
    code
}

/// No delete of a file in `files` is on record.
fn assert_deletes_nothing(dump: &[u8], files: &BTreeSet<String>, flip: &str) {
    for line in String::from_utf8_lossy(dump).lines() {
        let command: Value = serde_json::from_str(line).unwrap();
        let hash = command["hash"].as_str().unwrap_or_default();
        let deletes = command.to_string().contains("delete");
        assert!(!(deletes && files.contains(hash)), "{flip}: {line}");
    }
}

/// Reads the tables that say what is deleted.
async fn read(database: &Path, files: &BTreeSet<String>, flip: &str, outcomes: &mut Outcomes) {
    let db = database.display().to_string();
    for table in ["commands", "tombstones"] {
        let dump = ["admin", "dump", "--table", table, "--db", &db];
        let output = run(&dump, outcomes).await;
        match assert_said_why(&output, flip) {
            0 => {
                assert_deletes_nothing(&output.stdout, files, flip);
                outcomes.opened += 1;
            }
            DAMAGED => {
                outcomes.refused += 1;
                // It is the same for every table.
                return;
            }
            FAILED => outcomes.record_refused += 1,
            ABORTED => {
                outcomes.aborted += 1;
                return;
            }
            code => panic!("{flip}: exit code {code}, {output:?}"),
        }
    }
}

/// A cluster that was stopped, of which the database is small and knows files, deletes and holders.
struct Stopped {
    cluster: Cluster,
    directory: PathBuf,
    files: BTreeSet<String>,
    intact: Vec<u8>,
}

impl Stopped {
    async fn new() -> Self {
        let mut cluster = Cluster::start(3, &QUICK).await;
        let mut files = BTreeSet::new();
        for seed in 0..12 {
            let hash = cluster.http.upload(Content::new(seed, 300)).await.unwrap();
            match seed % 4 {
                0 => {
                    let path = format!("/files/{hash}");
                    let gone = cluster.http.call(http::Method::DELETE, &path, &[]);
                    assert!(gone.await.unwrap().status.is_success());
                }
                _ => drop(files.insert(hash)),
            }
        }
        // Deletes under way when the namenode ends, as far as the datanodes have not confirmed them.
        let namenode = cluster.namenode_spec.clone();
        cluster.namenode.kill().await.unwrap();
        let directory = cluster.directory.path().join("namenode");
        let intact = std::fs::read(directory.join("metadata.redb")).unwrap();
        cluster.namenode = namenode.start("listening on").await.unwrap();
        Self {
            cluster,
            directory,
            files,
            intact,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("metadata.redb")
    }
}

/// One bit of what is in use, of the first pages, which say where the others are, or of the header, which says where those begin.
fn choose(random: &mut Random, used: &[usize]) -> (usize, u8) {
    let below = match random.below(4) {
        0 => 512,
        1 => 16_384,
        _ => usize::MAX,
    };
    let used = &used[..used.partition_point(|&at| at < below)];
    let at = used[usize::try_from(random.below(used.len() as u64)).unwrap()];
    (at, 1 << random.below(8))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i08_flipped_bits_of_a_database_are_refused_or_read_and_delete_nothing() {
    let flips = scaled("FLIPS", 40);
    let seed = Random::seed_from_environment("FLIP_SEED");
    println!("FLIP_SEED={seed} FLIPS={flips}");
    let mut random = Random::new(seed);
    let stopped = Stopped::new().await;
    let place = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (dir, database) = (
        place.path().join("namenode"),
        place.path().join("flipped.redb"),
    );
    let intact = stopped.intact.clone();
    let used: Vec<usize> = (0..intact.len()).filter(|&at| intact[at] != 0).collect();
    std::fs::write(&database, &intact).unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(&database)
        .unwrap();
    let mut outcomes = Outcomes::default();
    for number in 0..flips {
        let (at, bit) = choose(&mut random, &used);
        let flip = format!("bit {bit:#04x} of byte {at}");
        file.write_all_at(&[intact[at] ^ bit], at as u64).unwrap();
        read(&database, &stopped.files, &flip, &mut outcomes).await;
        // Every few of them a namenode is started on it, alone.
        if number % 8 == 0 {
            start_alone(&stopped, &dir, &database, &flip, &mut outcomes).await;
        }
        file.write_all_at(&[intact[at]], at as u64).unwrap();
    }
    println!(
        "{flips} flips of a database of {} bytes: {} tables read, {} databases and {} tables refused, {} processes aborted by redb with its words; {} namenodes started on them, {} refused; slowest process {:.1} s, no delete of a file",
        intact.len(),
        outcomes.opened,
        outcomes.refused,
        outcomes.record_refused,
        outcomes.aborted,
        outcomes.started,
        outcomes.start_refused,
        outcomes.slowest.as_secs_f32(),
    );
    assert!(outcomes.opened > 0, "all of it was refused");
    let starts = scaled("FLIP_STARTS", 2);
    let (cluster, served) = start_among_datanodes(stopped, &mut random, &used, starts).await;
    println!("{starts} of them among datanodes: {served} served, every file where it was");
    cluster.wait_for_live(3).await;
    cluster.stop().await;
}

/// Starts a namenode in a directory of its own with this database: it serves, or refuses as damaged.
async fn start_alone(
    stopped: &Stopped,
    dir: &Path,
    database: &Path,
    flip: &str,
    outcomes: &mut Outcomes,
) {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir(dir).unwrap();
    let identity = stopped.directory.join("cluster.json");
    std::fs::copy(identity, dir.join("cluster.json")).unwrap();
    std::fs::copy(database, dir.join("metadata.redb")).unwrap();
    let path = dir.display().to_string();
    let flags = ["namenode", "--dir", &path, "--listen", "127.0.0.1:0"];
    let spec = common::process(dir, "flipped", &flags);
    let began = Instant::now();
    match spec.start("listening on").await {
        Ok(process) => {
            outcomes.started += 1;
            process.terminate(LIMIT).await.unwrap();
        }
        Err(_) => {
            outcomes.start_refused += 1;
            let output = run(&flags, outcomes).await;
            match assert_said_why(&output, flip) {
                DAMAGED => {}
                ABORTED => outcomes.aborted += 1,
                code => panic!("{flip}: exit code {code}, {output:?}"),
            }
        }
    }
    outcomes.slowest = outcomes.slowest.max(began.elapsed());
}

/// Starts namenodes on flipped databases where the datanodes look for theirs, and leaves them what time they need to do harm.
/// Returns how many of them served.
async fn start_among_datanodes(
    stopped: Stopped,
    random: &mut Random,
    used: &[usize],
    starts: u64,
) -> (Cluster, u64) {
    let (path, mut cluster, mut served) = (stopped.path(), stopped.cluster, 0);
    let (spec, http) = (cluster.namenode_spec.clone(), cluster.http.clone());
    let stores = [1, 2, 3].map(|number| cluster.replicas(number));
    for _ in 0..starts {
        let (at, bit) = choose(random, used);
        let mut bytes = stopped.intact.clone();
        bytes[at] ^= bit;
        cluster.namenode.kill().await.unwrap();
        std::fs::write(&path, bytes).unwrap();
        if let Ok(process) = spec.start("listening on").await {
            served += 1;
            let began = Instant::now();
            // Out of safe mode it deletes what it takes for surplus; damaged, it may never come so far.
            wait_until("it has done what it does", LIMIT, || async {
                let info = http.get("/info").await;
                let info = info.and_then(|info| info.json()).unwrap_or_default();
                let quiet = info["status"] == "running" && info["commands_pending"] == 0;
                quiet || began.elapsed() > Duration::from_secs(12)
            })
            .await
            .unwrap();
            process.kill().await.unwrap();
        }
        for store in &stores {
            let found: BTreeSet<String> =
                inspect_tree(store).unwrap().replicas.into_iter().collect();
            assert!(
                found.is_superset(&stopped.files),
                "bit {bit:#04x} of byte {at}"
            );
        }
        std::fs::write(&path, &stopped.intact).unwrap();
        // Panics of redb over a damaged page are contained, and may be told of; on the intact database there are none.
        std::fs::remove_file(&spec.log).unwrap();
        cluster.namenode = spec.start("listening on").await.unwrap();
    }
    (cluster, served)
}
