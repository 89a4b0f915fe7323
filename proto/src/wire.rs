//! The generated messages and services, and the one place where their fields become domain values.

// Generated code is not ours to document or restyle.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
mod generated {
    tonic::include_proto!("richardstore.v1");
}

#[allow(clippy::wildcard_imports)]
pub use generated::*;

use crate::{
    Blake3Root, ClusterId, ContentHash, ErrorCode, NodeId, ParseHashError, ParseIdError, StoreError,
};

/// The compiled descriptors, for gRPC reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// Largest gRPC message any service here accepts, in bytes. Chunks and pages are cut well below it.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Longest request id that is passed on, in bytes; longer ones are cut, since they only serve logs.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A hash field does not hold a hash.
    #[error("field {field}: {source}")]
    Hash {
        /// The field.
        field: &'static str,
        /// Why not.
        source: ParseHashError,
    },
    /// An id field does not hold an id.
    #[error("field {field}: {source}")]
    Id {
        /// The field.
        field: &'static str,
        /// Why not.
        source: ParseIdError,
    },
    /// A field that must be set is not.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A list is longer, or a number larger, than the protocol allows.
    #[error("field {0} is over its limit")]
    Limit(&'static str),
    /// A field's value has no meaning.
    #[error("field {0} has a value without a meaning")]
    Value(&'static str),
}

impl From<WireError> for StoreError {
    fn from(error: WireError) -> Self {
        StoreError::new(ErrorCode::InvalidArgument, error.to_string())
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        StoreError::from(error).into()
    }
}

/// A hash that has to be there.
pub fn hash_field(field: &'static str, bytes: &[u8]) -> Result<ContentHash, WireError> {
    ContentHash::try_from(bytes).map_err(|source| WireError::Hash { field, source })
}

/// A hash that may be left out.
pub fn optional_hash_field(
    field: &'static str,
    bytes: &[u8],
) -> Result<Option<ContentHash>, WireError> {
    match bytes {
        [] => Ok(None),
        bytes => hash_field(field, bytes).map(Some),
    }
}

/// A BLAKE3 root that may be left out.
pub fn optional_root_field(
    field: &'static str,
    bytes: &[u8],
) -> Result<Option<Blake3Root>, WireError> {
    match bytes {
        [] => Ok(None),
        bytes => Blake3Root::try_from(bytes)
            .map(Some)
            .map_err(|source| WireError::Hash { field, source }),
    }
}

/// A node id that has to be there.
pub fn node_id_field(field: &'static str, bytes: &[u8]) -> Result<NodeId, WireError> {
    NodeId::try_from(bytes).map_err(|source| WireError::Id { field, source })
}

/// A cluster id that has to be there: bytes of an unknown cluster are taken from nobody.
pub fn cluster_field(text: &str) -> Result<ClusterId, WireError> {
    if text.is_empty() {
        return Err(WireError::Missing("cluster_id"));
    }
    text.parse().map_err(|source| WireError::Id {
        field: "cluster_id",
        source,
    })
}

/// A request id fit for logs: short, and without control characters.
pub fn request_id_field(text: String) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_REQUEST_ID_BYTES / 4)
        .collect()
}

/// Domain values of a repeated field with at most `limit` elements.
pub fn list_field<W, D, E>(
    field: &'static str,
    list: Vec<W>,
    limit: usize,
    convert: impl FnMut(W) -> Result<D, E>,
) -> Result<Vec<D>, WireError>
where
    WireError: From<E>,
{
    if list.len() > limit {
        return Err(WireError::Limit(field));
    }
    Ok(list.into_iter().map(convert).collect::<Result<_, E>>()?)
}

/// The raw bytes of a 32- or 16-byte id or hash, for the wire.
pub fn to_bytes(bytes: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_cannot_break_a_log_line() {
        let id = request_id_field(format!("a\nb{}", "c".repeat(500)));
        assert!(id.starts_with("abc") && id.len() <= MAX_REQUEST_ID_BYTES);
    }
}
