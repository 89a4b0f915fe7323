//! [`Seeds`]: which runs there are, spread over the cores, and what came of them.

use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use richardstore_drills::Random;

use crate::cluster::{CLIENT, READER, add_cluster};
use crate::disks::Disks;
use crate::faults::Schedule;
use crate::figures::Figures;
use crate::links::LONGEST_LATENCY;
use crate::network::World;
use crate::reader::run_reader;
use crate::scratch::scratch;
use crate::wire::Wire;
use crate::workload::{Record, SharedDisks, SharedRecord, Workload};

const DEFAULT_SEEDS: u64 = 300;
/// 2026-01-01, in seconds since the epoch: records carry the same times in every run.
const STARTED_AT: u64 = 1_767_225_600;
const TICK: Duration = Duration::from_millis(10);
/// Seeds between two words about how far a long run is.
const TELL_EVERY: u64 = 100;
/// Between two looks at the disks, in ticks.
const LOOK_EVERY: u64 = 50;

/// Seeds to run.
pub struct Seeds {
    range: Range<u64>,
    threads: usize,
    tell: bool,
}

/// What came of them.
#[derive(Default)]
pub struct Outcome {
    /// How often what happened, in all of them.
    pub figures: Figures,
    /// The seeds that broke a promise, with the end of their log.
    pub failures: Vec<(u64, String)>,
    /// The log, where it was asked for.
    pub told: Vec<String>,
    ended: u64,
}

impl Outcome {
    /// The failures in words.
    pub fn words(&self) -> String {
        let mut failures = self.failures.clone();
        failures.sort();
        let (told, more) = failures.split_at(failures.len().min(3));
        let told = told.iter().map(|(seed, why)| format!("seed {seed}: {why}"));
        let more = more.iter().map(|(seed, _)| format!("seed {seed}: as well"));
        told.chain(more).collect::<Vec<_>>().join("\n")
    }
}

impl Seeds {
    /// Those that the environment asks for.
    pub fn from_environment() -> Self {
        let number = |name| -> Option<u64> {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap())
        };
        let one = number("SIM_SEED");
        let first = one.or(number("SIM_FIRST")).unwrap_or(1);
        let count = match one {
            Some(_) => 1,
            None => number("SIM_SEEDS").unwrap_or(DEFAULT_SEEDS),
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            range: first..first + count,
            threads: number("SIM_THREADS").map_or(cores, |threads| threads.try_into().unwrap()),
            tell: one.is_some(),
        }
    }

    /// At most the first `count` of them.
    pub fn some(&self, count: u64) -> Range<u64> {
        self.range.start..self.range.end.min(self.range.start + count)
    }

    /// Runs them all.
    pub fn run(&self) -> Outcome {
        if self.tell {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        }
        let next = AtomicU64::new(self.range.start);
        let outcome = Mutex::new(Outcome::default());
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= self.range.end {
                    return;
                }
                let end = simulate(seed, Wire::default());
                let mut outcome = outcome.lock().unwrap();
                outcome.figures.count("seeds");
                outcome.ended += 1;
                if outcome.ended % TELL_EVERY == 0 {
                    let (ended, failed) = (outcome.ended, outcome.failures.len());
                    eprintln!("{ended} seeds ended, {failed} of them badly");
                }
                match end {
                    Ok(record) => {
                        outcome.figures.add_all(&record.figures);
                        if self.tell {
                            outcome.told = record.log;
                        }
                    }
                    Err(why) => {
                        // At once: a long run is looked at before it ends.
                        eprintln!("seed {seed}: {}", why.lines().next().unwrap_or_default());
                        outcome.failures.push((seed, why));
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        outcome.into_inner().unwrap()
    }
}

/// One run of `seed`.
///
/// # Errors
/// The promise that was broken, and the log.
pub fn simulate(seed: u64, wire: Wire) -> Result<Record, String> {
    let directory = scratch();
    let shared = SharedRecord::default();
    let world = World::new(seed, wire);
    let ended = run(seed, directory.path(), &world, &shared);
    let mut record = shared.take();
    record.figures.add("answers lost", world.answers_lost());
    let tally = record.oracle.tally();
    let broken = (tally.lost, tally.resurrected, tally.wrong) != (0, 0, 0);
    match ended {
        Ok(()) if !broken => Ok(record),
        ended => Err(format!("{ended:?}, {tally:?}\n{}", record.log.join("\n"))),
    }
}

fn run(seed: u64, directory: &Path, world: &World, record: &SharedRecord) -> turmoil::Result {
    let mut random = Random::new(seed);
    let mut schedule = Schedule::new(&mut random, world.clone());
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(STARTED_AT))
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LONGEST_LATENCY)
        .tcp_capacity(4096)
        .enable_random_order()
        .build();
    add_cluster(&mut sim, directory, world)?;
    let disks: SharedDisks = Rc::new(Disks::new(directory).into());
    let (shared, environment) = (record.clone(), world.environment(CLIENT));
    let (read, reads) = (record.clone(), world.environment(READER));
    let chooses = Random::new(random.number());
    sim.client(READER, run_reader(chooses, read, reads));
    let seen = disks.clone();
    sim.client(CLIENT, async move {
        Workload::new(random, shared, environment).run(seen).await
    });
    for tick in 0.. {
        let at = sim.elapsed().as_millis();
        schedule.apply(&mut sim, &mut disks.borrow_mut(), |change, kind| {
            let mut record = record.borrow_mut();
            record.log.push(format!("{at} {change}"));
            if let Some(kind) = kind {
                record.figures.count(kind);
            }
        });
        if tick % LOOK_EVERY == 0 {
            let stays = |hash: &str| record.borrow().kept_whole.contains(hash);
            if let Some(fallen) = disks.borrow_mut().fallen(sim.elapsed(), stays) {
                return Err(format!("at {at} ms {fallen}").into());
            }
        }
        if sim.step()? {
            break;
        }
    }
    Ok(())
}
