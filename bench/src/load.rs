//! [`Load`]: many workers that repeat an operation, as fast as it is answered or at a rate, with every latency counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Latencies are kept in microseconds, to three digits, up to an hour.
const DIGITS: u8 = 3;
const LONGEST_MICROSECONDS: u64 = 3_600_000_000;

/// When the next operation begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// When a worker has its last answer.
    Closed,
    /// At its place in a schedule of so many a second. Latency counts from there, so that an operation which waits behind a
    /// slow one is slow, too: coordinated omission is what Gil Tene calls leaving that out.
    Open(f64),
}

/// How long, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// No operation begins after this.
    pub duration: Duration,
    /// Nor after so many.
    pub operations: u64,
    /// When operations begin.
    pub pace: Pace,
}

/// What one of the callers does, again and again.
pub trait Worker: Send + 'static {
    /// Carries out the operation with this number and says how many bytes of content it moved.
    fn operation(&mut self, number: u64) -> impl Future<Output = Result<u64>> + Send;
}

/// What came of a load.
#[derive(Debug)]
pub struct Timings {
    /// Operations that succeeded.
    pub operations: u64,
    /// Those that did not.
    pub failed: u64,
    /// The first error.
    pub error: Option<String>,
    /// Bytes of content.
    pub bytes: u64,
    /// From the first operation to the end of the last.
    pub elapsed: Duration,
    /// Microseconds.
    pub latency: Histogram<u64>,
}

impl Load {
    /// As many operations as fit in `duration`, each when the one before is answered.
    pub fn closed(duration: Duration) -> Self {
        Self {
            duration,
            operations: u64::MAX,
            pace: Pace::Closed,
        }
    }

    /// Has all of `workers` take operations, which are numbered from 0, until the load is over.
    ///
    /// # Errors
    /// A worker panicked.
    pub async fn run<W: Worker>(self, workers: Vec<W>) -> Result<Timings> {
        self.run_until(CancellationToken::new(), workers).await
    }

    /// The same; no operation begins once `stop` is cancelled.
    ///
    /// # Errors
    /// A worker panicked.
    pub async fn run_until<W: Worker>(
        self,
        stop: CancellationToken,
        workers: Vec<W>,
    ) -> Result<Timings> {
        let started = Instant::now();
        let turns = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for worker in workers {
            running.spawn(self.repeat(worker, turns.clone(), started, stop.clone()));
        }
        let mut timings = Timings::new();
        while let Some(one) = running.join_next().await {
            timings.add(&one.context("a worker ended badly")?);
        }
        timings.elapsed = started.elapsed();
        Ok(timings)
    }

    async fn repeat<W: Worker>(
        self,
        mut worker: W,
        turns: Arc<AtomicU64>,
        started: Instant,
        stop: CancellationToken,
    ) -> Timings {
        let mut timings = Timings::new();
        loop {
            let number = turns.fetch_add(1, Ordering::Relaxed);
            if number >= self.operations {
                return timings;
            }
            let begun = match self.pace {
                Pace::Closed => Instant::now(),
                Pace::Open(per_second) => {
                    let due = started + Duration::from_secs_f64(number as f64 / per_second);
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
            };
            if begun.duration_since(started) >= self.duration || stop.is_cancelled() {
                return timings;
            }
            timings.count(worker.operation(number).await, begun.elapsed());
        }
    }
}

impl Timings {
    fn new() -> Self {
        Self {
            operations: 0,
            failed: 0,
            error: None,
            bytes: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::new_with_max(LONGEST_MICROSECONDS, DIGITS)
                .expect("an hour to three digits is allowed"),
        }
    }

    fn count(&mut self, outcome: Result<u64>, took: Duration) {
        match outcome {
            Ok(bytes) => {
                self.operations += 1;
                self.bytes += bytes;
                let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(microseconds);
            }
            Err(error) => {
                self.failed += 1;
                self.error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.bytes += other.bytes;
        if self.error.is_none() {
            self.error.clone_from(&other.error);
        }
        self.latency
            .add(&other.latency)
            .expect("both have the same span");
    }

    /// Operations a second.
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Bytes of content a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stuck;

    impl Worker for Stuck {
        /// The first operation takes a second, the others nothing.
        async fn operation(&mut self, number: u64) -> Result<u64> {
            if number == 0 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(1)
        }
    }

    fn load(pace: Pace) -> Load {
        Load {
            duration: Duration::from_secs(60),
            operations: 31,
            pace,
        }
    }

    #[tokio::test]
    async fn an_open_load_counts_the_time_that_operations_wait_behind_a_slow_one() {
        let open = load(Pace::Open(100.0)).run(vec![Stuck]).await.unwrap();
        let closed = load(Pace::Closed).run(vec![Stuck]).await.unwrap();
        assert_eq!((open.operations, closed.operations), (31, 31));
        // Half of the schedule was due while the first one was stuck.
        assert!(open.latency.value_at_quantile(0.5) > 50_000);
        assert!(closed.latency.value_at_quantile(0.5) < 50_000);
        assert!(closed.latency.max() >= 300_000);
    }

    #[tokio::test]
    async fn failures_are_counted_apart_and_the_first_is_kept() {
        struct Failing;
        impl Worker for Failing {
            async fn operation(&mut self, number: u64) -> Result<u64> {
                anyhow::ensure!(number.is_multiple_of(2), "odd");
                Ok(10)
            }
        }
        let timings = Load {
            operations: 10,
            ..load(Pace::Closed)
        };
        let timings = timings.run(vec![Failing, Failing]).await.unwrap();
        assert_eq!(
            (timings.operations, timings.failed, timings.bytes),
            (5, 5, 50)
        );
        assert_eq!(timings.error.as_deref(), Some("odd"));
    }
}
