//! [`Volume`]: the replicas of one disk and the index over them, which change together.
//!
//! Every change of the directory is entered into the index under the hash's lock, in the order in which the directory
//! changed. The index never stands in the way (I9): where it fails, replicas are published, read and deleted all the
//! same, and the rebuild, which walks the directory, finds what the index missed.
//!
//! Lock order: the gate, then a hash's lock (inside the store), then the index slot. Never the other way round.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use richardstore_proto::{
    ContentHash, ErrorCode, Generation, JournalId, NodeStats, ReplicaEntry, StoreError,
};
use richardstore_store::{
    DeleteOutcome, OpenError, PreparedReplica, ReadError, ReplicaMeta, ReplicaWriter, Store,
    StoreOptions, VerifiedReader, WriteError,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::DatanodeConfig;
use crate::index::{Index, IndexError, IndexOptions};

/// Why a volume did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The directory cannot be made.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The replicas cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A write or delete failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index is being put up anew and cannot answer yet.
    #[error("the index is being rebuilt")]
    IndexAway,
    /// The datanode is stopping.
    #[error("the datanode is stopping")]
    Closing,
}

impl From<VolumeError> for StoreError {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::Write(error) => error.into(),
            VolumeError::Read(error) => error.into(),
            VolumeError::Index(error) => error.into(),
            VolumeError::Directory { .. } | VolumeError::Open(_) => {
                StoreError::new(ErrorCode::Internal, error.to_string())
            }
            VolumeError::IndexAway | VolumeError::Closing => {
                StoreError::new(ErrorCode::Unavailable, error.to_string())
            }
        }
    }
}

/// How a rebuild ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RebuildEnd {
    /// The index says what the directory holds.
    Complete {
        /// Replicas found.
        replicas: u64,
    },
    /// The datanode is stopping.
    Stopped,
}

/// Replicas and index of one datanode. All methods block, but for those that say otherwise.
pub(crate) struct Volume {
    store: Store,
    index: RwLock<Option<Index>>,
    index_dir: PathBuf,
    clean_mark: PathBuf,
    index_options: IndexOptions,
    /// True while the volume is open. Held for reading throughout each change, so that closing waits for all of them:
    /// a change after the clean mark would make it a lie.
    gate: RwLock<bool>,
    /// Set by whoever finds the index unusable; the rebuild puts up another one.
    given_up: AtomicBool,
    rebuild_wanted: Notify,
    changed: Notify,
    journal: watch::Sender<Option<JournalId>>,
}

impl Volume {
    /// Opens, and formats where there is nothing yet, the replicas and the index in `config.dir`.
    pub(crate) fn open(config: &DatanodeConfig) -> Result<Self, VolumeError> {
        let root = config.dir.join("replicas");
        std::fs::create_dir_all(&root).map_err(|source| VolumeError::Directory {
            path: root.clone(),
            source,
        })?;
        let store = Store::open(
            &root,
            &StoreOptions {
                layout: config.layout,
                headroom_bytes: config.headroom_bytes,
            },
        )?;
        let volume = Self {
            store,
            index: RwLock::new(None),
            index_dir: config.dir.join("index"),
            clean_mark: config.dir.join("index.clean"),
            index_options: IndexOptions {
                cache_bytes: config.index_cache_bytes,
                ..IndexOptions::default()
            },
            gate: RwLock::new(true),
            given_up: AtomicBool::new(false),
            rebuild_wanted: Notify::new(),
            changed: Notify::new(),
            journal: watch::Sender::new(None),
        };
        volume.open_index()?;
        Ok(volume)
    }

    /// A new replica of about `size_hint` bytes (0: unknown).
    pub(crate) fn writer(&self, size_hint: u64) -> Result<ReplicaWriter, VolumeError> {
        let _open = self.enter()?;
        Ok(self.store.writer(size_hint)?)
    }

    /// A reader of `length` bytes (to the end where `None`) from `offset`.
    pub(crate) fn read(
        &self,
        hash: &ContentHash,
        offset: u64,
        length: Option<u64>,
    ) -> Result<VerifiedReader, VolumeError> {
        Ok(self.store.read(hash, offset, length)?)
    }

    /// Publishes durably and enters it into the index.
    pub(crate) fn publish(
        &self,
        replica: PreparedReplica,
        generation: Generation,
    ) -> Result<ReplicaMeta, VolumeError> {
        let _open = self.enter()?;
        let meta = replica.publish(generation, |meta| self.note_added(meta))?;
        self.changed.notify_one();
        Ok(meta)
    }

    /// Removes the replica unless it is newer than `entry` says (I4).
    pub(crate) fn delete(&self, entry: &ReplicaEntry) -> Result<DeleteOutcome, VolumeError> {
        let _open = self.enter()?;
        let outcome = self.store.delete(&entry.hash, entry.generation, |meta| {
            self.note_removed(&meta.hash, meta.generation);
        })?;
        if matches!(outcome, DeleteOutcome::Absent) {
            self.forget_absent(entry)?;
        }
        self.changed.notify_one();
        Ok(outcome)
    }

    /// Looks at the directory and journals what it holds of `entry.hash`, because the namenode believes otherwise.
    /// Of a replica that is there and cannot be read nothing is journaled: it is neither held nor gone.
    pub(crate) fn reconcile(&self, entry: &ReplicaEntry) -> Result<(), VolumeError> {
        let _open = self.enter()?;
        self.store.with_lock(&entry.hash, || {
            match self.store.meta(&entry.hash)? {
                None => self.note_absent(entry),
                Some(meta) => {
                    if meta.generation < entry.generation {
                        // An older one alone would be ignored: the namenode keeps the newest generation it was told.
                        self.note_removed(&entry.hash, entry.generation);
                    }
                    self.note_added(&meta);
                }
            }
            Ok::<_, VolumeError>(())
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// Asks the index. Its failures are taken note of here: the caller only goes without the answer.
    pub(crate) fn with_index<T>(
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
            self.discard_index(&error.to_string());
        }
        Ok(answer?)
    }

    /// The index cannot be used any more: it is put up anew, in the background.
    pub(crate) fn discard_index(&self, reason: &str) {
        if !self.given_up.swap(true, Ordering::SeqCst) {
            tracing::error!(reason, "the index is given up and will be rebuilt");
            self.rebuild_wanted.notify_one();
        }
    }

    /// Whether the index says what the directory holds.
    pub(crate) fn is_indexed(&self) -> bool {
        self.with_index(|index| Ok(index.is_complete() && index.broken().is_none()))
            .unwrap_or(false)
    }

    /// Space and replicas; the load is for others to say.
    pub(crate) fn stats(&self) -> NodeStats {
        let space = self.store.space();
        NodeStats {
            capacity_bytes: space.capacity,
            used_bytes: space.used,
            available_bytes: space.available,
            replicas: self.with_index(|index| Ok(index.count())).unwrap_or(0),
            active_writes: 0,
            active_reads: 0,
            read_only: space.available == 0 || self.store.failed().is_some(),
        }
    }

    /// Waits until the index must be rebuilt. Does not block.
    pub(crate) async fn rebuild_wanted(&self) {
        self.rebuild_wanted.notified().await;
    }

    /// Waits until the journal has grown. Does not block.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The journal in use, and a way to wait for another one. Does not block.
    pub(crate) fn journal(&self) -> watch::Receiver<Option<JournalId>> {
        self.journal.subscribe()
    }

    /// Fills the index from the directory; first a new index where the one in use has failed. Everything else goes on
    /// meanwhile.
    pub(crate) fn rebuild(&self, stopping: &CancellationToken) -> Result<RebuildEnd, VolumeError> {
        // An index that was put up behind a close would take the clean mark away again.
        let _open = self.enter()?;
        let usable = self.with_index(|index| Ok(index.broken().is_none()));
        if self.given_up.load(Ordering::SeqCst) || !usable.unwrap_or(false) {
            self.close_index();
            self.open_index()?;
            self.given_up.store(false, Ordering::SeqCst);
        }
        let mut replicas = 0;
        let mut failure = None;
        // Changes made from here on enter this index themselves, and changes made before are on the disk already.
        self.store.walk(&mut |found| {
            if stopping.is_cancelled() {
                return ControlFlow::Break(());
            }
            match self.restore(&found.hash) {
                Ok(()) => {
                    replicas += 1;
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if stopping.is_cancelled() {
            return Ok(RebuildEnd::Stopped);
        }
        self.with_index(|index| {
            index.finish_rebuild();
            Ok(())
        })?;
        self.changed.notify_one();
        Ok(RebuildEnd::Complete { replicas })
    }

    /// Ends all changes, and marks the index as clean where it is.
    pub(crate) fn close(&self) -> Result<(), VolumeError> {
        let mut open = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *open, false) {
            return Ok(());
        }
        let taken = self
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match taken {
            // One that was given up gets no mark, and the next start rebuilds it.
            Some(index) if !self.given_up.load(Ordering::SeqCst) => {
                Ok(index.close(|| self.store.sync_all())?)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn enter(&self) -> Result<RwLockReadGuard<'_, bool>, VolumeError> {
        let open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if *open {
            Ok(open)
        } else {
            Err(VolumeError::Closing)
        }
    }

    fn open_index(&self) -> Result<(), VolumeError> {
        let opened = Index::open(&self.index_dir, &self.clean_mark, &self.index_options)?;
        match &opened.rebuild {
            Some(reason) => {
                tracing::info!(%reason, "the index is filled from the directory");
                self.rebuild_wanted.notify_one();
            }
            // A rebuild counts the bytes itself, by its walk.
            None => self.store.set_used(opened.index.bytes()),
        }
        let journal = opened.index.journal_id();
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(opened.index);
        self.journal.send_replace(Some(journal));
        Ok(())
    }

    fn close_index(&self) {
        self.journal.send_replace(None);
        let taken = self
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Outside the lock: publishing must not wait for a database that is slow to go.
        drop(taken);
    }

    /// Runs under the hash's lock: what is entered is what is there at this moment, not what the walk saw a while ago.
    fn restore(&self, hash: &ContentHash) -> Result<(), VolumeError> {
        self.store.with_lock(hash, || match self.store.meta(hash) {
            Ok(Some(meta)) => self.with_index(|index| index.restore(&meta)),
            Ok(None) => Ok(()),
            // One bad file must not keep all others out of the index. Reports and scrubs find it by its absence.
            Err(error) => {
                tracing::warn!(%hash, %error, "not entered into the index");
                Ok(())
            }
        })
    }

    fn note_added(&self, meta: &ReplicaMeta) {
        if let Err(error) = self.with_index(|index| index.add(meta)) {
            missed(&meta.hash, &error);
        }
    }

    fn note_removed(&self, hash: &ContentHash, generation: Generation) {
        if let Err(error) = self.with_index(|index| index.remove(hash, generation)) {
            missed(hash, &error);
        }
    }

    /// The file of an index entry may be gone without a delete, as after a removal by hand. A delete command finds that.
    fn forget_absent(&self, entry: &ReplicaEntry) -> Result<(), VolumeError> {
        self.store.with_lock(&entry.hash, || {
            let known = self.with_index(|index| index.get(&entry.hash));
            if self.store.meta(&entry.hash)?.is_none() && matches!(known, Ok(Some(_))) {
                self.note_absent(entry);
            }
            Ok(())
        })
    }

    /// Journals under the hash's lock that there is no replica, whatever generation anyone believes in.
    fn note_absent(&self, entry: &ReplicaEntry) {
        let known = self
            .with_index(|index| index.get(&entry.hash))
            .ok()
            .flatten();
        let newest = known.map_or(entry.generation, |known| {
            known.generation.max(entry.generation)
        });
        self.note_removed(&entry.hash, newest);
    }
}

/// A change that the index does not know. There is a rebuild ahead wherever this can happen: the index was given up by the
/// call that failed, or is being replaced, and the walk over the new one has not begun.
fn missed(hash: &ContentHash, error: &VolumeError) {
    tracing::warn!(%hash, %error, "a change did not reach the index");
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{ContentHash, Sequence};
    use std::collections::BTreeMap;
    use std::thread;

    fn open(directory: &std::path::Path) -> Volume {
        let config = DatanodeConfig {
            headroom_bytes: 0,
            ..DatanodeConfig::new(directory, "127.0.0.1:0", "127.0.0.1:1")
        };
        let volume = Volume::open(&config).unwrap();
        volume.rebuild(&CancellationToken::new()).unwrap();
        volume
    }

    fn put(volume: &Volume, bytes: &[u8], generation: u64) -> ContentHash {
        let mut writer = volume.writer(0).unwrap();
        writer.write(bytes).unwrap();
        let prepared = writer.finish().unwrap();
        volume
            .publish(prepared, Generation(generation))
            .unwrap()
            .hash
    }

    fn delete(volume: &Volume, hash: ContentHash, generation: u64) {
        let generation = Generation(generation);
        volume.delete(&ReplicaEntry { hash, generation }).unwrap();
    }

    fn in_index(volume: &Volume) -> BTreeMap<ContentHash, Generation> {
        let entries = volume.with_index(|index| index.entries(None, ContentHash::MAX, 10_000));
        let entries = entries.unwrap().into_iter();
        entries
            .map(|entry| (entry.hash, entry.generation))
            .collect()
    }

    fn in_directory(volume: &Volume) -> BTreeMap<ContentHash, Generation> {
        let mut found = BTreeMap::new();
        let mut visit = |meta: ReplicaMeta| {
            found.insert(meta.hash, meta.generation);
            ControlFlow::Continue(())
        };
        volume.store.walk(&mut visit).unwrap();
        found
    }

    #[test]
    fn i09_changes_while_the_index_is_away_are_in_the_rebuilt_one() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        let journal = *volume.journal().borrow();
        let gone = put(&volume, b"gone", 1);
        volume.discard_index("the test says so");
        volume.close_index();
        assert!(!volume.is_indexed());
        let kept = put(&volume, b"kept", 2);
        delete(&volume, gone, 1);
        let end = volume.rebuild(&CancellationToken::new()).unwrap();
        assert_eq!(end, RebuildEnd::Complete { replicas: 1 });
        assert!(volume.is_indexed());
        assert_eq!(in_index(&volume), BTreeMap::from([(kept, Generation(2))]));
        assert_ne!(*volume.journal().borrow(), journal);
    }

    #[test]
    fn i09_a_rebuild_under_load_ends_with_what_the_directory_holds() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        thread::scope(|scope| {
            for lane in 0..4u64 {
                let volume = &volume;
                scope.spawn(move || {
                    for round in 1..=60u64 {
                        // Lanes share their files, so that they meet at the same hashes.
                        let hash = put(volume, &[(round % 7) as u8], round * 4 + lane);
                        if round % 3 == 0 {
                            delete(volume, hash, round * 4);
                        }
                    }
                });
            }
            for _ in 0..5 {
                volume.discard_index("the test says so");
                volume.rebuild(&CancellationToken::new()).unwrap();
            }
        });
        assert_eq!(in_index(&volume), in_directory(&volume));
    }

    #[test]
    fn a_clean_close_keeps_the_index_and_refuses_changes_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        let hash = put(&volume, b"kept", 2);
        let journal = *volume.journal().borrow();
        volume.close().unwrap();
        assert!(matches!(volume.writer(0), Err(VolumeError::Closing)));
        let stopping = CancellationToken::new();
        assert!(matches!(
            volume.rebuild(&stopping),
            Err(VolumeError::Closing)
        ));
        drop(volume);
        let config = DatanodeConfig::new(directory.path(), "127.0.0.1:0", "127.0.0.1:1");
        let volume = Volume::open(&config).unwrap();
        assert_eq!(*volume.journal().borrow(), journal);
        assert_eq!(in_index(&volume), BTreeMap::from([(hash, Generation(2))]));
        assert_eq!(volume.stats().used_bytes, 4);
    }

    #[test]
    fn i09_a_close_in_the_middle_of_a_rebuild_leaves_no_clean_mark() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        put(&volume, b"kept", 2);
        volume.discard_index("the test says so");
        let stopping = CancellationToken::new();
        stopping.cancel();
        assert_eq!(volume.rebuild(&stopping).unwrap(), RebuildEnd::Stopped);
        volume.close().unwrap();
        assert!(!directory.path().join("index.clean").exists());
    }

    #[test]
    fn i09_a_namenode_ahead_of_the_journal_gets_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let volume = open(directory.path());
        let hash = put(&volume, b"kept", 2);
        let journal = *volume.journal().borrow();
        let ahead = volume.with_index(|index| index.events(Sequence(99), 10));
        assert!(ahead.is_err() && !volume.is_indexed());
        volume.rebuild(&CancellationToken::new()).unwrap();
        assert_ne!(*volume.journal().borrow(), journal);
        assert_eq!(in_index(&volume), BTreeMap::from([(hash, Generation(2))]));
    }
}
