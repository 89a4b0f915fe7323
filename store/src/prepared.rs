//! [`PreparedReplica`]: a complete file that has no name yet, and how it gets one, alone or together with others.
//!
//! A thread may hold the locks of many hashes while it waits for the shared syncs: it takes them in the order of the hashes, so no two wait
//! for each other, and whoever carries out the syncs takes no lock of a hash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use richardstore_failpoint::failpoint;
use richardstore_proto::{Blake3Root, ContentHash, Generation};

use crate::hasher::ContentDigest;
use crate::locks::HashGuard;
use crate::publish::{Change, apply_durably};
use crate::quarantine::free_path;
use crate::replica::{OpenReplica, ReplicaMeta};
use crate::sidecar::SealedLeaves;
use crate::space::Reservation;
use crate::store::Inner;
use crate::temp::TempFile;
use crate::{ReadError, Store, WriteError};

/// A complete file that has no name yet. Dropped, nothing of it remains.
pub struct PreparedReplica {
    inner: Arc<Inner>,
    temp: TempFile,
    reservation: Reservation,
    digest: ContentDigest,
    leaves: Option<SealedLeaves>,
}

/// One that holds the lock of its hash and waits for the syncs.
struct Publishing<'a> {
    meta: ReplicaMeta,
    size_before: u64,
    reservation: Reservation,
    leaves: Option<SealedLeaves>,
    _guard: HashGuard<'a>,
}

impl PreparedReplica {
    pub(crate) fn new(
        inner: Arc<Inner>,
        temp: TempFile,
        reservation: Reservation,
        digest: ContentDigest,
        leaves: Option<SealedLeaves>,
    ) -> Self {
        Self {
            inner,
            temp,
            reservation,
            digest,
            leaves,
        }
    }

    /// SHA-256 of the bytes.
    pub fn hash(&self) -> ContentHash {
        self.digest.hash
    }

    /// BLAKE3 of the bytes.
    pub fn blake3_root(&self) -> Blake3Root {
        self.digest.blake3_root
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.digest.size
    }

    /// Gives the file its name, durably, and runs `then` before anyone else can publish or delete this hash. Where the
    /// hash is present already, these bytes, which are known to be right, take its place, and the higher generation of
    /// the two stays. A replica that is known to be damaged is kept in quarantine then.
    ///
    /// # Errors
    /// [`WriteError`]. The file is then absent or, after [`WriteError::VolumeFailed`], possibly there and whole.
    pub fn publish(
        self,
        generation: Generation,
        then: impl FnOnce(&ReplicaMeta),
    ) -> Result<ReplicaMeta, WriteError> {
        let inner = self.inner.clone();
        let (publishing, change) = self.begin(&inner, generation)?;
        inner.change_durably(change)?;
        Ok(publishing.end(&inner, then))
    }

    /// Takes the lock of the hash, and says what has to change on the disk.
    fn begin(
        self,
        inner: &Inner,
        generation: Generation,
    ) -> Result<(Publishing<'_>, Change), WriteError> {
        let volume = &inner.volume;
        volume.check_writable()?;
        let digest = self.digest;
        let guard = inner.locks.lock(&digest.hash);
        let opened = OpenReplica::open(volume, &digest.hash);
        let keep = inner.damaged_to_keep(&digest.hash, &opened);
        // One that cannot be opened has no generation to keep.
        let replaced = opened.ok().flatten();
        let meta = ReplicaMeta {
            hash: digest.hash,
            size: digest.size,
            blake3_root: digest.blake3_root,
            generation: replaced
                .as_ref()
                .map_or(generation, |old| old.generation().max(generation)),
        };
        let temp = self.temp;
        volume
            .disk
            .set_record(temp.file(), &meta.record().encode(&meta.hash))
            .map_err(|source| volume.write_failed(temp.path(), source))?;
        let publishing = Publishing {
            meta,
            size_before: replaced.map_or(0, |old| old.counted_size()),
            reservation: self.reservation,
            leaves: self.leaves,
            _guard: guard,
        };
        let change = Change::Publish {
            temp,
            target: volume.replica_path(&meta.hash),
            keep,
        };
        Ok((publishing, change))
    }
}

impl Publishing<'_> {
    /// The name is durable.
    fn end(self, inner: &Inner, then: impl FnOnce(&ReplicaMeta)) -> ReplicaMeta {
        let Self {
            meta,
            size_before,
            reservation,
            leaves,
            _guard,
        } = self;
        failpoint("store-published");
        inner.suspects.forget(&meta.hash);
        inner.ledger.replaced(size_before, meta.size);
        drop(reservation);
        // After the file and not before: a crash between the two leaves a file without a sidecar, which heals itself,
        // and never a sidecar without a file, which nobody would remove.
        if let Some(mut leaves) = leaves {
            leaves.keep(&inner.volume.sidecar_path(&meta.hash));
        }
        then(&meta);
        meta
    }
}

impl Store {
    /// Publishes each of `replicas`, which are of this store, as [`PreparedReplica::publish`] does, with the syncs of one. The results have the
    /// order of the replicas.
    pub fn publish_all(
        &self,
        replicas: Vec<(PreparedReplica, Generation)>,
        mut then: impl FnMut(&ReplicaMeta),
    ) -> Vec<Result<ReplicaMeta, WriteError>> {
        let count = replicas.len();
        let mut results = BTreeMap::new();
        let mut left: Vec<_> = replicas.into_iter().enumerate().collect();
        // Stable, so that of equal hashes the first comes first.
        left.sort_by_key(|(_, (replica, _))| replica.hash());
        while !left.is_empty() {
            // A lock is held once, so what comes twice is published one after the other.
            let mut before = None;
            let (now, later) = left.into_iter().partition(|(_, (replica, _))| {
                before.replace(replica.hash()) != Some(replica.hash())
            });
            left = later;
            results.extend(self.publish_different(now, &mut then));
        }
        debug_assert_eq!(results.len(), count);
        results.into_values().collect()
    }

    /// Publishes replicas of different hashes, in the order of these, each with its place in the results.
    fn publish_different(
        &self,
        replicas: Vec<(usize, (PreparedReplica, Generation))>,
        then: &mut impl FnMut(&ReplicaMeta),
    ) -> Vec<(usize, Result<ReplicaMeta, WriteError>)> {
        let inner = &self.inner;
        let (mut results, mut waiting, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (replica, generation)) in replicas {
            match replica.begin(inner, generation) {
                Ok((publishing, change)) => {
                    waiting.push((place, publishing));
                    changes.push(change);
                }
                Err(error) => results.push((place, Err(error))),
            }
        }
        let changed = inner.change_all_durably(changes);
        let ended = waiting.into_iter().zip(changed);
        results.extend(ended.map(|((place, publishing), changed)| {
            (place, changed.map(|()| publishing.end(inner, &mut *then)))
        }));
        results
    }
}

impl Inner {
    /// Where to keep the replica of `hash` that is about to be replaced: nowhere, unless it is known to be damaged.
    fn damaged_to_keep(
        &self,
        hash: &ContentHash,
        opened: &Result<Option<OpenReplica>, ReadError>,
    ) -> Option<PathBuf> {
        let (damaged, generation) = match opened {
            Ok(None) => return None,
            Ok(Some(old)) => {
                let damaged = old.recorded_meta().is_err() || self.suspects.contains(hash);
                (damaged, old.generation())
            }
            Err(error) => (error.is_damage(), Generation(0)),
        };
        if !damaged {
            return None;
        }
        let path = free_path(&self.volume, hash, generation);
        // Not worth refusing the right bytes for.
        path.inspect_err(|error| tracing::warn!(%hash, %error, "a damaged replica is not kept"))
            .ok()
    }

    /// Has `change` made durable, together with what others are changing now.
    pub(crate) fn change_durably(&self, change: Change) -> Result<(), WriteError> {
        self.change_all_durably(vec![change])
            .pop()
            .unwrap_or_else(|| Err(self.lost_publisher()))
    }

    /// The same for several. They have a result each, in their order.
    fn change_all_durably(&self, changes: Vec<Change>) -> Vec<Result<(), WriteError>> {
        let count = changes.len();
        if count == 0 {
            return Vec::new();
        }
        self.batches
            .submit(changes, |groups| {
                let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
                let changes = groups.into_iter().flatten().collect();
                let mut results = apply_durably(&self.volume, changes).into_iter();
                let of_group = |size| results.by_ref().take(size).collect();
                sizes.into_iter().map(of_group).collect()
            })
            .unwrap_or_else(|_| {
                std::iter::repeat_with(|| Err(self.lost_publisher()))
                    .take(count)
                    .collect()
            })
    }

    fn lost_publisher(&self) -> WriteError {
        self.volume.fail("a publishing thread panicked".to_owned())
    }
}
