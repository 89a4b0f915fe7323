//! [`Copies`]: takes a copy every interval, puts it into the store, and drops the oldest. From what is kept follows what the
//! datanodes may forget.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use richardstore_proto::{Generation, MetadataCopy};

use super::copy::{CopyError, KeptCopy};
use super::shelf::CopyShelf;
use crate::metadata::{Room, ViewError};
use crate::shared::Shared;
use crate::ticker::Ticks;

/// The first copy after a start, where the newest is older than the interval: not at once, since a start has enough to do,
/// and not so late that a namenode that is restarted now and then never takes one.
const FIRST_AFTER_MS: u64 = 300_000;
/// After one that failed.
const RETRY_AFTER_MS: u64 = 60_000;
/// How often it is looked whether one is due, and what may be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The copies of one namenode.
pub struct Copies {
    directory: PathBuf,
    shelf: OnceLock<Arc<dyn CopyShelf>>,
    /// One at a time.
    taking: tokio::sync::Mutex<()>,
    /// Oldest first.
    kept: Mutex<Vec<KeptCopy>>,
    /// The newest that is a file of the store.
    shelved: Mutex<Option<MetadataCopy>>,
    forget_deletes_before: AtomicU64,
}

impl Copies {
    /// The copies in `directory`; none are known before [`run_copies`] runs.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            shelf: OnceLock::new(),
            taking: tokio::sync::Mutex::new(()),
            kept: Mutex::default(),
            shelved: Mutex::default(),
            forget_deletes_before: AtomicU64::new(0),
        }
    }

    /// Copies taken from now on go there too. The first shelf stays.
    pub fn set_shelf(&self, shelf: Arc<dyn CopyShelf>) {
        let _ = self.shelf.set(shelf);
    }

    /// The newest copy that is a file of the store.
    pub fn shelved(&self) -> Option<MetadataCopy> {
        *self.shelved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Datanodes need not remember deletes with a smaller marker.
    pub fn forget_deletes_before(&self) -> Generation {
        Generation(self.forget_deletes_before.load(Ordering::Relaxed))
    }

    fn kept(&self) -> Vec<KeptCopy> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    fn set_kept(&self, copies: Vec<KeptCopy>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = copies;
    }

    fn set_shelved(&self, copy: MetadataCopy) {
        *self.shelved.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
    }
}

/// Takes copies until the namenode stops.
pub async fn run_copies(shared: Arc<Shared>) {
    let interval_ms = shared.config.copy_interval_ms;
    let stopping = shared.tasks.stopping();
    let mut due_ms = match find_kept(&shared).await {
        Ok(()) => first_due_ms(&shared, interval_ms),
        Err(error) => {
            tracing::warn!(%error, "the copies of the metadata cannot be listed");
            RETRY_AFTER_MS
        }
    };
    let mut ticks = Ticks::every(LOOK_EVERY, stopping.clone());
    while ticks.next().await {
        if let Err(error) = note_what_may_be_forgotten(&shared) {
            tracing::debug!(%error, "datanodes forget nothing for now");
        }
        if interval_ms == 0 || shared.now_ms() < due_ms || !is_worth_a_copy(&shared) {
            continue;
        }
        let taken = tokio::select! {
            taken = take_copy(&shared) => taken,
            () = stopping.cancelled() => return,
        };
        let wait_ms = match taken {
            Ok(_) => interval_ms,
            Err(error) => {
                tracing::warn!(%error, "no copy of the metadata was taken");
                interval_ms.min(RETRY_AFTER_MS)
            }
        };
        due_ms = shared.now_ms().saturating_add(wait_ms);
    }
}

async fn find_kept(shared: &Shared) -> Result<(), CopyError> {
    let directory = shared.copies.directory.clone();
    let failed = {
        let path = directory.clone();
        |source| CopyError::Io { path, source }
    };
    let listing = shared
        .environment
        .offload
        .run(move || KeptCopy::list(&directory));
    let kept = listing
        .await
        .map_err(|error| CopyError::Lost(error.to_string()))?
        .map_err(failed)?;
    let view = shared.metadata.view()?;
    for copy in kept.iter().rev() {
        if view.file(&copy.copy.hash)?.is_some() {
            shared.copies.set_shelved(copy.copy);
            break;
        }
    }
    shared.copies.set_kept(kept);
    Ok(())
}

/// In milliseconds after the start.
fn first_due_ms(shared: &Shared, interval_ms: u64) -> u64 {
    let soon = interval_ms.min(FIRST_AFTER_MS);
    match shared.copies.kept().last() {
        // A clock that was set back makes the newest look as if it came from the future: then it is taken for old.
        Some(newest) => match shared.wall_ms().checked_sub(newest.copy.taken_ms) {
            Some(age_ms) if age_ms < interval_ms => soon.max(interval_ms - age_ms),
            _ => soon,
        },
        None => soon,
    }
}

/// A cluster in which nothing was ever written has nothing to lose.
fn is_worth_a_copy(shared: &Shared) -> bool {
    let header = shared.metadata.view().and_then(|view| view.summary());
    header.is_ok_and(|summary| summary.next_generation > Generation(1))
}

/// A delete may be forgotten once its tombstone is gone and every copy that is kept is younger.
fn note_what_may_be_forgotten(shared: &Shared) -> Result<(), ViewError> {
    let copies = &shared.copies;
    let oldest_copy = match shared.config.copy_interval_ms {
        0 => None,
        _ => Some(
            copies
                .kept()
                .iter()
                .map(|copy| copy.settled_before)
                .min()
                .unwrap_or_default(),
        ),
    };
    let before = shared.metadata.view()?.forget_deletes_before(oldest_copy)?;
    copies
        .forget_deletes_before
        .store(before.0, Ordering::Relaxed);
    Ok(())
}

/// Takes a copy now, puts it into the store where there is a shelf, and drops what is too many. A copy that the store does not
/// take is a copy all the same.
pub async fn take_copy(shared: &Shared) -> Result<KeptCopy, CopyError> {
    let copies = &shared.copies;
    let _turn = copies.taking.lock().await;
    let view = shared.metadata.view()?;
    let (directory, taken_ms) = (copies.directory.clone(), shared.wall_ms());
    let room = Room::of(shared.config.dir.clone(), shared.config.reserve_bytes);
    // As large as the last one, as far as anybody knows.
    let expected_bytes = copies.kept().last().map_or(0, |newest| newest.copy.size);
    let writing = shared
        .environment
        .offload
        .run(move || KeptCopy::write(&view, &directory, taken_ms, &room, expected_bytes));
    let copy = writing
        .await
        .map_err(|error| CopyError::Lost(error.to_string()))??;
    tracing::info!(path = %copy.path.display(), bytes = copy.copy.size, "copied the metadata");
    let mut kept = copies.kept();
    kept.push(copy.clone());
    copies.set_kept(kept);
    if let Some(shelf) = copies.shelf.get() {
        match shelf.put(&copy.path, copy.copy.hash).await {
            Ok(()) => copies.set_shelved(copy.copy),
            Err(error) => tracing::warn!(%error, "the copy is not in the store"),
        }
    }
    drop_superseded(shared).await?;
    Ok(copy)
}

/// First from the store, then from the directory, whose names say what is in the store.
async fn drop_superseded(shared: &Shared) -> Result<(), CopyError> {
    let copies = &shared.copies;
    loop {
        let mut kept = copies.kept();
        if kept.len() <= shared.config.copies_kept.max(1) {
            return Ok(());
        }
        let oldest = kept.remove(0);
        if let Some(shelf) = copies.shelf.get()
            && let Err(error) = shelf.remove(oldest.copy.hash).await
        {
            tracing::warn!(%error, "an old copy stays until the store deletes it");
            return Ok(());
        }
        match std::fs::remove_file(&oldest.path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(CopyError::Io {
                    path: oldest.path,
                    source,
                });
            }
            _ => copies.set_kept(kept),
        }
    }
}
