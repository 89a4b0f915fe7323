//! What can go wrong: opening a root, writing to it, reading from it.

use std::io;
use std::path::PathBuf;

use richardstore_proto::{ContentHash, ErrorCode, StoreError};
use rustix::io::Errno;

use crate::volume::Volume;

/// Why a root was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is locked: another process uses this directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory holds something, and it is not a store.
    #[error("{root} is not empty and has no format.json: it is not formatted as a store")]
    NotAStore {
        /// The directory.
        root: PathBuf,
    },
    /// It was formatted with another layout than the one asked for.
    #[error("{root} is formatted with {found}, not with {wanted}")]
    LayoutMismatch {
        /// The directory.
        root: PathBuf,
        /// What `format.json` says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// `format.json` cannot be understood.
    #[error("{path} cannot be understood: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Replicas carry their generation in an extended attribute, and this filesystem has none.
    #[error("{root} is on a filesystem without user extended attributes, which replicas need")]
    NoExtendedAttributes {
        /// The directory.
        root: PathBuf,
    },
    /// The filesystem refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a file was not written or not deleted.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, or would be fuller than the headroom allows.
    #[error("{root} has no room{}: {available} bytes available", wanted_words(*wanted))]
    StorageFull {
        /// The root.
        root: PathBuf,
        /// Bytes that were needed; 0 where the filesystem itself refused.
        wanted: u64,
        /// Bytes that may still be used.
        available: u64,
    },
    /// A sync failed at some time: what reached this disk is uncertain, and nothing more is written to it.
    #[error("{root} takes no more writes since a failure: {reason}")]
    VolumeFailed {
        /// The root.
        root: PathBuf,
        /// The failure.
        reason: String,
    },
    /// The filesystem refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The reader that the bytes come from failed.
    #[error("the source of the bytes failed: {0}")]
    Source(io::Error),
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no replica of it here.
    #[error("no replica of {hash} here")]
    NotFound {
        /// The file.
        hash: ContentHash,
    },
    /// The replica holds wrong bytes. None of them were handed out.
    #[error("the replica of {hash} is damaged at byte {offset} or behind it")]
    Corrupt {
        /// The file.
        hash: ContentHash,
        /// First byte of the part that did not verify; 0 where only the whole could be checked.
        offset: u64,
    },
    /// The range begins behind the end of the file.
    #[error("{hash} has {size} bytes, a range from {offset} is not in it")]
    RangeNotSatisfiable {
        /// The file.
        hash: ContentHash,
        /// Where the range begins.
        offset: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// The filesystem refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ReadError {
    /// Whether this is a fault of the replica or of the disk under it, which only another copy can make good.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            // The last two are how ext4 and XFS say that their own structures are damaged.
            Self::Io { source, .. } => matches!(
                Errno::from_io_error(source),
                Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG)
            ),
            Self::NotFound { .. } | Self::RangeNotSatisfiable { .. } => false,
        }
    }

    /// This error, met on the way to a change.
    pub(crate) fn into_write_error(self, volume: &Volume) -> WriteError {
        match self {
            Self::Io { path, source } => WriteError::Io { path, source },
            other => WriteError::Io {
                path: volume.root.clone(),
                source: io::Error::other(other),
            },
        }
    }
}

fn wanted_words(wanted: u64) -> String {
    match wanted {
        0 => String::new(),
        _ => format!(" for {wanted} bytes"),
    }
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        let code = match &error {
            WriteError::StorageFull { .. } => ErrorCode::StorageFull,
            WriteError::VolumeFailed { .. } => ErrorCode::Unavailable,
            WriteError::Io { .. } | WriteError::Source(_) => ErrorCode::Internal,
        };
        StoreError::new(code, error.to_string())
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::NotFound { .. } => ErrorCode::NotFound,
            ReadError::RangeNotSatisfiable { .. } => ErrorCode::RangeNotSatisfiable,
            ReadError::Corrupt { .. } => ErrorCode::Corrupt,
            // What the disk cannot read is as good as wrong: another replica is asked, and this one re-made.
            ReadError::Io { .. } if error.is_damage() => ErrorCode::Corrupt,
            ReadError::Io { .. } => ErrorCode::Internal,
        };
        StoreError::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i05_what_the_disk_cannot_read_is_damage_and_what_the_process_lacks_is_not() {
        let error = |errno: Errno| ReadError::Io {
            path: PathBuf::new(),
            source: errno.into(),
        };
        for damage in [Errno::IO, Errno::UCLEAN, Errno::BADMSG] {
            assert!(error(damage).is_damage());
            assert_eq!(StoreError::from(error(damage)).code, ErrorCode::Corrupt);
        }
        for lack in [Errno::MFILE, Errno::ACCESS, Errno::NOMEM] {
            assert!(!error(lack).is_damage());
            assert_eq!(StoreError::from(error(lack)).code, ErrorCode::Internal);
        }
    }
}
