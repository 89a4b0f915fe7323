//! [`Commits`]: how large and how long the durable commits were.

use std::time::Duration;

use richardstore_runtime::metrics::{COUNTS, Histogram, SECONDS};

/// The commits since the start.
#[derive(Debug)]
pub struct Commits {
    /// Mutations of each.
    pub sizes: Histogram,
    /// Time of each, both syncs included.
    pub times: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            sizes: Histogram::new(COUNTS),
            times: Histogram::new(SECONDS),
        }
    }
}

impl Commits {
    pub(super) fn observe(&self, mutations: usize, time: Duration) {
        self.sizes.observe_count(mutations);
        self.times.observe(time);
    }
}
