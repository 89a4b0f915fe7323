//! [`failpoint`]: a named line at which a process can be told to die, to show that it may die there.
//!
//! `RICHARDSTORE_FAILPOINT=name` kills the process (SIGKILL) the first time it comes to the line, `name:5` the fifth time.
//! A build without debug assertions has no failpoints: what is released cannot be killed by a variable, and pays nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names the line, and how often it is passed before it kills.
const VARIABLE: &str = "RICHARDSTORE_FAILPOINT";

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

#[derive(Debug)]
struct Armed {
    name: String,
    passes: AtomicU64,
}

impl Armed {
    /// `name` or `name:nth`, where the first time is 1.
    fn parse(text: &str) -> Self {
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Self {
            name: name.to_owned(),
            passes: AtomicU64::new(nth),
        }
    }

    fn is_hit(&self, name: &str) -> bool {
        // Wrapping below 0 is of no consequence: by then the process is gone.
        self.name == name && self.passes.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// Dies here if the environment says so.
#[inline]
pub fn failpoint(name: &str) {
    if cfg!(debug_assertions) {
        let armed =
            ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| Armed::parse(&text)));
        if armed.as_ref().is_some_and(|armed| armed.is_hit(name)) {
            die();
        }
    }
}

/// No destructor runs and nothing is flushed, as if the machine's owner had pulled the process out.
#[cold]
fn die() {
    use rustix::process::{Signal, getpid, kill_process};
    if kill_process(getpid(), Signal::KILL).is_err() {
        std::process::abort();
    }
    // The signal is on its way. Until it is here, nothing after this line may happen.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_line_is_hit_and_only_at_the_nth_time() {
        let armed = Armed::parse("here:3");
        assert!(!armed.is_hit("elsewhere"));
        let hits: Vec<bool> = (0..4).map(|_| armed.is_hit("here")).collect();
        assert_eq!(hits, [false, false, true, false]);
        assert!(Armed::parse("here").is_hit("here"));
    }
}
