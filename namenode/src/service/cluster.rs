//! What operators ask: how the cluster is doing, which nodes there are, and the records themselves.

use richardstore_proto::{Generation, StoreError, wire};

use crate::cluster_status::{Waits, describe};
use crate::record::NodeRecord;
use crate::shared::Shared;

/// Says how the cluster is doing, and why not better.
pub async fn info(shared: &Shared, _: wire::InfoRequest) -> Result<wire::InfoResponse, StoreError> {
    let counts = shared.metadata.view()?.counts()?;
    let now_ms = shared.now_ms();
    let (census, progress, waits) = {
        let soft = shared.soft();
        let waits = Waits {
            safe_mode: soft.safe_mode.reason(now_ms),
            repair: soft.repair_rests(now_ms),
        };
        (soft.cluster.census(now_ms), soft.repair.progress, waits)
    };
    let mut status = describe(&census, counts.under_replicated, progress, waits);
    if let Some(tight) = shared.metadata.tight() {
        status.degrade(&tight.to_string());
    }
    Ok(wire::InfoResponse {
        status: status.word.to_owned(),
        reason: status.reason,
        cluster_id: shared.metadata.cluster_id().to_string(),
        epoch: shared.epoch.0,
        files: counts.files,
        bytes: counts.bytes,
        under_replicated: counts.under_replicated,
        repairs_copying: u64::try_from(progress.copying).unwrap_or(u64::MAX),
        repairs_waiting: u64::try_from(progress.waiting).unwrap_or(u64::MAX),
        tombstones: counts.tombstones,
        commands_pending: counts.commands,
        writes_in_flight: counts.writes,
        nodes_live: census.live,
        nodes_stale: census.stale,
        nodes_dead: census.dead,
        capacity_bytes: census.capacity_bytes,
        available_bytes: census.available_bytes,
        uptime_ms: now_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: shared.address.clone(),
        misplaced: u64::try_from(progress.misplaced).unwrap_or(u64::MAX),
        misplaced_checked: progress.misplaced_checked,
        nodes_in_maintenance: census.in_maintenance,
    })
}

/// All nodes that ever registered, in the order of their numbers.
pub async fn list_nodes(
    shared: &Shared,
    _: wire::ListNodesRequest,
) -> Result<wire::ListNodesResponse, StoreError> {
    let records = shared.metadata.view()?.nodes()?;
    let nodes = records
        .iter()
        .filter_map(|record| node_status(shared, record))
        .collect();
    Ok(wire::ListNodesResponse { nodes })
}

fn node_status(shared: &Shared, record: &NodeRecord) -> Option<wire::NodeStatus> {
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    // A node that registered after the snapshot was taken is missing in it, one that registers now is missing here: both
    // are in the next answer.
    let node = soft.cluster.get(record.index)?;
    let info = node.info(Generation::default(), soft.cluster.timeouts(), now_ms);
    Some(wire::NodeStatus {
        node: Some(info.into()),
        stats: Some(node.stats.into()),
        last_heartbeat_age_ms: node.silent_ms(now_ms),
        last_report_age_ms: node
            .report
            .heard_ms()
            .map_or(u64::MAX, |heard_ms| now_ms.saturating_sub(heard_ms)),
        commands_pending: record.commands,
        replicas: record.replicas,
        session_epoch: node.session.0,
        maintenance_until_ms: node.maintenance_until_ms.unwrap_or(0),
    })
}
