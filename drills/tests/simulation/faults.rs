//! [`Schedule`]: what goes wrong when. All of it follows from the seed, none of it from what the cluster does.

use std::collections::BTreeMap;
use std::time::Duration;

use richardstore_drills::Random;
use turmoil::Sim;

use crate::cluster::{CLIENT, DATANODES, HOSTS, NAMENODE};
use crate::disks::Disks;
use crate::links::Links;
use crate::network::World;

/// From this time on, everything works again.
pub const HEALED_AT: Duration = Duration::from_secs(40);

const FAULTS: u64 = 14;
const SHORTEST_MS: u64 = 200;
const LONGEST_MS: u64 = 15_000;
/// Answers are lost only for so long: nobody gets any in that time.
const LONGEST_SILENCE_MS: u64 = 2_000;
const LARGEST_CLOCK_STEP_MS: u64 = 3 * 24 * 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The machine is gone from one moment to the next, and nobody is told.
    Vanish(&'static str),
    /// The process is gone, and the kernel ends its connections.
    Kill(&'static str),
    Cut(&'static str, &'static str),
    CutOneWay(&'static str, &'static str),
    /// Everything takes up to a second to this host and from it, and overtakes.
    Slow(&'static str),
    /// What this host asks for is done, but it never hears the answer.
    LoseAnswers(&'static str),
    StepClock(&'static str, i64),
    /// The datanode's disk is lost, with its identity or without.
    Wipe(&'static str, bool),
    /// One byte on the datanode's disk changes.
    Rot(&'static str),
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Vanish(_) => "machines vanished",
            Self::Kill(_) => "processes killed",
            Self::Cut(..) => "links cut",
            Self::CutOneWay(..) => "links cut one way",
            Self::Slow(_) => "hosts slow, with reordering",
            Self::LoseAnswers(_) => "spells of lost answers",
            Self::StepClock(..) => "clocks set wrong",
            Self::Wipe(..) => "disks wiped",
            Self::Rot(_) => "spells of bit rot",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Begin(Fault),
    End(Fault),
}

/// Changes of the world that are still to come, and what those before have left broken.
pub struct Schedule {
    /// The next one last.
    changes: Vec<(Duration, Change)>,
    world: World,
    random: Random,
    links: Links,
    /// Crashes of a host that have not ended.
    down: BTreeMap<&'static str, u32>,
    /// Killed, and gone at the next step.
    dying: Vec<&'static str>,
}

impl Schedule {
    /// The faults of one seed. Each ends after a while, and all have ended at [`HEALED_AT`].
    pub fn new(random: &mut Random, world: World) -> Self {
        let mut faults: Vec<Fault> = (0..FAULTS).map(|_| fault(random)).collect();
        // A file may have two replicas: of disks that lose them there is one in a run, or several that lose them one
        // by one and in different files.
        let node = pick(random, &DATANODES);
        match random.below(3) {
            0 => faults.push(Fault::Wipe(node, random.below(2) == 0)),
            1 => faults.extend([Fault::Rot(node), Fault::Rot(pick(random, &DATANODES))]),
            _ => {}
        }
        let mut changes = Vec::new();
        let last = u64::try_from(HEALED_AT.as_millis()).unwrap();
        for fault in faults {
            let longest = match fault {
                Fault::LoseAnswers(_) => LONGEST_SILENCE_MS,
                _ => LONGEST_MS,
            };
            let from = 2_000 + random.below(last - 5_000);
            let until = (from + SHORTEST_MS + random.below(longest)).min(last);
            changes.push((Duration::from_millis(from), Change::Begin(fault)));
            changes.push((Duration::from_millis(until), Change::End(fault)));
        }
        changes.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            changes,
            world,
            random: random.clone(),
            links: Links::default(),
            down: BTreeMap::new(),
            dying: Vec::new(),
        }
    }

    /// Makes the changes that are due. Tells `log` each of them, and the kind of those that begin.
    pub fn apply(
        &mut self,
        sim: &mut Sim<'_>,
        disks: &mut Disks,
        mut log: impl FnMut(String, Option<&'static str>),
    ) {
        for host in self.dying.drain(..) {
            sim.crash(host);
        }
        while let Some((_, change)) = self.changes.pop_if(|(at, _)| *at <= sim.elapsed()) {
            match change {
                Change::Begin(fault) => {
                    log(format!("{change:?}"), Some(fault.name()));
                    if let Some(more) = self.begin(sim, disks, fault) {
                        log(more, Some("replicas damaged"));
                    }
                }
                Change::End(fault) => {
                    log(format!("{change:?}"), None);
                    self.end(sim, fault);
                }
            }
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, disks: &mut Disks, fault: Fault) -> Option<String> {
        match fault {
            Fault::Vanish(host) => self.vanish(sim, host),
            Fault::Kill(host) => self.kill(sim, host),
            Fault::Cut(one, other) => {
                self.links.cut(sim, one, other);
                self.links.cut(sim, other, one);
            }
            Fault::CutOneWay(from, to) => self.links.cut(sim, from, to),
            Fault::Slow(host) => Links::slow(sim, host, true),
            Fault::LoseAnswers(host) => self.world.host(host).lose_answers(true),
            Fault::StepClock(host, step_ms) => self.world.host(host).set_clock(step_ms),
            Fault::Wipe(node, all) => {
                self.vanish(sim, node);
                disks.wipe(node, all, sim.elapsed());
            }
            Fault::Rot(node) => {
                let rotten = disks.rot(node, &mut self.random);
                return rotten.map(|hash| format!("damaged {hash:.8} on {node}"));
            }
        }
        None
    }

    fn end(&mut self, sim: &mut Sim<'_>, fault: Fault) {
        match fault {
            Fault::Vanish(host) | Fault::Kill(host) | Fault::Wipe(host, _) => self.start(sim, host),
            Fault::Cut(one, other) => {
                self.links.mend(sim, one, other);
                self.links.mend(sim, other, one);
            }
            Fault::CutOneWay(from, to) => self.links.mend(sim, from, to),
            Fault::Slow(host) => Links::slow(sim, host, false),
            Fault::LoseAnswers(host) => self.world.host(host).lose_answers(false),
            Fault::StepClock(host, _) => self.world.host(host).set_clock(0),
            Fault::Rot(_) => {}
        }
    }

    fn vanish(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        *self.down.entry(host).or_default() += 1;
        self.dying.retain(|dying| *dying != host);
        // What the crash would tell its peers it would tell in an order that is not the same in two runs.
        self.links.without(sim, host, |sim| sim.crash(host));
    }

    fn kill(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        *self.down.entry(host).or_default() += 1;
        if sim.is_host_running(host) {
            self.world.host(host).kill();
            self.dying.push(host);
        }
    }

    fn start(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        let down = self.down.entry(host).or_default();
        *down = down.saturating_sub(1);
        if *down == 0 {
            sim.bounce(host);
        }
    }
}

fn fault(random: &mut Random) -> Fault {
    let node = pick(random, &DATANODES);
    let server = match random.below(4) {
        0 => NAMENODE,
        _ => node,
    };
    let host = pick(random, &HOSTS);
    let peer = loop {
        match pick(random, &HOSTS) {
            peer if peer == host => {}
            peer => break peer,
        }
    };
    match random.below(12) {
        0 | 1 => Fault::Vanish(server),
        2 | 3 => Fault::Kill(server),
        4 => Fault::Cut(node, NAMENODE),
        5 => Fault::Cut(host, peer),
        6 => Fault::CutOneWay(NAMENODE, node),
        7 => Fault::CutOneWay(host, peer),
        8 => Fault::Slow(host),
        9 => Fault::LoseAnswers(CLIENT),
        10 => Fault::LoseAnswers(host),
        _ => {
            let step = i64::try_from(random.below(2 * LARGEST_CLOCK_STEP_MS)).unwrap();
            Fault::StepClock(server, step - LARGEST_CLOCK_STEP_MS.cast_signed())
        }
    }
}

fn pick(random: &mut Random, of: &[&'static str]) -> &'static str {
    let at = usize::try_from(random.below(of.len() as u64)).unwrap();
    of[at]
}
