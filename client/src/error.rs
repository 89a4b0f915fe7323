//! [`ClientError`]: why an operation on the cluster failed, naming the file, the node and the step.

use richardstore_proto::{ContentHash, ErrorCode, StoreError, WireError};

/// Why the bytes of an upload stopped coming. Passed through to the caller of the upload as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What kind of failure: a disconnected client, a body over its limit, a sender that was too slow.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The source of an upload failed; nothing was stored.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The namenode refused, or could not be reached.
    #[error("namenode {address}, {operation}: {answer}")]
    Namenode {
        /// `host:port`.
        address: String,
        /// The call.
        operation: &'static str,
        /// What it said. Part of the words above, and so not a source of its own.
        answer: StoreError,
    },
    /// A peer answered with a message that makes no sense.
    #[error("{peer} answered {operation} with a malformed message: {problem}")]
    Malformed {
        /// Name or address of the peer.
        peer: String,
        /// The call.
        operation: &'static str,
        /// What is wrong with it.
        problem: WireError,
    },
    /// The first datanode of the chain failed in the middle of an upload that could not be repeated elsewhere.
    #[error("datanode {node} failed while it took the upload: {answer}")]
    PipelineBroken {
        /// The datanode's name and address.
        node: String,
        /// What it said.
        answer: StoreError,
    },
    /// The bytes of an upload do not have the hash that was declared for them; nothing was stored.
    #[error("the bytes have the hash {computed}, declared was {declared}")]
    HashMismatch {
        /// What the caller declared.
        declared: ContentHash,
        /// What the bytes have.
        computed: ContentHash,
    },
    /// Fewer datanodes than `min_replication` took the file; nothing was stored.
    #[error(
        "{hash}: {acknowledged} datanodes took the file, at least {required} have to: {detail}"
    )]
    InsufficientReplicas {
        /// The file.
        hash: ContentHash,
        /// How many have it on disk.
        acknowledged: usize,
        /// How many have to.
        required: usize,
        /// All others had no room for it.
        full: bool,
        /// What the others said.
        detail: String,
    },
    /// The namenode no longer knows the allocation of an upload that was under way.
    #[error("the namenode gave up write {generation} while it was under way")]
    LeaseLost {
        /// The generation of the write.
        generation: u64,
    },
    /// The range starts beyond the end of the file.
    #[error("{hash} has {size} bytes, none at offset {offset}")]
    RangeNotSatisfiable {
        /// The file.
        hash: ContentHash,
        /// Its size in bytes.
        size: u64,
        /// What was asked for.
        offset: u64,
    },
    /// No replica could deliver the rest of the file.
    #[error("{hash}: no replica could be read at offset {offset}: {detail}")]
    Unreadable {
        /// The file.
        hash: ContentHash,
        /// Bytes before this one were delivered.
        offset: u64,
        /// What each replica said.
        detail: String,
    },
    /// Every replica that answered holds wrong bytes, or the delivered bytes do not have the file's hash.
    #[error("{hash} is corrupt: {detail}")]
    Corrupt {
        /// The file.
        hash: ContentHash,
        /// What was found where.
        detail: String,
    },
    /// Work inside this process did not come back.
    #[error("{0}")]
    Internal(String),
}

impl ClientError {
    /// The kind, as seen from outside.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Source(source) => source.code,
            Self::Namenode { answer, .. } => answer.code,
            Self::Malformed { .. } | Self::Internal(_) => ErrorCode::Internal,
            // Which step of the chain broke is the cluster's affair; to the caller only a full disk is different from
            // "try again".
            Self::PipelineBroken { answer, .. } => match answer.code {
                ErrorCode::StorageFull => ErrorCode::StorageFull,
                _ => ErrorCode::Unavailable,
            },
            Self::HashMismatch { .. } => ErrorCode::HashMismatch,
            // Trying again is of no use before there is room.
            Self::InsufficientReplicas { full: true, .. } => ErrorCode::StorageFull,
            Self::InsufficientReplicas { .. } => ErrorCode::InsufficientReplicas,
            Self::LeaseLost { .. } => ErrorCode::Conflict,
            Self::RangeNotSatisfiable { .. } => ErrorCode::RangeNotSatisfiable,
            Self::Unreadable { .. } => ErrorCode::Unavailable,
            Self::Corrupt { .. } => ErrorCode::Corrupt,
        }
    }
}

impl SourceError {
    /// An error of `code` with `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ClientError> for StoreError {
    fn from(error: ClientError) -> Self {
        let code = error.code();
        let message = match error {
            ClientError::Source(source) => source.message,
            // To somebody outside, the address of the namenode says less than what the namenode said.
            ClientError::Namenode { answer, .. } => answer.message,
            other => other.to_string(),
        };
        StoreError::new(code, message)
    }
}
