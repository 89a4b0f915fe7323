//! [`Schedule`]: what goes wrong when. All of it follows from the seed, none of it from what the cluster does.

use std::time::Duration;

use richardstore_drills::Random;
use turmoil::Sim;

use crate::cluster::{DATANODES, NAMENODE};

/// From this time on, everything works again.
pub const HEALED_AT: Duration = Duration::from_secs(60);

const FAULTS: u64 = 10;
const SHORTEST_MS: u64 = 200;
const LONGEST_MS: u64 = 15_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Crash(&'static str),
    Start(&'static str),
    Cut(&'static str, &'static str),
    CutOneWay(&'static str, &'static str),
    Mend(&'static str, &'static str),
}

/// Changes of the world that are still to come, the next one last.
pub struct Schedule(Vec<(Duration, Change)>);

impl Schedule {
    /// The faults of one seed. Each ends after a while, and all have ended at [`HEALED_AT`].
    pub fn new(random: &mut Random) -> Self {
        let mut changes = Vec::new();
        let last = u64::try_from(HEALED_AT.as_millis()).unwrap();
        for _ in 0..FAULTS {
            let from = 2_000 + random.below(last - 5_000);
            let until = (from + SHORTEST_MS + random.below(LONGEST_MS)).min(last);
            let (begin, end) = fault(random);
            changes.push((Duration::from_millis(from), begin));
            changes.push((Duration::from_millis(until), end));
        }
        changes.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self(changes)
    }

    /// Makes the changes that are due, and says which.
    pub fn apply(&mut self, sim: &mut Sim<'_>, mut log: impl FnMut(String)) {
        while let Some((_, change)) = self.0.pop_if(|(at, _)| *at <= sim.elapsed()) {
            log(format!("{change:?}"));
            match change {
                Change::Crash(host) => sim.crash(host),
                // Also where it runs, because two crashes overlapped: a stop and a start at once.
                Change::Start(host) => sim.bounce(host),
                Change::Cut(one, other) => sim.partition(one, other),
                Change::CutOneWay(from, to) => sim.partition_oneway(from, to),
                Change::Mend(one, other) => sim.repair(one, other),
            }
        }
    }
}

fn fault(random: &mut Random) -> (Change, Change) {
    let node = pick(random, &DATANODES);
    let peer = match pick(random, &DATANODES) {
        peer if peer == node => NAMENODE,
        peer => peer,
    };
    match random.below(6) {
        0 => (Change::Crash(NAMENODE), Change::Start(NAMENODE)),
        1 | 2 => (Change::Crash(node), Change::Start(node)),
        3 => (Change::Cut(node, NAMENODE), Change::Mend(node, NAMENODE)),
        4 => (Change::Cut(node, peer), Change::Mend(node, peer)),
        _ if random.below(2) == 0 => (Change::CutOneWay(node, peer), Change::Mend(node, peer)),
        _ => (Change::CutOneWay(peer, node), Change::Mend(node, peer)),
    }
}

fn pick(random: &mut Random, of: &[&'static str]) -> &'static str {
    let at = usize::try_from(random.below(of.len() as u64)).unwrap();
    of[at]
}
