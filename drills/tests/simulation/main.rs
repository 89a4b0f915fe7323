//! A whole cluster in one thread: real roles and real gRPC over a simulated network and simulated time, with partitions,
//! crashes and restarts from a seed, and an oracle that knows what was acknowledged.
//!
//! `SIM_SEEDS=100` runs that many seeds, `SIM_FIRST=17` begins with that one. Disks are real, and a crash keeps what was
//! written: power loss is not simulated here.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;
mod faults;
mod network;
mod workload;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use richardstore_drills::{Random, Tally, inspect_tree};

use cluster::{DATANODES, add_cluster};
use faults::Schedule;
use workload::{Record, SharedRecord, Workload};

const DEFAULT_SEEDS: u64 = 2;
/// 2026-01-01, in seconds since the epoch: records carry the same times in every run.
const STARTED_AT: u64 = 1_767_225_600;
const REPLICATION: usize = 3;

#[test]
fn i01_i03_what_was_acknowledged_holds_under_crashes_and_partitions() {
    let first = from_environment("SIM_FIRST", 1);
    let seeds = from_environment("SIM_SEEDS", DEFAULT_SEEDS);
    let mut all = Tally::default();
    for seed in first..first + seeds {
        let record = simulate(seed);
        let tally = record.oracle.tally();
        println!("seed {seed}: {tally:?}");
        all.acknowledged += tally.acknowledged;
        all.deleted += tally.deleted;
        all.cut += tally.cut;
    }
    println!("{seeds} seeds: {all:?}");
}

/// tokio draws the order of the branches of a `select!` from a seed of its own, which can only be set in a build with
/// `--cfg tokio_unstable`: in any other build this fails. Whether that is all that differs has not been shown yet. A seed
/// brings back the same faults and contents in any build, at times that differ a little.
#[test]
#[cfg_attr(not(tokio_unstable), ignore = "needs RUSTFLAGS='--cfg tokio_unstable'")]
fn a_seed_run_twice_has_the_same_log() {
    let seed = from_environment("SIM_FIRST", 1);
    let (one, other) = (simulate(seed).log, simulate(seed).log);
    let differs = one.iter().zip(&other).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert_eq!(one.len(), other.len());
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// One run of `seed`. Panics with the log where a promise was broken.
fn simulate(seed: u64) -> Record {
    let directory = tempfile::tempdir().unwrap();
    let shared = SharedRecord::default();
    let outcome = run(seed, directory.path(), &shared);
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

fn run(seed: u64, directory: &Path, record: &SharedRecord) -> turmoil::Result {
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
    add_cluster(&mut sim, directory);
    let shared = record.clone();
    sim.client("client", async move {
        Workload::new(random, shared).run().await
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
