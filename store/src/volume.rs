//! [`Volume`]: an opened root: its paths, its lock, and whether its disk can still be trusted.
//!
//! A failed sync fails the volume for the life of this process: the kernel may have dropped the data and would call the next
//! sync a success, so nothing is retried, and no later write is acknowledged. Reads go on, every byte being verified.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use richardstore_proto::ContentHash;
use rustix::io::Errno;

use crate::disk::Disk;
use crate::{Layout, WriteError};

/// Files being written. All of them are removed when the root is opened. The name is no hex, like those of all entries
/// of a root that are not hash directories.
pub(crate) const TEMP_DIRECTORY: &str = "temp";
/// Leaves of files with more than one group; can be lost at any time.
pub(crate) const TREES_DIRECTORY: &str = "trees";
/// Damaged replicas, kept for the operator. Nothing of ours reads or removes them.
pub(crate) const QUARANTINE_DIRECTORY: &str = "quarantine";

pub(crate) struct Volume {
    pub root: PathBuf,
    pub layout: Layout,
    pub disk: Box<dyn Disk>,
    /// The root directory, opened once: the kernel reports a failed write-back to those who had the filesystem open
    /// when it happened.
    handle: File,
    /// Holds the advisory lock as long as it is open.
    _lock: File,
    failed: OnceLock<String>,
    next_temp: AtomicU64,
    refuses_direct: AtomicBool,
}

impl Volume {
    pub(crate) fn new(
        root: PathBuf,
        layout: Layout,
        disk: Box<dyn Disk>,
        handle: File,
        lock: File,
    ) -> Self {
        Self {
            root,
            layout,
            disk,
            handle,
            _lock: lock,
            failed: OnceLock::new(),
            next_temp: AtomicU64::new(0),
            refuses_direct: AtomicBool::new(false),
        }
    }

    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    pub(crate) fn replica_path(&self, hash: &ContentHash) -> PathBuf {
        self.root.join(self.layout.relative_path(hash))
    }

    pub(crate) fn sidecar_path(&self, hash: &ContentHash) -> PathBuf {
        let digits = hash.to_hex();
        self.root
            .join(TREES_DIRECTORY)
            .join(&digits[..2])
            .join(digits)
    }

    pub(crate) fn quarantine_path(&self) -> PathBuf {
        self.root.join(QUARANTINE_DIRECTORY)
    }

    /// Before the name of its file goes. One that stays behind is only a waste: whatever is read is checked.
    pub(crate) fn remove_sidecar(&self, hash: &ContentHash) {
        if let Err(error) = std::fs::remove_file(self.sidecar_path(hash))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%hash, %error, "sidecar left behind");
        }
    }

    /// A name in the temp directory that no other file of this process has had; older ones were swept.
    pub(crate) fn next_temp_path(&self) -> PathBuf {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        self.root.join(TEMP_DIRECTORY).join(number.to_string())
    }

    /// Why nothing is written any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// # Errors
    /// [`WriteError::VolumeFailed`] once the volume has failed.
    pub(crate) fn check_writable(&self) -> Result<(), WriteError> {
        match self.failure() {
            None => Ok(()),
            Some(reason) => Err(WriteError::VolumeFailed {
                root: self.root.clone(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// Ends writing for good.
    pub(crate) fn fail(&self, reason: String) -> WriteError {
        if self.failed.set(reason.clone()).is_ok() {
            tracing::error!(root = %self.root.display(), reason, "volume failed, it takes no more writes");
        }
        WriteError::VolumeFailed {
            root: self.root.clone(),
            reason,
        }
    }

    /// The error of a changing call that is not a sync. A disk that cannot be written to fails the volume.
    pub(crate) fn write_failed(&self, path: &Path, source: io::Error) -> WriteError {
        if is_full(&source) {
            return self.full(0);
        }
        match Errno::from_io_error(&source) {
            Some(Errno::IO | Errno::ROFS) => self.fail(format!("{}: {source}", path.display())),
            _ => WriteError::Io {
                path: path.to_owned(),
                source,
            },
        }
    }

    /// Whether long files may go past the page cache.
    pub(crate) fn takes_direct(&self) -> bool {
        !self.refuses_direct.load(Ordering::Relaxed)
    }

    /// The error of a direct write. A filesystem may open a file for it and then not take it: that file is lost, and none is
    /// written so any more.
    pub(crate) fn direct_failed(&self, path: &Path, source: io::Error) -> WriteError {
        if Errno::from_io_error(&source) == Some(Errno::INVAL) {
            tracing::warn!(root = %self.root.display(), "the filesystem takes no direct writes");
            self.refuses_direct.store(true, Ordering::Relaxed);
        }
        self.write_failed(path, source)
    }

    /// The error of a sync. Only "no space" leaves the volume usable: the file that was being synced is dropped and never
    /// synced again.
    pub(crate) fn sync_failed(&self, path: &Path, source: &io::Error) -> WriteError {
        if is_full(source) {
            return self.full(0);
        }
        self.fail(format!("sync of {}: {source}", path.display()))
    }

    /// The error of a disk without room for `wanted` bytes; 0 is not known.
    pub(crate) fn full(&self, wanted: u64) -> WriteError {
        let available = self
            .disk
            .space(&self.handle)
            .map_or(0, |space| space.available);
        WriteError::StorageFull {
            root: self.root.clone(),
            wanted,
            available,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT)
    )
}
