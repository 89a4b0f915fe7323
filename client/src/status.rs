//! What a cluster says of itself, in domain types that serialize to the JSON that the gateway and the command line show.

use richardstore_proto::{
    Blake3Root, ClusterId, ContentHash, DataNodeInfo, FileLocations, Generation, NodeId, NodeState,
    NodeStats, SessionEpoch, WireError, wire,
};
use serde::{Serialize, Serializer};

/// Files that an answer names as blocking, at most.
const MAX_BLOCKING: usize = 1_000;

/// A datanode as the namenode sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its identity.
    #[serde(serialize_with = "as_text")]
    pub node_id: NodeId,
    /// A name for people.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// The failure domain; empty is "not set".
    pub rack: String,
    /// How it is doing.
    pub state: NodeState,
    /// Bytes of its volume.
    pub capacity_bytes: u64,
    /// Bytes of the replicas on it.
    pub used_bytes: u64,
    /// Bytes that may still be written.
    pub available_bytes: u64,
    /// Writes under way.
    pub active_writes: u32,
    /// Reads under way.
    pub active_reads: u32,
    /// Takes no writes.
    pub read_only: bool,
    /// A write or sync failed on its volume: its replicas are not counted on.
    pub volume_failed: bool,
    /// Replicas on it, as the namenode counts them.
    pub replicas: u64,
    /// Milliseconds since its last heartbeat.
    pub last_heartbeat_age_ms: u64,
    /// Milliseconds since its last full report; `None`: none since the namenode started.
    pub last_report_age_ms: Option<u64>,
    /// Commands it has not confirmed yet.
    pub commands_pending: u64,
    /// Counts its starts.
    pub session_epoch: SessionEpoch,
    /// Until when it is expected to be away, milliseconds since the Unix epoch; `None`: it is not.
    pub maintenance_until_ms: Option<u64>,
}

/// The whole cluster in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterInfo {
    /// `running`, `degraded` or `safe mode`.
    pub status: String,
    /// Why it is not `running`; empty where it is.
    pub reason: String,
    /// The cluster.
    #[serde(serialize_with = "as_text")]
    pub cluster_id: ClusterId,
    /// Counts the namenode's starts.
    pub epoch: u64,
    /// Committed files.
    pub files: u64,
    /// Their bytes, each file once.
    pub bytes: u64,
    /// Files with fewer replicas than they should have.
    pub under_replicated: u64,
    /// Files of which copies are being made.
    pub repairs_copying: u64,
    /// Files known to be short that wait for their turn.
    pub repairs_waiting: u64,
    /// Files known to lie in one rack only, although there are others.
    pub misplaced: u64,
    /// All files were looked at since the racks last changed: `misplaced` is the whole count.
    pub misplaced_checked: bool,
    /// Deletes that some datanode has not confirmed.
    pub tombstones: u64,
    /// Commands not confirmed yet.
    pub commands_pending: u64,
    /// Uploads under way.
    pub writes_in_flight: u64,
    /// Datanodes heard from lately.
    pub nodes_live: u32,
    /// Datanodes not heard from for a while.
    pub nodes_stale: u32,
    /// Datanodes whose replicas no longer count.
    pub nodes_dead: u32,
    /// Datanodes that are expected to be away, there or not; counted nowhere else.
    pub nodes_in_maintenance: u32,
    /// Bytes of all volumes.
    pub capacity_bytes: u64,
    /// Bytes that may still be written on all of them.
    pub available_bytes: u64,
    /// Milliseconds since the namenode started.
    pub uptime_ms: u64,
    /// The namenode's version.
    pub version: String,
    /// The namenode's `host:port`.
    pub address: String,
}

/// What is wanted of a datanode, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeAdminStatus {
    /// Its identity.
    #[serde(serialize_with = "as_text")]
    pub node_id: NodeId,
    /// A name for people.
    pub name: String,
    /// `in_service`, `decommissioning`, `decommissioned` or `removed`.
    pub admin: String,
    /// Replicas on it, as the namenode counts them.
    pub replicas: u64,
    /// Everything on it was looked at since it began: `blocking` is exact.
    pub checked: bool,
    /// Files that still need it; where it is to be removed, those that no other live datanode has.
    pub blocking: u64,
    /// Some of those.
    pub first: Vec<BlockingFile>,
    /// Writes that may have been placed on it are not over.
    pub writes_in_flight: bool,
    /// Until when it is expected to be away, milliseconds since the Unix epoch; `None`: it is not.
    pub maintenance_until_ms: Option<u64>,
}

/// A file that still needs a datanode that is being emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockingFile {
    /// The file.
    #[serde(serialize_with = "as_text")]
    pub hash: ContentHash,
    /// Why.
    pub reason: String,
}

/// Whether nothing may be copied or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SafeModeStatus {
    /// It is so.
    pub on: bool,
    /// What it waits for; empty where it is off.
    pub reason: String,
    /// Why nothing is copied although it is off; empty where it is not so.
    pub repair_rests: String,
}

/// One page of a listing, in the order of the hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilePage {
    /// The files.
    #[serde(serialize_with = "as_statuses")]
    pub files: Vec<FileLocations>,
    /// More files follow the last one.
    pub more: bool,
}

/// A file and its replicas, as JSON shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStatus {
    /// SHA-256 of the bytes.
    #[serde(serialize_with = "as_text")]
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// How many replicas there should be.
    pub replication: u32,
    /// When it was first committed, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The newest write of this file.
    pub generation: Generation,
    /// BLAKE3 root of the bytes.
    #[serde(serialize_with = "as_text")]
    pub blake3: Blake3Root,
    /// Who holds it.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicaStatus {
    /// The datanode.
    #[serde(serialize_with = "as_text")]
    pub node_id: NodeId,
    /// Its name for people.
    pub name: String,
    /// Its `host:port`.
    pub address: String,
    /// Its failure domain.
    pub rack: String,
    /// How it is doing.
    pub state: NodeState,
    /// The write that the replica came with.
    pub generation: Generation,
}

impl From<&FileLocations> for FileStatus {
    fn from(locations: &FileLocations) -> Self {
        let file = &locations.file;
        Self {
            hash: file.hash,
            size: file.size,
            replication: file.replication,
            created_ms: file.created_ms,
            generation: file.generation,
            blake3: file.blake3_root,
            replicas: locations.nodes.iter().map(ReplicaStatus::from).collect(),
        }
    }
}

impl From<&DataNodeInfo> for ReplicaStatus {
    fn from(node: &DataNodeInfo) -> Self {
        Self {
            node_id: node.node_id,
            name: node.name.clone(),
            address: node.address.clone(),
            rack: node.rack.clone(),
            state: node.state,
            generation: node.generation,
        }
    }
}

impl TryFrom<wire::NodeStatus> for NodeStatus {
    type Error = WireError;

    fn try_from(status: wire::NodeStatus) -> Result<Self, WireError> {
        let node = DataNodeInfo::try_from(status.node.ok_or(WireError::Missing("node"))?)?;
        let stats = NodeStats::from(status.stats.unwrap_or_default());
        Ok(Self {
            node_id: node.node_id,
            name: node.name,
            address: node.address,
            rack: node.rack,
            state: node.state,
            capacity_bytes: stats.capacity_bytes,
            used_bytes: stats.used_bytes,
            available_bytes: stats.available_bytes,
            active_writes: stats.active_writes,
            active_reads: stats.active_reads,
            read_only: stats.read_only,
            volume_failed: stats.volume_failed,
            replicas: status.replicas,
            last_heartbeat_age_ms: status.last_heartbeat_age_ms,
            last_report_age_ms: Some(status.last_report_age_ms).filter(|&age| age != u64::MAX),
            commands_pending: status.commands_pending,
            session_epoch: SessionEpoch(status.session_epoch),
            maintenance_until_ms: Some(status.maintenance_until_ms).filter(|&until| until != 0),
        })
    }
}

impl TryFrom<wire::SetNodeAdminResponse> for NodeAdminStatus {
    type Error = WireError;

    fn try_from(status: wire::SetNodeAdminResponse) -> Result<Self, WireError> {
        let file = |file: wire::BlockingFile| -> Result<BlockingFile, WireError> {
            Ok(BlockingFile {
                hash: wire::hash_field("hash", &file.hash)?,
                reason: file.reason,
            })
        };
        Ok(Self {
            node_id: wire::node_id_field("node_id", &status.node_id)?,
            name: status.name,
            admin: status.admin,
            replicas: status.replicas,
            checked: status.checked,
            blocking: status.blocking,
            first: wire::list_field("first", status.first, MAX_BLOCKING, file)?,
            writes_in_flight: status.writes_in_flight,
            maintenance_until_ms: Some(status.maintenance_until_ms).filter(|&until| until != 0),
        })
    }
}

impl TryFrom<wire::InfoResponse> for ClusterInfo {
    type Error = WireError;

    fn try_from(info: wire::InfoResponse) -> Result<Self, WireError> {
        let cluster_id = info.cluster_id.parse().map_err(|source| WireError::Id {
            field: "cluster_id",
            source,
        })?;
        Ok(Self {
            status: info.status,
            reason: info.reason,
            cluster_id,
            epoch: info.epoch,
            files: info.files,
            bytes: info.bytes,
            under_replicated: info.under_replicated,
            repairs_copying: info.repairs_copying,
            repairs_waiting: info.repairs_waiting,
            misplaced: info.misplaced,
            misplaced_checked: info.misplaced_checked,
            tombstones: info.tombstones,
            commands_pending: info.commands_pending,
            writes_in_flight: info.writes_in_flight,
            nodes_live: info.nodes_live,
            nodes_stale: info.nodes_stale,
            nodes_dead: info.nodes_dead,
            nodes_in_maintenance: info.nodes_in_maintenance,
            capacity_bytes: info.capacity_bytes,
            available_bytes: info.available_bytes,
            uptime_ms: info.uptime_ms,
            version: info.version,
            address: info.address,
        })
    }
}

pub(crate) fn as_text<T: std::fmt::Display, S: Serializer>(
    id: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn as_statuses<S: Serializer>(files: &[FileLocations], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(files.iter().map(FileStatus::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_hashes_are_text_in_json() {
        let replica = ReplicaStatus {
            node_id: NodeId::new([1; 16]),
            name: "datanode-1".into(),
            address: "127.0.0.1:9001".into(),
            rack: String::new(),
            state: NodeState::Live,
            generation: Generation(7),
        };
        let json = serde_json::to_value(replica).unwrap();
        assert_eq!(json["node_id"], "01010101-0101-0101-0101-010101010101");
        assert_eq!(json["state"], "live");
        assert_eq!(json["generation"], 7);
    }
}
