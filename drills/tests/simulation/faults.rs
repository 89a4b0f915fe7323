//! [`Schedule`]: what goes wrong when. All of it follows from the seed, none of it from what the cluster does.

use std::collections::BTreeMap;
use std::time::Duration;

use richardstore_drills::Random;
use turmoil::Sim;

use crate::cluster::{DATANODES, NAMENODE};
use crate::links::Links;

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
    MendOneWay(&'static str, &'static str),
}

/// Changes of the world that are still to come, and what those before have left broken.
pub struct Schedule {
    /// The next one last.
    changes: Vec<(Duration, Change)>,
    links: Links,
    /// Crashes of a host that have not ended.
    down: BTreeMap<&'static str, u32>,
}

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
        Self {
            changes,
            links: Links::default(),
            down: BTreeMap::new(),
        }
    }

    /// Makes the changes that are due, and says which.
    pub fn apply(&mut self, sim: &mut Sim<'_>, mut log: impl FnMut(String)) {
        while let Some((_, change)) = self.changes.pop_if(|(at, _)| *at <= sim.elapsed()) {
            log(format!("{change:?}"));
            match change {
                Change::Crash(host) => self.crash(sim, host),
                Change::Start(host) => self.start(sim, host),
                Change::Cut(one, other) => {
                    self.links.cut(sim, one, other);
                    self.links.cut(sim, other, one);
                }
                Change::CutOneWay(from, to) => self.links.cut(sim, from, to),
                Change::Mend(one, other) => {
                    self.links.mend(sim, one, other);
                    self.links.mend(sim, other, one);
                }
                Change::MendOneWay(from, to) => self.links.mend(sim, from, to),
            }
        }
    }

    /// The machine is gone from one moment to the next, and nobody is told. A crash that told its peers would tell them in
    /// the order in which tokio drops tasks, and that is not the same in two runs: it depends on task ids, which are counted
    /// through the process.
    fn crash(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        *self.down.entry(host).or_default() += 1;
        self.links.without(sim, host, |sim| sim.crash(host));
    }

    fn start(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        let down = self.down.entry(host).or_default();
        *down = down.saturating_sub(1);
        if *down == 0 {
            sim.bounce(host);
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
        _ if random.below(2) == 0 => (
            Change::CutOneWay(node, peer),
            Change::MendOneWay(node, peer),
        ),
        _ => (
            Change::CutOneWay(peer, node),
            Change::MendOneWay(peer, node),
        ),
    }
}

fn pick(random: &mut Random, of: &[&'static str]) -> &'static str {
    let at = usize::try_from(random.below(of.len() as u64)).unwrap();
    of[at]
}
