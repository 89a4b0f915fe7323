//! What goes back and forth in one write: [`Allocation`], [`WriteTrailer`], [`PipelineResult`].

use crate::wire::{self, WireError, hash_field, list_field, node_id_field, to_bytes};
use crate::{
    Blake3Root, ContentHash, DataNodeInfo, ErrorCode, Generation, MAX_REPLICATION, NodeId,
};

/// Permission to write one file, and the chain to write it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The generation that the replicas and the commit carry.
    pub generation: Generation,
    /// The chain, first node first.
    pub targets: Vec<DataNodeInfo>,
}

/// What the sender computed while it sent: every node compares it with what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteTrailer {
    /// SHA-256 of the bytes.
    pub hash: ContentHash,
    /// BLAKE3 root of the bytes.
    pub blake3_root: Blake3Root,
    /// Bytes sent.
    pub size: u64,
}

/// A node of a chain that does not have the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFailure {
    /// Which.
    pub node_id: NodeId,
    /// What kind of failure.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
}

/// How a pipeline write ended, for this node and all behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipelineResult {
    /// These have the file, durably.
    pub acknowledged: Vec<NodeId>,
    /// These do not.
    pub failed: Vec<NodeFailure>,
}

impl From<Allocation> for wire::Allocation {
    fn from(allocation: Allocation) -> Self {
        Self {
            generation: allocation.generation.0,
            targets: allocation.targets.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Allocation> for Allocation {
    type Error = WireError;

    fn try_from(allocation: wire::Allocation) -> Result<Self, WireError> {
        Ok(Self {
            generation: Generation(allocation.generation),
            targets: list_field(
                "targets",
                allocation.targets,
                MAX_REPLICATION,
                DataNodeInfo::try_from,
            )?,
        })
    }
}

impl From<WriteTrailer> for wire::WriteTrailer {
    fn from(trailer: WriteTrailer) -> Self {
        Self {
            hash: to_bytes(trailer.hash.as_bytes()),
            blake3_root: to_bytes(trailer.blake3_root.as_bytes()),
            size: trailer.size,
        }
    }
}

impl TryFrom<wire::WriteTrailer> for WriteTrailer {
    type Error = WireError;

    fn try_from(trailer: wire::WriteTrailer) -> Result<Self, WireError> {
        Ok(Self {
            hash: hash_field("hash", &trailer.hash)?,
            blake3_root: wire::optional_root_field("blake3_root", &trailer.blake3_root)?
                .ok_or(WireError::Missing("blake3_root"))?,
            size: trailer.size,
        })
    }
}

impl From<NodeFailure> for wire::NodeFailure {
    fn from(failure: NodeFailure) -> Self {
        Self {
            node_id: to_bytes(failure.node_id.as_bytes()),
            error_code: failure.code.number(),
            error: failure.message,
        }
    }
}

impl TryFrom<wire::NodeFailure> for NodeFailure {
    type Error = WireError;

    fn try_from(failure: wire::NodeFailure) -> Result<Self, WireError> {
        Ok(Self {
            node_id: node_id_field("node_id", &failure.node_id)?,
            code: ErrorCode::from_number(failure.error_code),
            message: failure.error,
        })
    }
}

impl From<PipelineResult> for wire::WriteFileResult {
    fn from(result: PipelineResult) -> Self {
        Self {
            file: None,
            acknowledged: result
                .acknowledged
                .iter()
                .map(|node| to_bytes(node.as_bytes()))
                .collect(),
            failed: result.failed.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::WriteFileResult> for PipelineResult {
    type Error = WireError;

    fn try_from(result: wire::WriteFileResult) -> Result<Self, WireError> {
        Ok(Self {
            acknowledged: list_field(
                "acknowledged",
                result.acknowledged,
                MAX_REPLICATION,
                |node| node_id_field("acknowledged", &node),
            )?,
            failed: list_field(
                "failed",
                result.failed,
                MAX_REPLICATION,
                NodeFailure::try_from,
            )?,
        })
    }
}
