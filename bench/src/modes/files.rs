//! Uploads, downloads, deletes and a mixture of them, by the ways that users have.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use richardstore_proto::ContentHash;

use super::{Plan, size_name};
use crate::connection::Connection;
use crate::limits::Limits;
use crate::load::{Load, Pace, Timings, Worker};
use crate::payload::Payload;
use crate::row::Row;
use crate::test_store::TestStore;

/// Content that is stored before it is read or deleted, at most.
const PREPARED_BYTES: usize = 1 << 30;
const PREPARE_LIMIT: Duration = Duration::from_secs(600);
/// Of ten operations of a mixture: the rest are downloads.
const UPLOADS_OF_TEN: u64 = 2;
const DELETES_OF_TEN: u64 = 1;

/// What one operation of a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Put,
    Get,
    Delete,
    Mixed,
}

/// The files that workers share.
type Stored = Arc<Mutex<Vec<ContentHash>>>;

struct FileWorker {
    connection: Connection,
    payload: Payload,
    stored: Stored,
    task: Task,
}

impl Worker for FileWorker {
    async fn operation(&mut self, number: u64) -> Result<u64> {
        match (self.task, number % 10) {
            (Task::Put, _) => self.put(number).await,
            (Task::Get, _) => self.get(number).await,
            (Task::Delete, _) => self.delete().await,
            (Task::Mixed, turn) if turn < UPLOADS_OF_TEN => self.put(number).await,
            (Task::Mixed, turn) if turn < UPLOADS_OF_TEN + DELETES_OF_TEN => self.delete().await,
            (Task::Mixed, _) => self.get(number).await,
        }
    }
}

impl FileWorker {
    async fn put(&mut self, number: u64) -> Result<u64> {
        let hash = self.connection.put(self.payload.chunks(number)).await?;
        self.files().push(hash);
        Ok(self.payload.size() as u64)
    }

    async fn get(&mut self, number: u64) -> Result<u64> {
        let hash = {
            let files = self.files();
            // Those in front are the ones that a mixture never deletes.
            let span = (files.len() / 2).max(1);
            let place = usize::try_from(number)?.wrapping_mul(7919) % span;
            *files.get(place).context("nothing is stored")?
        };
        let size = self.connection.get(&hash).await?;
        ensure!(size == self.payload.size() as u64, "{size} bytes came");
        Ok(size)
    }

    async fn delete(&mut self) -> Result<u64> {
        let hash = self.files().pop().context("nothing is left to delete")?;
        self.connection.delete(&hash).await?;
        Ok(0)
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Vec<ContentHash>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store, and the files in it.
struct Bench<'a> {
    plan: &'a Plan,
    store: TestStore,
    size: usize,
    stored: Stored,
    /// Rounds so far: each has contents of its own.
    salt: u64,
}

impl<'a> Bench<'a> {
    async fn new(plan: &'a Plan, size: usize) -> Result<Self> {
        Ok(Self {
            plan,
            store: plan.store().await?,
            size,
            stored: Stored::default(),
            // Of a store that runs already, the contents of the last run may still be there.
            salt: std::process::id().into(),
        })
    }

    /// Stores enough to read or delete, and says how many.
    async fn prepare(&mut self) -> Result<u64> {
        let files = self.plan.prepared_files.min(PREPARED_BYTES / self.size);
        let files = files.max(2) as u64;
        let load = Load {
            operations: files,
            duration: PREPARE_LIMIT,
            pace: Pace::Closed,
        };
        let timings = self.run(load, Task::Put, 16).await?;
        ensure!(
            timings.failed == 0,
            "{} uploads failed: {:?}",
            timings.failed,
            timings.error
        );
        Ok(files)
    }

    async fn run(&mut self, load: Load, task: Task, callers: usize) -> Result<Timings> {
        self.salt = self.salt.wrapping_add(1 << 32);
        let payload = Payload::new(self.size, self.salt);
        let connections = Connection::several(self.store.addresses(), self.plan.native, callers);
        let workers = connections.into_iter().map(|connection| FileWorker {
            connection,
            payload: payload.clone(),
            stored: self.stored.clone(),
            task,
        });
        load.run(workers.collect()).await
    }

    async fn row(&mut self, load: Load, task: Task, callers: usize) -> Result<Row> {
        let before = self.store.usage();
        let timings = self.run(load, task, callers).await?;
        let name = format!(
            "{} {} {} x{callers}",
            format!("{task:?}").to_lowercase(),
            self.plan.way(),
            size_name(self.size)
        );
        let row = Row::of(name, &timings);
        Ok(match (before, self.store.usage()) {
            (Some(before), Some(now)) => {
                let stored = if task == Task::Put { timings.bytes } else { 0 };
                row.with_usage(now.since(before), stored)
            }
            _ => row,
        })
    }
}

impl Plan {
    fn load(&self) -> Load {
        Load {
            pace: self.pace,
            ..Load::closed(self.duration)
        }
    }
}

/// Uploads of new content.
pub(super) async fn put(plan: &Plan, limits: &Limits) -> Result<Vec<Row>> {
    measure(plan, Task::Put, |size| limits.put(size)).await
}

/// Downloads, each file many times: it is the page cache that is read.
pub(super) async fn get(plan: &Plan, limits: &Limits) -> Result<Vec<Row>> {
    measure(plan, Task::Get, |size| limits.get(size)).await
}

/// A mixture.
pub(super) async fn mixed(plan: &Plan, limits: &Limits) -> Result<Vec<Row>> {
    let shares = [
        (
            UPLOADS_OF_TEN,
            Limits::put as fn(&Limits, usize) -> Option<f64>,
        ),
        (DELETES_OF_TEN, |limits, _| limits.delete()),
        (10 - UPLOADS_OF_TEN - DELETES_OF_TEN, Limits::get),
    ];
    // The time that each kind of operation takes of a second adds up.
    let limit = |size| {
        let mut seconds = 0.0;
        for (of_ten, limit) in shares {
            seconds += of_ten as f64 / 10.0 / limit(limits, size)?;
        }
        Some(1.0 / seconds)
    };
    measure(plan, Task::Mixed, limit).await
}

/// Deletes of everything that was stored for it.
pub(super) async fn delete(plan: &Plan, limits: &Limits) -> Result<Vec<Row>> {
    measure(plan, Task::Delete, |_| limits.delete()).await
}

/// `task` at every size by every number of callers, in a new store for each size.
async fn measure(
    plan: &Plan,
    task: Task,
    limit: impl Fn(usize) -> Option<f64>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &size in &plan.sizes {
        let mut bench = Bench::new(plan, size).await?;
        if matches!(task, Task::Get | Task::Mixed) {
            bench.prepare().await?;
        }
        for &callers in &plan.callers {
            let mut repeated = Vec::new();
            for _ in 0..plan.repeat {
                let mut load = plan.load();
                if task == Task::Delete {
                    load.operations = bench.prepare().await?;
                }
                repeated.push(bench.row(load, task, callers).await?);
            }
            rows.extend(Row::median(repeated).map(|row| row.with_limit(limit(size))));
        }
    }
    Ok(rows)
}
