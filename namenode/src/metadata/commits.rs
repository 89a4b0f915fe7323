//! [`Commits`]: how large and how long the durable commits were.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use richardstore_runtime::metrics::{COUNTS, Histogram, SECONDS};

/// The commits since the start.
#[derive(Debug)]
pub struct Commits {
    /// Mutations of each.
    pub sizes: Histogram,
    /// Time of each, both syncs included.
    pub times: Histogram,
    /// Mutations that the last one left for their turn.
    pub(super) left: AtomicUsize,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            sizes: Histogram::new(COUNTS),
            times: Histogram::new(SECONDS),
            left: AtomicUsize::new(0),
        }
    }
}

impl Commits {
    pub(super) fn observe(&self, mutations: usize, time: Duration) {
        self.sizes.observe_count(mutations);
        self.times.observe(time);
    }
}
