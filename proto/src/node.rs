//! [`DataNodeInfo`], [`NodeState`] and [`NodeStats`]: a datanode as others see it.

use serde::{Deserialize, Serialize};

use crate::wire::{self, WireError, node_id_field, to_bytes};
use crate::{Generation, NodeId};

/// Names, racks and addresses longer than this are refused, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// How a datanode is doing. The order is the order in which readers prefer them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Heard from lately.
    Live,
    /// Being emptied by the operator; still serves.
    Decommissioning,
    /// Emptied.
    Decommissioned,
    /// Expected to be away for a time; serves while it is there, and gets no writes.
    Maintenance,
    /// Not heard from for a while: last choice for reads, no new writes.
    Stale,
    /// Not heard from for so long that its replicas no longer count.
    Dead,
}

/// Where a datanode is and how it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataNodeInfo {
    /// Its identity.
    pub node_id: NodeId,
    /// `host:port` to reach it.
    pub address: String,
    /// How it is doing.
    pub state: NodeState,
    /// A name for people: the pod's or the directory's.
    pub name: String,
    /// The failure domain; empty is "not set".
    pub rack: String,
    /// Generation of the replica it holds, where one is meant; otherwise 0.
    pub generation: Generation,
}

/// What a datanode says of its volume and load with each heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Bytes of the volume.
    pub capacity_bytes: u64,
    /// Bytes of the replicas on it.
    pub used_bytes: u64,
    /// Bytes that may still be written, after headroom and reservations.
    pub available_bytes: u64,
    /// Replicas on it.
    pub replicas: u64,
    /// Writes under way.
    pub active_writes: u32,
    /// Reads under way.
    pub active_reads: u32,
    /// Takes no writes: full, or its volume failed.
    pub read_only: bool,
    /// A write or sync failed: what is on the volume can perhaps be read, and is not counted on.
    pub volume_failed: bool,
}

impl NodeState {
    /// The word used in JSON, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Decommissioning => "decommissioning",
            Self::Decommissioned => "decommissioned",
            Self::Maintenance => "maintenance",
            Self::Stale => "stale",
            Self::Dead => "dead",
        }
    }
}

impl From<NodeState> for wire::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Live => Self::Live,
            NodeState::Decommissioning => Self::Decommissioning,
            NodeState::Decommissioned => Self::Decommissioned,
            NodeState::Maintenance => Self::Maintenance,
            NodeState::Stale => Self::Stale,
            NodeState::Dead => Self::Dead,
        }
    }
}

impl TryFrom<wire::NodeState> for NodeState {
    type Error = WireError;

    fn try_from(state: wire::NodeState) -> Result<Self, WireError> {
        match state {
            wire::NodeState::Live => Ok(Self::Live),
            wire::NodeState::Decommissioning => Ok(Self::Decommissioning),
            wire::NodeState::Decommissioned => Ok(Self::Decommissioned),
            wire::NodeState::Maintenance => Ok(Self::Maintenance),
            wire::NodeState::Stale => Ok(Self::Stale),
            wire::NodeState::Dead => Ok(Self::Dead),
            wire::NodeState::Unspecified => Err(WireError::Value("state")),
        }
    }
}

impl From<DataNodeInfo> for wire::DataNodeInfo {
    fn from(node: DataNodeInfo) -> Self {
        Self {
            node_id: to_bytes(node.node_id.as_bytes()),
            address: node.address,
            state: wire::NodeState::from(node.state).into(),
            name: node.name,
            rack: node.rack,
            generation: node.generation.0,
        }
    }
}

impl TryFrom<wire::DataNodeInfo> for DataNodeInfo {
    type Error = WireError;

    fn try_from(node: wire::DataNodeInfo) -> Result<Self, WireError> {
        let state = node.state();
        Ok(Self {
            node_id: node_id_field("node_id", &node.node_id)?,
            address: text_field("address", node.address)?,
            state: state.try_into()?,
            name: text_field("name", node.name)?,
            rack: text_field("rack", node.rack)?,
            generation: Generation(node.generation),
        })
    }
}

impl From<NodeStats> for wire::NodeStats {
    fn from(stats: NodeStats) -> Self {
        Self {
            capacity_bytes: stats.capacity_bytes,
            used_bytes: stats.used_bytes,
            available_bytes: stats.available_bytes,
            replicas: stats.replicas,
            active_writes: stats.active_writes,
            active_reads: stats.active_reads,
            read_only: stats.read_only,
            volume_failed: stats.volume_failed,
        }
    }
}

impl From<wire::NodeStats> for NodeStats {
    fn from(stats: wire::NodeStats) -> Self {
        Self {
            capacity_bytes: stats.capacity_bytes,
            used_bytes: stats.used_bytes,
            available_bytes: stats.available_bytes,
            replicas: stats.replicas,
            active_writes: stats.active_writes,
            active_reads: stats.active_reads,
            read_only: stats.read_only,
            volume_failed: stats.volume_failed,
        }
    }
}

/// A short text: these end up in logs and tables, so control characters are refused too.
pub(crate) fn text_field(field: &'static str, text: String) -> Result<String, WireError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(WireError::Limit(field));
    }
    if text.chars().any(char::is_control) {
        return Err(WireError::Value(field));
    }
    Ok(text)
}
