//! [`Volume`]: the replicas of one disk and the index over them, which change together.
//!
//! Every change of the directory is entered into the index under the hash's lock, in the order in which the directory
//! changed. The index never stands in the way (I9): where it fails, replicas are published, read and deleted all the
//! same, and the rebuild, which walks the directory, finds what the index missed.
//!
//! Lock order: the gate, then a hash's lock (inside the store), then the index slot. Never the other way round.

mod error;
mod index_slot;
mod rebuild;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use richardstore_failpoint::failpoint;
use richardstore_proto::{ContentHash, Generation, JournalId, NodeStats, ReplicaEntry};
use richardstore_runtime::SharedEntropy;
use richardstore_store::{
    DeleteOutcome, PreparedReplica, Publication, QuarantineOutcome, ReplicaMeta, ReplicaWriter,
    Store, StoreOptions, VerifiedReader, Verifier,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::DatanodeConfig;
use crate::index::{Index, IndexError};
pub use error::VolumeError;
use index_slot::IndexSlot;
pub(crate) use rebuild::RebuildEnd;

/// Replicas and index of one datanode. All methods block, but for those that say otherwise.
pub(crate) struct Volume {
    store: Store,
    slot: IndexSlot,
    /// True while the volume is open. Held for reading throughout each change, so that closing waits for all of them:
    /// a change after the clean mark would make it a lie.
    gate: RwLock<bool>,
    changed: Notify,
}

impl Volume {
    /// Opens, and formats where there is nothing yet, the replicas and the index in `config.dir`.
    pub(crate) fn open(
        config: &DatanodeConfig,
        entropy: SharedEntropy,
    ) -> Result<Self, VolumeError> {
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
                capacity_bytes: config.capacity_bytes,
            },
        )?;
        let volume = Self {
            store,
            slot: IndexSlot::new(config, entropy),
            gate: RwLock::new(true),
            changed: Notify::new(),
        };
        match volume.slot.open()? {
            Some(_) => volume.slot.want_rebuild(),
            // A rebuild counts the bytes itself, by its walk.
            None => volume
                .store
                .set_used(volume.with_index(|index| Ok(index.bytes()))?),
        }
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

    /// Reads a replica whole, in steps, for a verdict on it.
    pub(crate) fn verifier(&self, hash: &ContentHash) -> Verifier {
        self.store.verifier(hash)
    }

    /// Remembers that a replica was read whole and is right.
    pub(crate) fn mark_verified(&self, hash: &ContentHash, at_ms: u64) -> Result<(), VolumeError> {
        let _open = self.enter()?;
        self.with_index(|index| index.mark_verified(hash, at_ms))
    }

    /// Whether the index has a replica of `hash`.
    pub(crate) fn knows(&self, hash: &ContentHash) -> Result<bool, VolumeError> {
        Ok(self.with_index(|index| index.get(hash))?.is_some())
    }

    /// Publishes durably and enters it into the index.
    pub(crate) fn publish(
        &self,
        replica: PreparedReplica,
        generation: Generation,
    ) -> Result<ReplicaMeta, VolumeError> {
        let _open = self.enter()?;
        let meta = replica.publish(generation, |meta| self.note_added(meta))?;
        failpoint("datanode-indexed");
        self.changed.notify_one();
        Ok(meta)
    }

    /// The same for several, which share the syncs.
    pub(crate) fn publish_all(
        &self,
        replicas: Vec<(PreparedReplica, Generation)>,
    ) -> Result<Vec<Publication>, VolumeError> {
        let _open = self.enter()?;
        let mut added = false;
        let published = self.store.publish_all(replicas, |meta| {
            self.note_added(meta);
            added = true;
        });
        if added {
            failpoint("datanode-indexed");
            self.changed.notify_one();
        }
        Ok(published)
    }

    /// Hands every replica in the directory to `visit`, until it breaks off. Those that cannot be read are left out.
    pub(crate) fn walk(
        &self,
        visit: &mut dyn FnMut(ReplicaMeta) -> ControlFlow<()>,
    ) -> Result<(), VolumeError> {
        self.store.walk(visit)?;
        Ok(())
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

    /// Reads the replica whole and puts it aside where it is really bad and not newer than `entry` says. One that is
    /// sound after all is journaled again: the namenode was told otherwise.
    pub(crate) fn quarantine(
        &self,
        entry: &ReplicaEntry,
        stopping: &CancellationToken,
    ) -> Result<QuarantineOutcome, VolumeError> {
        let _open = self.enter()?;
        let go_on = || !stopping.is_cancelled();
        let outcome = self
            .store
            .quarantine(&entry.hash, entry.generation, &go_on, || {
                // Its record may be what is damaged: the index knows which generation it had.
                self.note_absent(entry);
            })?;
        match outcome {
            QuarantineOutcome::Absent => self.forget_absent(entry)?,
            QuarantineOutcome::Sound(_) => self.reconcile_open(entry)?,
            QuarantineOutcome::Quarantined { .. }
            | QuarantineOutcome::Newer(_)
            | QuarantineOutcome::Interrupted => {}
        }
        self.changed.notify_one();
        Ok(outcome)
    }

    /// Looks at the directory and journals what it holds of `entry.hash`, because the namenode believes otherwise.
    /// Of a replica that is there and cannot be read nothing is journaled: it is neither held nor gone.
    pub(crate) fn reconcile(&self, entry: &ReplicaEntry) -> Result<(), VolumeError> {
        let _open = self.enter()?;
        self.reconcile_open(entry)?;
        self.changed.notify_one();
        Ok(())
    }

    fn reconcile_open(&self, entry: &ReplicaEntry) -> Result<(), VolumeError> {
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
            Ok(())
        })
    }

    /// Asks the index. Its failures are taken note of here: the caller only goes without the answer.
    pub(crate) fn with_index<T>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, IndexError>,
    ) -> Result<T, VolumeError> {
        self.slot.ask(ask)
    }

    /// The index cannot be used any more: it is put up anew, in the background.
    pub(crate) fn discard_index(&self, reason: &str) {
        self.slot.give_up(reason);
    }

    /// Whether the index says what the directory holds.
    pub(crate) fn is_indexed(&self) -> bool {
        self.with_index(|index| Ok(index.is_complete() && index.broken().is_none()))
            .unwrap_or(false)
    }

    /// Replicas that were seen to be damaged and are still in their places. Does not block.
    pub(crate) fn suspects(&self) -> Vec<ContentHash> {
        self.store.suspects()
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
            volume_failed: self.store.failed().is_some(),
        }
    }

    /// Waits until the index must be rebuilt. Does not block.
    pub(crate) async fn rebuild_wanted(&self) {
        self.slot.rebuild_wanted().await;
    }

    /// Waits until the journal has grown. Does not block.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The journal in use, and a way to wait for another one. Does not block.
    pub(crate) fn journal(&self) -> watch::Receiver<Option<JournalId>> {
        self.slot.journal()
    }

    /// Ends all changes, and marks the index as clean where it is.
    pub(crate) fn close(&self) -> Result<(), VolumeError> {
        let mut open = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *open, false) {
            return Ok(());
        }
        match self.slot.take_sound() {
            Some(index) => Ok(index.close(|| self.sync_for_mark())?),
            // Without the mark the next start rebuilds.
            None => Ok(()),
        }
    }

    /// A rename or unlink whose sync failed is in the directory and not in the index, and a later sync may well succeed:
    /// the kernel reports a lost write once. A mark would make that difference last.
    fn sync_for_mark(&self) -> io::Result<()> {
        match self.store.failed() {
            Some(why) => Err(io::Error::other(why)),
            None => self.store.sync_all(),
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

/// A durable change that the index does not know. There is a rebuild ahead wherever this can happen: the index was given up
/// by the call that failed, or is being replaced, and the walk over the new one has not begun. Changes that never come here,
/// because their sync failed, are found by the rebuild of the next start: a failed volume leaves no clean mark.
fn missed(hash: &ContentHash, error: &VolumeError) {
    tracing::warn!(%hash, %error, "a change did not reach the index");
}
