//! [`ReplicaMeta`]: what is known of a replica, and [`OpenReplica`]: the opened file it is known from, which stays the same
//! file when the name is deleted or replaced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use richardstore_proto::{Blake3Root, ContentHash, Generation};
use rustix::fs::{Mode, OFlags};

use crate::ReadError;
use crate::hasher::{ContentDigest, ContentHasher};
use crate::record::{RECORD_BYTES, RECORD_NAME, ReplicaRecord};
use crate::volume::Volume;

/// Bytes read at once in a pass over a whole file.
const PASS_BYTES: usize = 256 << 10;

/// A replica as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaMeta {
    /// SHA-256 of the bytes: the file's name.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// What the bytes are verified by.
    pub blake3_root: Blake3Root,
    /// The newest write of it; 0 for a replica that did not come through this store, such as one copied in by hand.
    pub generation: Generation,
}

pub(crate) struct OpenReplica {
    pub hash: ContentHash,
    pub path: PathBuf,
    pub file: File,
    /// Bytes that the file has now.
    pub size: u64,
    /// `None` where there is none, or none that can be trusted.
    pub record: Option<ReplicaRecord>,
}

impl OpenReplica {
    /// Opens the replica of `hash`. `None` where nothing, or something that is no regular file, has its name.
    pub(crate) fn open(volume: &Volume, hash: &ContentHash) -> Result<Option<Self>, ReadError> {
        let path = volume.replica_path(hash);
        let failed = |source: io::Error| ReadError::Io {
            path: path.clone(),
            source,
        };
        // NONBLOCK: opening a stray FIFO must not hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error.into())),
        };
        let stat = file.metadata().map_err(failed)?;
        if !stat.is_file() {
            return Ok(None);
        }
        let mut bytes = [0u8; RECORD_BYTES];
        let record = match rustix::fs::fgetxattr(&file, RECORD_NAME, &mut bytes) {
            Ok(length) => ReplicaRecord::decode(hash, bytes.get(..length).unwrap_or_default()),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::RANGE) => None,
            Err(error) => return Err(failed(error.into())),
        };
        Ok(Some(Self {
            hash: *hash,
            path,
            file,
            size: stat.len(),
            record,
        }))
    }

    /// What the record says. `None` without a record.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where the file has not the size that was written.
    pub(crate) fn recorded_meta(&self) -> Result<Option<ReplicaMeta>, ReadError> {
        let Some(record) = self.record else {
            return Ok(None);
        };
        if record.size != self.size {
            return Err(self.corrupt(record.size.min(self.size)));
        }
        Ok(Some(ReplicaMeta {
            hash: self.hash,
            size: record.size,
            blake3_root: record.blake3_root,
            generation: record.generation,
        }))
    }

    /// The generation to compare others with.
    pub(crate) fn generation(&self) -> Generation {
        self.record
            .map_or(Generation(0), |record| record.generation)
    }

    /// The bytes that were counted as used when the file was written, which damage does not change.
    pub(crate) fn counted_size(&self) -> u64 {
        self.record.map_or(self.size, |record| record.size)
    }

    /// Reads all of the file. `leaves` gets the leaves on the way, so that memory stays flat.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where the bytes do not have the hash of the name.
    pub(crate) fn pass(
        &self,
        leaves: &mut dyn FnMut(Vec<[u8; 32]>),
    ) -> Result<ContentDigest, ReadError> {
        let digest = self.digest(leaves)?;
        if digest.hash != self.hash {
            return Err(self.corrupt(0));
        }
        Ok(digest)
    }

    fn digest(&self, leaves: &mut dyn FnMut(Vec<[u8; 32]>)) -> Result<ContentDigest, ReadError> {
        let mut hasher = ContentHasher::new();
        let mut buffer = vec![0u8; PASS_BYTES];
        let mut offset = 0u64;
        loop {
            let read = match self.file.read_at(&mut buffer, offset) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.io(source)),
            };
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            leaves(hasher.take_leaves());
            offset += read as u64;
        }
        Ok(hasher.finish())
    }

    /// The BLAKE3 root of the bytes that are there, right or wrong.
    pub(crate) fn actual_root(&self) -> Result<Blake3Root, ReadError> {
        let digest = self.digest(&mut |_| {})?;
        Ok(digest.blake3_root)
    }

    pub(crate) fn corrupt(&self, offset: u64) -> ReadError {
        ReadError::Corrupt {
            hash: self.hash,
            offset,
        }
    }

    pub(crate) fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl ReplicaMeta {
    /// The meta of a replica without a record, from a pass over its bytes.
    pub(crate) fn without_record(digest: &ContentDigest) -> Self {
        Self {
            hash: digest.hash,
            size: digest.size,
            blake3_root: digest.blake3_root,
            generation: Generation(0),
        }
    }

    /// The record to keep with the file.
    pub(crate) fn record(&self) -> ReplicaRecord {
        ReplicaRecord {
            generation: self.generation,
            size: self.size,
            blake3_root: self.blake3_root,
        }
    }
}
