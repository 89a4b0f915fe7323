//! [`Store`]: one opened root. Everything on it is safe to call from any number of threads.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use richardstore_failpoint::failpoint;
use richardstore_proto::{ContentHash, Generation};

use crate::batch::Batches;
use crate::disk::{Disk, SystemDisk};
use crate::format::open_volume;
use crate::locks::HashLocks;
use crate::publish::Change;
use crate::replica::{OpenReplica, ReplicaMeta};
use crate::space::SpaceLedger;
use crate::suspects::Suspects;
use crate::volume::Volume;
use crate::{Layout, OpenError, ReadError, Space, WriteError};

/// Bytes read at once from the source of [`Store::put`].
const PUT_BYTES: usize = 256 << 10;

/// How to open a root.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The layout the root must have. `None`: the one it has, or the default where it is formatted now.
    pub layout: Option<Layout>,
    /// Bytes of the disk that new files leave free.
    pub headroom_bytes: u64,
    /// Bytes that replicas may take, whatever room the disk has. `None`: all of it, less the headroom.
    pub capacity_bytes: Option<u64>,
}

impl Default for StoreOptions {
    /// Any layout, and 256 MiB left free.
    fn default() -> Self {
        Self {
            layout: None,
            headroom_bytes: 256 << 20,
            capacity_bytes: None,
        }
    }
}

/// The content-addressed directory of one disk. Cheap to clone; the root is unlocked when the last clone and the last reader
/// and writer are dropped.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub volume: Arc<Volume>,
    pub locks: HashLocks,
    pub ledger: Arc<SpaceLedger>,
    pub suspects: Suspects,
    /// A batch is of groups, each with one submitter.
    pub batches: Batches<Vec<Change>, Vec<Result<(), WriteError>>>,
}

/// What became of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// This was there and is gone, durably.
    Deleted(ReplicaMeta),
    /// There was nothing.
    Absent,
    /// The replica is newer than the delete and stays; its generation.
    Newer(Generation),
}

impl Store {
    /// Opens `root`. An empty or missing directory is formatted; temp files of an earlier process are removed.
    ///
    /// # Errors
    /// [`OpenError`], which names the path: locked by another process, formatted otherwise, not a store, unfit.
    pub fn open(root: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, OpenError> {
        Self::open_on(root.as_ref(), options, Box::new(SystemDisk))
    }

    pub(crate) fn open_on(
        root: &Path,
        options: &StoreOptions,
        disk: Box<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let volume = Arc::new(open_volume(root, options.layout, disk)?);
        Ok(Self {
            inner: Arc::new(Inner {
                ledger: SpaceLedger::new(volume.clone(), options),
                locks: HashLocks::default(),
                suspects: Suspects::default(),
                batches: Batches::default(),
                volume,
            }),
        })
    }

    /// Writes all of `reader` as a file and returns what it is, when it is durable.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the file remains.
    pub fn put(
        &self,
        mut reader: impl Read,
        generation: Generation,
    ) -> Result<ReplicaMeta, WriteError> {
        let mut writer = self.writer(0)?;
        let mut buffer = vec![0u8; PUT_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return writer.finish()?.publish(generation, |_| {}),
                Ok(length) => writer.write(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(WriteError::Source(error)),
            }
        }
    }

    /// What is known of the replica of `hash`; `None` where there is none. A replica without a record, copied in by hand, is
    /// read once for it.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where the file is seen to be damaged without reading it, or was read and is.
    pub fn meta(&self, hash: &ContentHash) -> Result<Option<ReplicaMeta>, ReadError> {
        match OpenReplica::open(&self.inner.volume, hash)? {
            Some(replica) => self.inner.meta_of(&replica).map(Some),
            None => Ok(None),
        }
    }

    /// Deletes the replica of `hash` unless it is newer than `up_to` (I4), and runs `then` when it is durably gone and before
    /// anyone can publish the hash again. Readers that have it open go on.
    ///
    /// # Errors
    /// [`WriteError`]: whether it is gone is then not known.
    pub fn delete(
        &self,
        hash: &ContentHash,
        up_to: Generation,
        then: impl FnOnce(&ReplicaMeta),
    ) -> Result<DeleteOutcome, WriteError> {
        let volume = &self.inner.volume;
        volume.check_writable()?;
        let _guard = self.inner.locks.lock(hash);
        let replica =
            OpenReplica::open(volume, hash).map_err(|error| error.into_write_error(volume))?;
        let Some(replica) = replica else {
            return Ok(DeleteOutcome::Absent);
        };
        if replica.generation() > up_to {
            return Ok(DeleteOutcome::Newer(replica.generation()));
        }
        let meta = meta_to_delete(&replica).map_err(|error| error.into_write_error(volume))?;
        // First the sidecar: a crash between the two must not leave one that nobody would remove.
        volume.remove_sidecar(hash);
        self.inner.change_durably(Change::Remove {
            path: replica.path.clone(),
        })?;
        failpoint("store-removed");
        self.inner.ledger.replaced(meta.size, 0);
        self.inner.suspects.forget(hash);
        then(&meta);
        Ok(DeleteOutcome::Deleted(meta))
    }

    /// Runs `f` while nobody publishes or deletes `hash`. `f` must not publish or delete it either: the lock is not
    /// reentrant.
    pub fn with_lock<T>(&self, hash: &ContentHash, f: impl FnOnce() -> T) -> T {
        let _guard = self.inner.locks.lock(hash);
        f()
    }

    /// How full the disk is, in bytes. All 0 where the filesystem does not say.
    pub fn space(&self) -> Space {
        self.inner.ledger.space()
    }

    /// Sets the bytes in replicas, where the caller knows them from an index.
    pub fn set_used(&self, bytes: u64) {
        self.inner.ledger.set_used(bytes);
    }

    /// Makes everything on the filesystem of the root durable.
    ///
    /// # Errors
    /// The filesystem's; the volume has then failed.
    pub fn sync_all(&self) -> io::Result<()> {
        let volume = &self.inner.volume;
        let synced = volume.disk.sync_filesystem(volume.handle());
        if let Err(error) = &synced {
            volume.fail(format!("sync of {}: {error}", volume.root.display()));
        }
        synced
    }

    /// Takes no more writes from now on, as after a failed sync: for a caller who saw for itself that the disk is not to be
    /// trusted.
    pub fn fail(&self, why: &str) {
        self.inner.volume.fail(why.to_owned());
    }

    /// Why this store takes no more writes, once a sync has failed. It stays so until the root is opened anew.
    pub fn failed(&self) -> Option<String> {
        self.inner.volume.failure().map(str::to_owned)
    }

    /// Replicas that were seen to be damaged since the root was opened, and neither replaced nor read whole and found right
    /// since then. At most 4096; others are seen again when they are read.
    pub fn suspects(&self) -> Vec<ContentHash> {
        self.inner.suspects.list()
    }

    /// The layout of the root.
    pub fn layout(&self) -> Layout {
        self.inner.volume.layout
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.inner.volume.root
    }
}

/// Damage does not keep a replica from being deleted, so this looks at no more than it must: without a record, the bytes
/// are hashed for their root, whatever they are.
fn meta_to_delete(replica: &OpenReplica) -> Result<ReplicaMeta, ReadError> {
    let blake3_root = match replica.record {
        Some(record) => record.blake3_root,
        None => replica.actual_root()?,
    };
    Ok(ReplicaMeta {
        hash: replica.hash,
        size: replica.counted_size(),
        blake3_root,
        generation: replica.generation(),
    })
}
