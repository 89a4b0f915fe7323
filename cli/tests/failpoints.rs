//! I1 to I4 with one process killed at each of its interesting lines (FAULTS 1, 3, 8, 9, 42, 43), and the others alive.

#![allow(clippy::unwrap_used)] // a test fails by panicking
#![allow(clippy::print_stdout)] // the figures are what it is run for

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::cluster::Cluster;
use common::workload::Workload;
use richardstore_drills::{Http, Process, ProcessSpec, Random, inspect_tree, wait_until};
use tokio::task::JoinSet;

const NODES: usize = 3;
const WORKERS: u64 = 8;
const LIMIT: Duration = Duration::from_secs(60);
const KILL: i32 = 9;
/// A write that nobody ends is given up within the test.
const FLAGS: [&str; 4] = [
    "--heartbeat-interval-ms",
    "200",
    "--write-timeout-ms",
    "2000",
];

/// Lines of a namenode, and how often each is passed first: a start and its registrations pass some of them.
const NAMENODE: [(&str, u64); 7] = [
    ("namenode-batch-applied", 9),
    ("namenode-batch-committed", 9),
    ("namenode-file-committing", 4),
    ("namenode-file-committed", 4),
    ("namenode-tombstone-committed", 3),
    ("namenode-commands-handed-out", 2),
    ("namenode-commands-settled", 2),
];
const DATANODE: [(&str, u64); 9] = [
    ("store-temp-written", 4),
    ("store-contents-synced", 4),
    ("store-renamed", 4),
    ("store-published", 4),
    ("datanode-indexed", 4),
    ("store-unlinked", 2),
    ("store-removed", 2),
    ("datanode-deleted", 2),
    ("store-renamed", 1),
];
const GATEWAY: (&str, u64) = ("gateway-committed", 5);

/// A build without debug assertions has no failpoints.
fn has_failpoints() -> bool {
    if common::is_release() {
        println!("skipped: a release build has no failpoints");
    }
    !common::is_release()
}

/// `spec` with a failpoint. The program `env` becomes the process, so that its id is the right one.
fn armed(spec: &ProcessSpec, (name, nth): (&str, u64)) -> ProcessSpec {
    let failpoint = format!("RICHARDSTORE_FAILPOINT={name}:{nth}");
    let mut arguments = vec![failpoint.into(), spec.binary.clone().into_os_string()];
    arguments.extend(spec.arguments.iter().cloned());
    ProcessSpec {
        binary: PathBuf::from("/usr/bin/env"),
        arguments,
        log: spec.log.clone(),
    }
}

/// What the round before left to be done may reach the line before the process says that it is ready: then it starts again.
async fn start_armed(spec: &ProcessSpec, point: (&str, u64)) -> Process {
    for _ in 0..5 {
        if let Ok(process) = armed(spec, point).start("listening on").await {
            return process;
        }
    }
    panic!("it never got as far as to be ready");
}

/// Work that goes on until it is told to stop.
struct Workers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Workers {
    fn start(workload: &Workload, http: &Http, random: &mut Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            let work = workload.clone();
            tasks.spawn(work.work_until(http.clone(), random.number(), stop.clone()));
        }
        Self { stop, tasks }
    }

    /// Waits until `process` has killed itself, and tells the workers that it is enough.
    async fn until_killed(&self, process: &mut Process, point: &str) {
        let ended = process.ended(LIMIT).await;
        let status = ended.unwrap_or_else(|error| panic!("{point}: {error:#}"));
        assert_eq!(status.signal(), Some(KILL), "{point}: {status}");
        self.stop.store(true, Ordering::SeqCst);
    }

    async fn join(mut self) {
        while let Some(worker) = self.tasks.join_next().await {
            worker.unwrap();
        }
    }
}

struct Run {
    cluster: Cluster,
    workload: Workload,
    random: Random,
    killed: u64,
}

impl Run {
    async fn start() -> Self {
        let seed = Random::seed_from_environment("FAILPOINT_SEED");
        println!("FAILPOINT_SEED={seed}");
        Self {
            cluster: Cluster::start(NODES, &FLAGS).await,
            workload: Workload::default(),
            random: Random::new(seed),
            killed: 0,
        }
    }

    fn workers(&mut self) -> Workers {
        Workers::start(&self.workload, &self.cluster.http, &mut self.random)
    }

    /// Everybody is back: what had no answer is whole or absent, and has an answer when it is asked for again.
    async fn check(&mut self) {
        self.killed += 1;
        self.cluster.wait_for_live(NODES).await;
        self.workload.check_fresh(&self.cluster.http).await;
        self.workload.make_good(&self.cluster.http).await;
    }

    /// Nothing is left of what was not promised: no temp file, no replica of another file, no command, no write.
    async fn finish(self, what: &str) {
        let Self {
            cluster,
            workload,
            killed,
            ..
        } = self;
        workload.check_all(&cluster.http).await;
        let present = workload.present();
        wait_until("nothing but what was promised", LIMIT, || async {
            let info = cluster.http.get("/info").await.unwrap().json().unwrap();
            let idle = [
                "commands_pending",
                "writes_in_flight",
                "tombstones",
                "under_replicated",
            ];
            let clean = (1..=NODES).all(|node| {
                inspect_tree(&cluster.replicas(node)).is_ok_and(|found| {
                    assert_eq!(found.wrong, Vec::<PathBuf>::new());
                    found.temporary.is_empty()
                        && found.replicas.iter().all(|hash| present.contains(hash))
                })
            });
            clean && idle.iter().all(|what| info[what] == 0)
        })
        .await
        .unwrap();
        let tally = workload.tally();
        println!(
            "failpoints of the {what}: killed {killed} times, acknowledged {}, deleted {}, without an answer {}, lost {}, wrong {}, resurrected {}",
            tally.acknowledged,
            tally.deleted,
            tally.cut,
            tally.lost,
            tally.wrong,
            tally.resurrected
        );
        assert_eq!((tally.lost, tally.wrong, tally.resurrected), (0, 0, 0));
        assert!(tally.acknowledged > 0);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_i03_i04_a_namenode_may_be_killed_at_any_of_its_lines() {
    if !has_failpoints() {
        return;
    }
    let mut run = Run::start().await;
    for point in NAMENODE {
        let spec = run.cluster.namenode_spec.clone();
        run.cluster.namenode.terminate(LIMIT).await.unwrap();
        run.cluster.namenode = start_armed(&spec, point).await;
        let workers = run.workers();
        workers
            .until_killed(&mut run.cluster.namenode, point.0)
            .await;
        // Before the workers end: those that wait for an answer get it from the next one.
        run.cluster.namenode = spec.start("listening on").await.unwrap();
        workers.join().await;
        run.check().await;
    }
    run.finish("namenode").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_i03_i04_a_datanode_may_be_killed_at_any_of_its_lines() {
    if !has_failpoints() {
        return;
    }
    let mut run = Run::start().await;
    let spec = run.cluster.datanode_specs[0].clone();
    let first = run.cluster.datanodes[0].take().unwrap();
    first.terminate(LIMIT).await.unwrap();
    for point in DATANODE {
        let mut process = start_armed(&spec, point).await;
        let workers = run.workers();
        workers.until_killed(&mut process, point.0).await;
        workers.join().await;
        // No bytes under a name that are not the name's, before anything could be healed.
        let found = inspect_tree(&run.cluster.replicas(1)).unwrap();
        assert_eq!(found.wrong, Vec::<PathBuf>::new(), "{}", point.0);
        run.killed += 1;
    }
    run.killed -= 1;
    run.cluster.datanodes[0] = Some(spec.start("listening on").await.unwrap());
    run.check().await;
    run.finish("datanode").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_a_gateway_may_be_killed_between_the_commit_and_the_answer() {
    if !has_failpoints() {
        return;
    }
    let mut run = Run::start().await;
    let spec = run.cluster.gateway_spec.clone();
    let mut gateway = armed(&spec, GATEWAY).start("http://").await.unwrap();
    let other = std::mem::replace(&mut run.cluster.http, Http::new(gateway.url().unwrap()));
    let workers = run.workers();
    workers.until_killed(&mut gateway, GATEWAY.0).await;
    workers.join().await;
    // Another gateway answers the retries: the lost answer was for a file that is there.
    run.cluster.http = other;
    run.check().await;
    run.finish("gateway").await;
}
