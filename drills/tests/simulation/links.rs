//! [`Links`]: which directions between hosts are cut, however many faults cut the same one.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

use crate::cluster::HOSTS;

/// Of a message, while nothing is wrong.
pub const LONGEST_LATENCY: Duration = Duration::from_millis(20);
const LONGEST_SLOW_LATENCY: Duration = Duration::from_secs(1);

/// Cuts that have not been mended, by direction.
#[derive(Default)]
pub struct Links(BTreeMap<(&'static str, &'static str), u32>);

impl Links {
    /// Nothing gets from `from` to `to` any more.
    pub fn cut(&mut self, sim: &Sim<'_>, from: &'static str, to: &'static str) {
        *self.0.entry((from, to)).or_default() += 1;
        sim.partition_oneway(from, to);
    }

    /// One cut less.
    pub fn mend(&mut self, sim: &Sim<'_>, from: &'static str, to: &'static str) {
        let cuts = self.0.entry((from, to)).or_default();
        *cuts = cuts.saturating_sub(1);
        if *cuts == 0 {
            sim.repair_oneway(from, to);
        }
    }

    /// Runs `act` while nothing gets to `host` or from it.
    pub fn without(
        &mut self,
        sim: &mut Sim<'_>,
        host: &'static str,
        act: impl FnOnce(&mut Sim<'_>),
    ) {
        for other in others(host) {
            self.cut(sim, host, other);
            self.cut(sim, other, host);
        }
        act(sim);
        for other in others(host) {
            self.mend(sim, host, other);
            self.mend(sim, other, host);
        }
    }

    /// Makes `host` slow, or as fast as the others again.
    pub fn slow(sim: &Sim<'_>, host: &'static str, slow: bool) {
        let latency = if slow {
            LONGEST_SLOW_LATENCY
        } else {
            LONGEST_LATENCY
        };
        for other in others(host) {
            sim.set_link_max_message_latency(host, other, latency);
        }
    }
}

fn others(host: &'static str) -> impl Iterator<Item = &'static str> {
    HOSTS.into_iter().filter(move |other| *other != host)
}
