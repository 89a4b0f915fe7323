//! [`report`]: the cluster at a glance.

use richardstore_proto::{NodeState, StoreError, wire};

use crate::service::cluster::{info, list_nodes};
use crate::shared::Shared;

/// Figures of the whole cluster and of each datanode.
pub async fn report(
    shared: &Shared,
    _: wire::ReportRequest,
) -> Result<wire::ReportResponse, StoreError> {
    let view = shared.metadata.view()?;
    let counts = view.counts()?;
    let mut report = wire::ReportResponse {
        info: Some(info(shared, wire::InfoRequest {}).await?),
        nodes: list_nodes(shared, wire::ListNodesRequest {}).await?.nodes,
        over_replicated: view.over_replicated_count()?,
        foreign_replicas: counts.foreign_replicas,
        ..wire::ReportResponse::default()
    };
    let records = view.nodes()?;
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    let timeouts = soft.cluster.timeouts();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    report.copying = number(soft.repair.progress.copying);
    report.waiting = number(soft.repair.progress.waiting);
    report.safe_mode = soft.safe_mode.is_on();
    let mut live = 0;
    for record in &records {
        let Some(node) = soft.cluster.get(record.index) else {
            continue;
        };
        let (sum, to_copy) = match node.state(timeouts, now_ms) {
            // Still there; once it is silent it shows as that, and nothing of it is to be copied all the same.
            NodeState::Live | NodeState::Maintenance => (&mut report.replicas_live, false),
            NodeState::Stale => (&mut report.replicas_stale, false),
            NodeState::Decommissioning => (&mut report.replicas_leaving, true),
            NodeState::Decommissioned => (&mut report.replicas_leaving, false),
            NodeState::Dead => (&mut report.replicas_dead, true),
        };
        *sum = sum.saturating_add(record.replicas);
        if to_copy && !node.is_expected_away() {
            report.bytes_to_copy = report.bytes_to_copy.saturating_add(record.bytes);
        }
        live += u64::from(node.state(timeouts, now_ms) == NodeState::Live);
    }
    let rate = shared.config.repair_bytes_per_second.saturating_mul(live);
    report.copy_seconds = report.bytes_to_copy.checked_div(rate).unwrap_or(0);
    Ok(report)
}
