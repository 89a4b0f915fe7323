//! [`IndexSlot`]: the index in use, or none while another one is being put up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use richardstore_proto::JournalId;
use richardstore_runtime::SharedEntropy;
use tokio::sync::{Notify, watch};

use super::VolumeError;
use crate::config::DatanodeConfig;
use crate::index::{Index, IndexError, IndexOptions, RebuildReason};

/// Where the index is. The slot's lock is held only while the index is asked, and never while a hash's lock is taken.
pub(super) struct IndexSlot {
    index: RwLock<Option<Index>>,
    directory: PathBuf,
    clean_mark: PathBuf,
    options: IndexOptions,
    /// Set by whoever finds the index unusable; the rebuild puts up another one.
    given_up: AtomicBool,
    rebuild_wanted: Notify,
    journal: watch::Sender<Option<JournalId>>,
}

impl IndexSlot {
    /// An empty slot for the index in `config.dir`.
    pub(super) fn new(config: &DatanodeConfig, entropy: SharedEntropy) -> Self {
        Self {
            index: RwLock::new(None),
            directory: config.dir.join("index"),
            clean_mark: config.dir.join("index.clean"),
            options: IndexOptions {
                cache_bytes: config.index_cache_bytes,
                entropy,
                ..IndexOptions::default()
            },
            given_up: AtomicBool::new(false),
            rebuild_wanted: Notify::new(),
            journal: watch::Sender::new(None),
        }
    }

    /// Puts an index into the slot: the one that is there, or else a new one, and the reason why it has to be filled.
    pub(super) fn open(&self) -> Result<Option<RebuildReason>, VolumeError> {
        let opened = Index::open(&self.directory, &self.clean_mark, &self.options)?;
        if let Some(reason) = &opened.rebuild {
            tracing::info!(%reason, "the index is filled from the directory");
        }
        let journal = opened.index.journal_id();
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(opened.index);
        self.given_up.store(false, Ordering::SeqCst);
        self.journal.send_replace(Some(journal));
        Ok(opened.rebuild)
    }

    /// Empties the slot.
    pub(super) fn clear(&self) {
        self.journal.send_replace(None);
        // Dropped outside the lock: publishing must not wait for a database that is slow to go.
        drop(self.take());
    }

    /// Takes the index out, unless it was given up.
    pub(super) fn take_sound(&self) -> Option<Index> {
        self.take()
            .filter(|_| !self.given_up.load(Ordering::SeqCst))
    }

    /// Asks the index. Its failures are taken note of here: the caller only goes without the answer.
    pub(super) fn ask<T>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, IndexError>,
    ) -> Result<T, VolumeError> {
        let slot = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let index = slot.as_ref().ok_or(VolumeError::IndexAway)?;
        let answer = ask(index);
        drop(slot);
        if let Err(error) = &answer
            && error.needs_rebuild()
        {
            self.give_up(&error.to_string());
        }
        Ok(answer?)
    }

    /// The index cannot be used any more: it is put up anew, in the background.
    pub(super) fn give_up(&self, reason: &str) {
        if !self.given_up.swap(true, Ordering::SeqCst) {
            tracing::error!(reason, "the index is given up and will be rebuilt");
            self.rebuild_wanted.notify_one();
        }
    }

    /// The index has to be filled.
    pub(super) fn want_rebuild(&self) {
        self.rebuild_wanted.notify_one();
    }

    /// Whether there is an index that changes can be entered into.
    pub(super) fn is_usable(&self) -> bool {
        !self.given_up.load(Ordering::SeqCst)
            && self
                .ask(|index| Ok(index.broken().is_none()))
                .unwrap_or(false)
    }

    /// Waits until the index must be rebuilt. Does not block.
    pub(super) async fn rebuild_wanted(&self) {
        self.rebuild_wanted.notified().await;
    }

    /// The journal in use, and a way to wait for another one. Does not block.
    pub(super) fn journal(&self) -> watch::Receiver<Option<JournalId>> {
        self.journal.subscribe()
    }

    fn take(&self) -> Option<Index> {
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
