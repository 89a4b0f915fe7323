//! [`VolumeError`]: why a volume did not do what was asked.

use std::io;
use std::path::PathBuf;

use richardstore_proto::{ErrorCode, StoreError};
use richardstore_store::{OpenError, ReadError, WriteError};

use crate::index::IndexError;

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

impl VolumeError {
    /// Whether this is a fault of a replica or of the disk under it.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_damage())
    }
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
