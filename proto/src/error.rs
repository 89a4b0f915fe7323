//! [`ErrorCode`]: one list of what can go wrong as seen from outside, mapped to HTTP status, gRPC code and whether trying
//! again can help. No mapping has a wildcard arm: a new code has to decide.

use serde::{Deserialize, Serialize};

/// What went wrong, as one of few kinds that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum ErrorCode {
    /// The request makes no sense: a hash that does not parse, a missing field.
    InvalidArgument = 1,
    /// No such file, node or table.
    NotFound = 2,
    /// The path exists, the method does not.
    MethodNotAllowed = 3,
    /// The request came too slowly.
    RequestTimeout = 4,
    /// The state changed under the request, as when an allocation ran out.
    Conflict = 5,
    /// A body or message over its limit.
    PayloadTooLarge = 6,
    /// A range that the file does not have.
    RangeNotSatisfiable = 7,
    /// The bytes do not have the hash that was declared for them.
    HashMismatch = 8,
    /// Headers over their limit.
    HeadersTooLarge = 9,
    /// A fault of this store's own.
    Internal = 10,
    /// Every replica of the file that could be reached holds wrong bytes.
    Corrupt = 11,
    /// The other side is away, starting, stopping or overloaded.
    Unavailable = 12,
    /// Fewer datanodes than `min_replication` took the file.
    InsufficientReplicas = 13,
    /// The namenode is in safe mode and takes no changes.
    SafeMode = 14,
    /// No disk has room for this.
    StorageFull = 15,
    /// A sender with an old epoch, session or generation: a newer one exists.
    Fenced = 16,
    /// A sender of another cluster.
    WrongCluster = 17,
    /// The file was deleted after this upload of it had begun. The upload did nothing; another one may do it.
    DeletedMeanwhile = 18,
}

const ALL: [ErrorCode; 18] = [
    ErrorCode::InvalidArgument,
    ErrorCode::NotFound,
    ErrorCode::MethodNotAllowed,
    ErrorCode::RequestTimeout,
    ErrorCode::Conflict,
    ErrorCode::PayloadTooLarge,
    ErrorCode::RangeNotSatisfiable,
    ErrorCode::HashMismatch,
    ErrorCode::HeadersTooLarge,
    ErrorCode::Internal,
    ErrorCode::Corrupt,
    ErrorCode::Unavailable,
    ErrorCode::InsufficientReplicas,
    ErrorCode::SafeMode,
    ErrorCode::StorageFull,
    ErrorCode::Fenced,
    ErrorCode::WrongCluster,
    ErrorCode::DeletedMeanwhile,
];

impl ErrorCode {
    /// The HTTP status of a response with this error.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict | Self::Fenced | Self::WrongCluster | Self::DeletedMeanwhile => 409,
            Self::PayloadTooLarge => 413,
            Self::RangeNotSatisfiable => 416,
            Self::HashMismatch => 422,
            Self::HeadersTooLarge => 431,
            Self::Internal | Self::Corrupt => 500,
            Self::Unavailable | Self::InsufficientReplicas | Self::SafeMode => 503,
            Self::StorageFull => 507,
        }
    }

    /// The gRPC status code of a reply with this error.
    pub const fn grpc_code(self) -> tonic::Code {
        match self {
            Self::InvalidArgument | Self::MethodNotAllowed | Self::HeadersTooLarge => {
                tonic::Code::InvalidArgument
            }
            Self::NotFound => tonic::Code::NotFound,
            Self::RequestTimeout => tonic::Code::DeadlineExceeded,
            Self::Conflict | Self::DeletedMeanwhile => tonic::Code::Aborted,
            Self::PayloadTooLarge | Self::RangeNotSatisfiable => tonic::Code::OutOfRange,
            Self::HashMismatch | Self::Fenced | Self::WrongCluster => {
                tonic::Code::FailedPrecondition
            }
            Self::Internal => tonic::Code::Internal,
            Self::Corrupt => tonic::Code::DataLoss,
            Self::Unavailable | Self::InsufficientReplicas | Self::SafeMode => {
                tonic::Code::Unavailable
            }
            Self::StorageFull => tonic::Code::ResourceExhausted,
        }
    }

    /// Whether the same request may succeed later without a change by the caller.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::RequestTimeout
            | Self::Conflict
            | Self::DeletedMeanwhile
            | Self::Unavailable
            | Self::InsufficientReplicas
            | Self::SafeMode => true,
            Self::InvalidArgument
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::PayloadTooLarge
            | Self::RangeNotSatisfiable
            | Self::HashMismatch
            | Self::HeadersTooLarge
            | Self::Internal
            | Self::Corrupt
            | Self::StorageFull
            | Self::Fenced
            | Self::WrongCluster => false,
        }
    }

    /// The number on the wire; never 0, which means success there.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code of a wire number; an unknown one, from a newer peer, is [`ErrorCode::Internal`].
    pub fn from_number(number: u32) -> Self {
        ALL.into_iter()
            .find(|code| code.number() == number)
            .unwrap_or(Self::Internal)
    }
}

/// An error that crosses a process boundary: its kind, and words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// The kind.
    pub code: ErrorCode,
    /// What happened, naming the hash, node or path.
    pub message: String,
}

impl StoreError {
    /// An error of `code` with `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<StoreError> for tonic::Status {
    fn from(error: StoreError) -> Self {
        // The exact code travels in the details, since several codes share one gRPC code.
        let details = error.code.number().to_be_bytes().to_vec();
        tonic::Status::with_details(error.code.grpc_code(), error.message, details.into())
    }
}

impl From<tonic::Status> for StoreError {
    fn from(status: tonic::Status) -> Self {
        let code = match <[u8; 4]>::try_from(status.details()) {
            Ok(number) => ErrorCode::from_number(u32::from_be_bytes(number)),
            Err(_) => code_without_details(status.code()),
        };
        StoreError::new(code, status.message())
    }
}

/// For statuses that tonic itself or a foreign server made: a broken connection has no details of ours.
fn code_without_details(code: tonic::Code) -> ErrorCode {
    match code {
        tonic::Code::InvalidArgument => ErrorCode::InvalidArgument,
        tonic::Code::NotFound => ErrorCode::NotFound,
        tonic::Code::DeadlineExceeded => ErrorCode::RequestTimeout,
        tonic::Code::Aborted | tonic::Code::AlreadyExists => ErrorCode::Conflict,
        tonic::Code::OutOfRange => ErrorCode::PayloadTooLarge,
        tonic::Code::ResourceExhausted
        | tonic::Code::Unavailable
        | tonic::Code::Cancelled
        | tonic::Code::Unknown => ErrorCode::Unavailable,
        tonic::Code::DataLoss => ErrorCode::Corrupt,
        tonic::Code::FailedPrecondition => ErrorCode::Fenced,
        tonic::Code::Ok
        | tonic::Code::Internal
        | tonic::Code::Unimplemented
        | tonic::Code::PermissionDenied
        | tonic::Code::Unauthenticated => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for code in ALL {
            let status: tonic::Status = StoreError::new(code, "why").into();
            assert_eq!(StoreError::from(status), StoreError::new(code, "why"));
        }
    }

    #[test]
    fn an_unknown_number_is_internal_and_zero_is_no_code() {
        assert_eq!(ErrorCode::from_number(9_999), ErrorCode::Internal);
        assert!(ALL.into_iter().all(|code| code.number() != 0));
    }

    #[test]
    fn a_broken_connection_is_worth_a_retry() {
        let error = StoreError::from(tonic::Status::unavailable("transport error"));
        assert!(error.code.is_retryable());
    }
}
