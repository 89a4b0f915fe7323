//! [`IndexError`]: what can go wrong with the index. None of it ever fails a read of a replica, or a write that is durable
//! in the directory.

use std::io;
use std::path::PathBuf;

use richardstore_proto::{ErrorCode, Sequence, StoreError};

/// Why the index could not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The clean mark or the index directory could not be read, written, synced or removed.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database under the index returned an error.
    #[error("index database: {0}")]
    Database(String),
    /// The database under the index panicked, or did not come back in time.
    #[error("index database stopped working: {0}")]
    Stopped(String),
    /// A record is not what was written: rebuild.
    #[error("index record {key} is damaged: {reason}")]
    Damaged {
        /// Tree and key of the record.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An earlier call found one of the errors above. The index answers nothing any more and leaves no clean mark.
    #[error("the index is broken and waits for its rebuild: {0}")]
    Broken(String),
    /// The index was closed.
    #[error("the index is closed")]
    Closed,
    /// Events that were acknowledged and trimmed cannot be read again.
    #[error("the journal begins at {first}")]
    Trimmed {
        /// The oldest event that is still there, or the next one to come.
        first: Sequence,
    },
    /// Events were asked for that this journal has not reached: it was put back to an earlier state, so what it would
    /// write next would be taken for a repetition. Rebuild.
    #[error("the journal ends before {next}")]
    Ahead {
        /// The next event to come.
        next: Sequence,
    },
}

impl IndexError {
    /// Whether the index behind this error must be rebuilt before it can be used again.
    pub fn needs_rebuild(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::Database(_)
            | Self::Stopped(_)
            | Self::Damaged { .. }
            | Self::Broken(_)
            | Self::Ahead { .. } => true,
            Self::Closed | Self::Trimmed { .. } => false,
        }
    }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        let code = match error {
            IndexError::Closed | IndexError::Broken(_) => ErrorCode::Unavailable,
            IndexError::Trimmed { .. } | IndexError::Ahead { .. } => ErrorCode::Conflict,
            IndexError::Io { .. }
            | IndexError::Database(_)
            | IndexError::Stopped(_)
            | IndexError::Damaged { .. } => ErrorCode::Internal,
        };
        StoreError::new(code, error.to_string())
    }
}
