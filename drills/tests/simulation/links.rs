//! [`Links`]: which directions between hosts are cut, however many faults cut the same one.

use std::collections::BTreeMap;

use turmoil::Sim;

use crate::cluster::HOSTS;

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
        let others = || HOSTS.into_iter().filter(|other| *other != host);
        for other in others() {
            self.cut(sim, host, other);
            self.cut(sim, other, host);
        }
        act(sim);
        for other in others() {
            self.mend(sim, host, other);
            self.mend(sim, other, host);
        }
    }
}
