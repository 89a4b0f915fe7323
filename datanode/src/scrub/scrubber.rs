//! [`Scrubber`]: the loop that reads, rests, reports and remembers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use richardstore_proto::{ContentHash, ReplicaEntry, StoreError};
use tokio::time::Instant;

use super::position::Position;
use super::schedule::{Pace, Schedule};
use super::stage::{FILE_COST, Stage};
use crate::metrics::count;
use crate::node::Node;
use crate::pipeline::offload_failed;
use crate::volume::VolumeError;

/// Replicas taken from the index at once.
const PAGE_ENTRIES: usize = 256;
/// Findings that may wait for the namenode before the scrub waits too.
const MAX_UNTOLD: usize = 256;
/// Between two looks at something that is not ready.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait in one go, so that a clock that was set does not matter for long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Between two saves of the position.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Scrubs until the datanode stops.
pub(crate) async fn scrub(node: Arc<Node>) {
    let config = &node.config;
    let Some(schedule) = Schedule::new(config.scrub_interval, config.scrub_bytes_per_second) else {
        return tracing::warn!("the scrub is switched off: damage is found by readers only");
    };
    let stopping = node.tasks.stopping();
    let wanted = node.clone();
    let mut scrubber = Scrubber::open(node, schedule).await;
    let mut saved_at = Instant::now();
    loop {
        let wait = match scrubber.advance().await {
            Ok(wait) => wait.min(LONGEST_WAIT),
            Err(error) => {
                tracing::debug!(%error, "the scrub waits");
                RETRY
            }
        };
        if saved_at.elapsed() >= SAVE_INTERVAL {
            scrubber.save().await;
            saved_at = Instant::now();
        }
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            () = wanted.scrub_wanted.notified() => scrubber.hurry(),
            () = tokio::time::sleep(wait) => {}
        }
    }
    scrubber.save().await;
}

struct Scrubber {
    node: Arc<Node>,
    schedule: Schedule,
    position: Position,
    saved: Option<Position>,
    stage: Stage,
    pace: Pace,
    /// Bytes per second of this pass, as of its last page.
    rate: u64,
    /// Bytes accounted for so far.
    charged: u64,
    /// The operator waits for this pass.
    hurried: bool,
}

impl Scrubber {
    async fn open(node: Arc<Node>, schedule: Schedule) -> Self {
        let directory = node.config.dir.clone();
        let load = move || Position::load(&directory);
        let saved = node.environment.offload.run(load).await.ok().flatten();
        let now_ms = node.environment.clock.now_ms();
        let scrubber = Self {
            position: saved.unwrap_or_else(|| Position::begin(now_ms)),
            rate: schedule.usual_rate(),
            schedule,
            saved,
            stage: Stage::default(),
            pace: Pace::new(Instant::now()),
            charged: 0,
            hurried: false,
            node,
        };
        scrubber.note_begin();
        scrubber
    }

    /// Begins a new pass now, as fast as allowed: the operator wants to know.
    fn hurry(&mut self) {
        let now_ms = self.node.environment.clock.now_ms();
        self.begin(now_ms);
        self.stage = Stage::default();
        self.pace = Pace::new(Instant::now());
        self.hurried = true;
    }

    fn begin(&mut self, now_ms: u64) {
        self.position = Position::begin(now_ms);
        self.note_begin();
    }

    fn note_begin(&self) {
        let began = &self.node.metrics.scrub_began_ms;
        began.store(self.position.began_ms, Ordering::Relaxed);
    }

    /// Does the next thing, and says how long to wait after it.
    async fn advance(&mut self) -> Result<Duration, StoreError> {
        if self.node.bad_replicas.waiting() >= MAX_UNTOLD {
            return Ok(RETRY);
        }
        let now_ms = self.node.environment.clock.now_ms();
        if self.position.began_ms > now_ms {
            // The clock was ahead when the pass began: waiting for it to be there again could take years.
            self.position.began_ms = now_ms;
            self.note_begin();
        }
        if self.position.complete {
            let rest = self.schedule.rest(self.position.began_ms, now_ms);
            if !rest.is_zero() {
                return Ok(rest);
            }
            self.begin(now_ms);
        }
        if self.may_step_back(now_ms) {
            // Not kept open meanwhile: a file that is deleted would keep its room.
            self.stage = Stage::default();
            return Ok(RETRY);
        }
        if self.stage.is_empty() && !self.take_page(now_ms).await? {
            return Ok(RETRY);
        }
        if self.stage.is_empty() {
            tracing::info!(bytes = self.charged, "a scrub of all replicas has ended");
            self.position.complete = true;
            self.hurried = false;
            count(&self.node.metrics.scrub_passes, 1);
            self.save().await;
            return Ok(Duration::ZERO);
        }
        self.read_stage(now_ms).await
    }

    /// Somebody uploads, and there is time left.
    fn may_step_back(&self, now_ms: u64) -> bool {
        let Position {
            began_ms, after, ..
        } = self.position;
        !self.hurried && self.node.uploads.any() && self.schedule.is_ahead(began_ms, after, now_ms)
    }

    /// Takes the next replicas from the index. `false`: it does not say yet what the directory holds.
    async fn take_page(&mut self, now_ms: u64) -> Result<bool, StoreError> {
        let volume = self.node.volume.clone();
        let after = self.position.after;
        let ask = move || -> Result<Option<(Vec<ReplicaEntry>, u64)>, VolumeError> {
            if !volume.is_indexed() {
                return Ok(None);
            }
            volume.with_index(|index| {
                let page = index.entries(after, ContentHash::MAX, PAGE_ENTRIES)?;
                let openings = index.count().saturating_mul(FILE_COST);
                Ok(Some((page, index.bytes().saturating_add(openings))))
            })
        };
        let asked = self.node.environment.offload.run(ask).await;
        let Some((page, work)) = asked.map_err(offload_failed)?? else {
            return Ok(false);
        };
        self.rate = match self.hurried {
            true => self.schedule.limit(),
            false => {
                let Position { began_ms, .. } = self.position;
                self.schedule.rate(work, began_ms, after, now_ms)
            }
        };
        self.stage.fill(page);
        Ok(true)
    }

    async fn read_stage(&mut self, now_ms: u64) -> Result<Duration, StoreError> {
        let volume = self.node.volume.clone();
        let mut stage = std::mem::take(&mut self.stage);
        let read = move || {
            let end = stage.read(&volume, now_ms);
            (stage, end)
        };
        let (stage, end) = self
            .node
            .environment
            .offload
            .run(read)
            .await
            .map_err(offload_failed)?;
        self.stage = stage;
        count(&self.node.metrics.bad_replicas, end.bad.len());
        for (hash, reason) in end.bad {
            self.node.bad_replicas.found(hash, reason);
        }
        self.position.after = end.done.or(self.position.after);
        self.charged = self.charged.saturating_add(end.charged);
        let scrubbed = &self.node.metrics.scrubbed_bytes;
        scrubbed.fetch_add(end.charged, Ordering::Relaxed);
        Ok(self.pace.charge(end.charged, self.rate, Instant::now()))
    }

    /// Remembers the position. Not while there are findings that the namenode was not told of: they are in memory only, and
    /// the next start must come by them again.
    async fn save(&mut self) {
        if self.saved == Some(self.position) || self.node.bad_replicas.waiting() > 0 {
            return;
        }
        let (position, directory) = (self.position, self.node.config.dir.clone());
        let save = move || position.save(&directory);
        match self.node.environment.offload.run(save).await {
            Ok(Ok(())) => self.saved = Some(position),
            Ok(Err(error)) => tracing::warn!(%error, "the scrub position was not saved"),
            Err(error) => tracing::warn!(%error, "the scrub position was not saved"),
        }
    }
}

#[cfg(test)]
mod tests;
