//! [`Progress`]: a bar on a terminal, with rate and time left. Elsewhere it draws nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW_EVERY: Duration = Duration::from_millis(250);
const KNOWN: &str =
    "{wide_bar} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
const UNKNOWN: &str = "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}";

/// Bytes moved so far. Cheap to clone; clones draw one bar.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of `total` bytes, or of nobody knows how many.
    pub fn new(total: Option<u64>) -> Self {
        // It draws on standard error, and hides itself where that is no terminal.
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), KNOWN),
            None => (ProgressBar::new_spinner(), UNKNOWN),
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(REDRAW_EVERY);
        Self { bar }
    }

    /// `bytes` more have to be moved.
    pub fn expect(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// `bytes` more have been moved.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Runs `print` while the bar is out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
