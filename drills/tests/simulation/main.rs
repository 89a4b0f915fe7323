//! A whole cluster in one thread: real roles and real gRPC over a simulated network and simulated time, with faults from a
//! seed, and an oracle that knows what was acknowledged. `docs/simulation.md` says what goes wrong and what must hold.
//!
//! `SIM_SEEDS=10000` runs that many seeds, `SIM_FIRST=17` begins with that one, `SIM_SEED=17` runs only that one and tells
//! everything (`RUST_LOG` chooses how much the roles say). A crash keeps what was written: power loss is not simulated
//! here.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;
mod disks;
mod entropy;
mod faults;
mod figures;
mod host;
mod links;
mod network;
mod scratch;
mod seeds;
mod socket;
mod wire;
mod workload;

use seeds::Seeds;
use wire::Wire;

#[test]
fn i01_to_i08_what_was_promised_holds_through_the_faults_of_every_seed() {
    let seeds = Seeds::from_environment();
    let outcome = seeds.run();
    println!("{}\n{}", outcome.told.join("\n"), outcome.figures);
    assert!(outcome.failures.is_empty(), "{}", outcome.words());
}

/// All that any host said to any other, and when, is the same. Otherwise a seed that failed could not be looked at again.
#[test]
fn a_seed_run_twice_says_the_same_on_every_wire() {
    for seed in Seeds::from_environment().some(3) {
        let run = || {
            let wire = Wire::kept();
            let log = seeds::simulate(seed, wire.clone()).map(|record| record.log);
            (wire.take(), log.unwrap_or_else(|failure| vec![failure]))
        };
        let (one, other) = (run(), run());
        assert_same(&one.0, &other.0);
        assert_same(&one.1, &other.1);
        println!("seed {seed}: {} lines on the wire", one.0.len());
    }
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
