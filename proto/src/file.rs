//! [`FileInfo`]: what is known about a file besides its bytes, and [`FileLocations`]: where they are.

use crate::wire::{
    self, WireError, list_field, optional_hash_field, optional_root_field, to_bytes,
};
use crate::{Blake3Root, ContentHash, DataNodeInfo, Generation};

/// No file has more replicas than this, and no chain more nodes.
pub const MAX_REPLICATION: usize = 64;

/// A committed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// SHA-256 of the bytes: the name.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// What the bytes are verified by.
    pub blake3_root: Blake3Root,
    /// The newest write of this file.
    pub generation: Generation,
    /// How many replicas there should be.
    pub replication: u32,
    /// When it was first committed, milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A file and the nodes that hold it, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLocations {
    /// The file.
    pub file: FileInfo,
    /// Who holds it, in the order to ask them.
    pub nodes: Vec<DataNodeInfo>,
}

impl From<FileInfo> for wire::FileInfo {
    fn from(file: FileInfo) -> Self {
        Self {
            hash: to_bytes(file.hash.as_bytes()),
            size: file.size,
            blake3_root: to_bytes(file.blake3_root.as_bytes()),
            generation: file.generation.0,
            replication: file.replication,
            created_ms: file.created_ms,
        }
    }
}

impl TryFrom<wire::FileInfo> for FileInfo {
    type Error = WireError;

    fn try_from(file: wire::FileInfo) -> Result<Self, WireError> {
        Ok(Self {
            hash: optional_hash_field("hash", &file.hash)?.ok_or(WireError::Missing("hash"))?,
            size: file.size,
            blake3_root: optional_root_field("blake3_root", &file.blake3_root)?
                .ok_or(WireError::Missing("blake3_root"))?,
            generation: Generation(file.generation),
            replication: file.replication,
            created_ms: file.created_ms,
        })
    }
}

impl From<FileLocations> for wire::StreamInfo {
    fn from(locations: FileLocations) -> Self {
        Self {
            file: Some(locations.file.into()),
            nodes: locations.nodes.into_iter().map(Into::into).collect(),
            equal_nodes: 0,
        }
    }
}

impl TryFrom<wire::StreamInfo> for FileLocations {
    type Error = WireError;

    fn try_from(stream: wire::StreamInfo) -> Result<Self, WireError> {
        Ok(Self {
            file: stream.file.ok_or(WireError::Missing("file"))?.try_into()?,
            nodes: list_field(
                "nodes",
                stream.nodes,
                MAX_REPLICATION,
                DataNodeInfo::try_from,
            )?,
        })
    }
}
