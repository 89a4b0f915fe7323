//! [`Figures`]: how often what happened, so that nobody believes in a simulation in which nothing happens.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by what was counted.
#[derive(Debug, Default, Clone)]
pub struct Figures(BTreeMap<&'static str, u64>);

impl Figures {
    /// It happened once more.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// It happened `times` more.
    pub fn add(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// Adds those of another run.
    pub fn add_all(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(what, times)| writeln!(f, "{times:>9} {what}"))
    }
}
