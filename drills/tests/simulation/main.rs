//! A whole cluster in one thread: real roles and real gRPC over a simulated network and simulated time, with partitions,
//! crashes and restarts from a seed, and an oracle that knows what was acknowledged.
//!
//! `SIM_SEEDS=100` runs that many seeds, `SIM_FIRST=17` begins with that one. Disks are real, and a crash keeps what was
//! written: power loss is not simulated here.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;
mod entropy;
mod faults;
mod links;
mod network;
mod scratch;
mod wire;
mod workload;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use richardstore_drills::{Random, Tally, inspect_tree};

use cluster::{CLIENT, DATANODES, add_cluster};
use faults::Schedule;
use network::World;
use scratch::scratch;
use wire::Wire;
use workload::{Record, SharedRecord, Workload};

const DEFAULT_SEEDS: u64 = 300;
/// 2026-01-01, in seconds since the epoch: records carry the same times in every run.
const STARTED_AT: u64 = 1_767_225_600;
const REPLICATION: usize = 3;

#[test]
fn i01_i03_what_was_acknowledged_holds_under_crashes_and_partitions() {
    let first = from_environment("SIM_FIRST", 1);
    let seeds = from_environment("SIM_SEEDS", DEFAULT_SEEDS);
    let next = AtomicU64::new(first);
    let all = Mutex::new(Tally::default());
    let work = || {
        while let Some(seed) =
            Some(next.fetch_add(1, Ordering::SeqCst)).filter(|&seed| seed < first + seeds)
        {
            let tally = simulate(seed, Wire::default()).oracle.tally();
            let mut all = all.lock().unwrap();
            all.acknowledged += tally.acknowledged;
            all.deleted += tally.deleted;
            all.cut += tally.cut;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    println!("{seeds} seeds: {:?}", all.into_inner().unwrap());
}

/// All that any host said to any other, and when, is the same. Otherwise a seed that failed could not be looked at again.
#[test]
fn a_seed_run_twice_says_the_same_on_every_wire() {
    let seed = from_environment("SIM_FIRST", 1);
    let run = || {
        let wire = Wire::kept();
        let record = simulate(seed, wire.clone());
        (record.log, wire.take())
    };
    let (one, other) = (run(), run());
    assert_same(&one.1, &other.1);
    assert_same(&one.0, &other.0);
    println!("{} lines on the wire", one.1.len());
}

fn assert_same(one: &[String], other: &[String]) {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    if let Some(at) = differs {
        let from = at.saturating_sub(10);
        let show = |lines: &[String]| lines[from..lines.len().min(at + 5)].join("\n");
        panic!("line {at} differs:\n{}\n--\n{}", show(one), show(other));
    }
    assert_eq!(one.len(), other.len());
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// One run of `seed`. Panics with the log where a promise was broken.
fn simulate(seed: u64, wire: Wire) -> Record {
    let directory = scratch();
    let shared = SharedRecord::default();
    let outcome = run(seed, directory.path(), &World::new(seed, wire), &shared);
    let record = shared.take();
    let tally = record.oracle.tally();
    let broken = (tally.lost, tally.resurrected, tally.wrong) != (0, 0, 0);
    let disks = outcome
        .map_err(|error| error.to_string())
        .and_then(|()| check_disks(directory.path(), &record.end));
    if broken || disks.is_err() {
        let log = record.log.join("\n");
        panic!("{log}\nseed {seed}: {tally:?}, {disks:?}");
    }
    record
}

fn run(seed: u64, directory: &Path, world: &World, record: &SharedRecord) -> turmoil::Result {
    let mut random = Random::new(seed);
    let mut schedule = Schedule::new(&mut random);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(STARTED_AT))
        .tick_duration(Duration::from_millis(5))
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(4096)
        .enable_random_order()
        .build();
    add_cluster(&mut sim, directory, world);
    let (shared, environment) = (record.clone(), world.environment(CLIENT));
    sim.client(CLIENT, async move {
        Workload::new(random, shared, environment).run().await
    });
    loop {
        let at = sim.elapsed().as_millis();
        let note = |change| record.borrow_mut().log.push(format!("{at} {change}"));
        schedule.apply(&mut sim, note);
        if sim.step()? {
            return Ok(());
        }
    }
}

/// What is not there has no replica left on any disk, and what is there has all of them, each with the right bytes.
fn check_disks(directory: &Path, end: &BTreeMap<String, bool>) -> Result<(), String> {
    let mut replicas = BTreeMap::<String, usize>::new();
    for name in DATANODES {
        let findings = inspect_tree(&directory.join(name).join("replicas"));
        let findings = findings.map_err(|error| format!("{name}: {error}"))?;
        if !findings.wrong.is_empty() {
            return Err(format!("{name} has wrong bytes in {:?}", findings.wrong));
        }
        for hash in findings.replicas {
            *replicas.entry(hash).or_default() += 1;
        }
    }
    for (hash, is_there) in end {
        let found = replicas.get(hash).copied().unwrap_or(0);
        let enough = if *is_there {
            found >= REPLICATION
        } else {
            found == 0
        };
        if !enough {
            return Err(format!(
                "{hash:.8}, there: {is_there}, has {found} replicas"
            ));
        }
    }
    Ok(())
}
