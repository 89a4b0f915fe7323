//! [`PreparedReplica`]: a complete file that has no name yet, and how it gets one, alone or together with others.
//!
//! Who publishes several holds the locks of all of them while it waits for the shared syncs. It waits for none of these locks: a file
//! whose hash somebody else holds is handed back. And whoever carries out the syncs takes no lock of a hash.

use std::collections::HashMap;
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

/// What became of one of several.
pub enum Publication {
    /// It was published, or not, as if alone.
    Ended(Result<ReplicaMeta, WriteError>),
    /// Somebody holds its hash, for as long as reading a file on a bad disk may take: to be published by itself.
    Busy(Box<(PreparedReplica, Generation)>),
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
        inner.volume.check_writable()?;
        let guard = inner.locks.lock(&self.digest.hash);
        let (publishing, change) = self.begin(&inner, guard, generation)?;
        inner.change_durably(change)?;
        Ok(publishing.end(&inner, then))
    }

    /// Begins unless somebody else holds the hash.
    fn try_begin(
        self,
        inner: &Inner,
        generation: Generation,
    ) -> Result<(Publishing<'_>, Change), Publication> {
        let failed = |error| Publication::Ended(Err(error));
        inner.volume.check_writable().map_err(failed)?;
        match inner.locks.try_lock(&self.digest.hash) {
            Some(guard) => self.begin(inner, guard, generation).map_err(failed),
            None => Err(Publication::Busy(Box::new((self, generation)))),
        }
    }

    /// Says what has to change on the disk. `guard` is of its hash.
    fn begin<'a>(
        self,
        inner: &'a Inner,
        guard: HashGuard<'a>,
        generation: Generation,
    ) -> Result<(Publishing<'a>, Change), WriteError> {
        let volume = &inner.volume;
        let digest = self.digest;
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
    /// Publishes each of `replicas`, which are of this store, as [`PreparedReplica::publish`] does, with the syncs of one. What becomes of them
    /// has their order. Of those with one hash, one is published, with the highest of their generations.
    pub fn publish_all(
        &self,
        replicas: Vec<(PreparedReplica, Generation)>,
        mut then: impl FnMut(&ReplicaMeta),
    ) -> Vec<Publication> {
        let inner = &self.inner;
        let mut highest: HashMap<ContentHash, Generation> = HashMap::new();
        for (replica, generation) in &replicas {
            let known = highest.entry(replica.hash()).or_insert(*generation);
            *known = (*known).max(*generation);
        }
        let (mut begun, mut changes) = (Vec::new(), Vec::new());
        for (replica, generation) in replicas {
            let hash = replica.hash();
            begun.push(match highest.remove(&hash) {
                Some(generation) => match replica.try_begin(inner, generation) {
                    Ok((publishing, change)) => {
                        changes.push(change);
                        Step::Publishing(publishing)
                    }
                    Err(publication) => Step::Ended(publication),
                },
                None => Step::Like(hash, replica, generation),
            });
        }
        let mut changed = inner.change_all_durably(changes).into_iter();
        let mut published = HashMap::new();
        begun
            .into_iter()
            .map(|step| match step {
                Step::Ended(publication) => publication,
                Step::Publishing(publishing) => {
                    let changed = changed
                        .next()
                        .unwrap_or_else(|| Err(inner.lost_publisher()));
                    let ended = changed.map(|()| publishing.end(inner, &mut then));
                    if let Ok(meta) = &ended {
                        published.insert(meta.hash, *meta);
                    }
                    Publication::Ended(ended)
                }
                Step::Like(hash, replica, generation) => match published.get(&hash) {
                    Some(meta) => Publication::Ended(Ok(*meta)),
                    None => Publication::Busy(Box::new((replica, generation))),
                },
            })
            .collect()
    }
}

/// Where one of several stands before the syncs.
enum Step<'a> {
    Ended(Publication),
    Publishing(Publishing<'a>),
    /// One before it has the same hash.
    Like(ContentHash, PreparedReplica, Generation),
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
