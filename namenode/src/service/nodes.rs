//! What keeps a datanode in the cluster: its registration and its heartbeats.

use richardstore_proto::wire::{self, WireError, node_id_field};
use richardstore_proto::{
    ClusterId, DataNodeInfo, ErrorCode, EventKind, JournalId, NodeStats, SessionEpoch, StoreError,
};

use crate::event_log::News;
use crate::mutation::{Mutation, Reply};
use crate::record::NodeIndex;
use crate::service::{commands, unexpected};
use crate::shared::Shared;

/// Takes a datanode in. One without a cluster joins this one; one of another cluster is refused before anything it says
/// counts.
pub async fn register(
    shared: &Shared,
    request: wire::RegisterRequest,
) -> Result<wire::RegisterResponse, StoreError> {
    if !request.cluster_id.is_empty() {
        check_cluster(shared, &request.cluster_id)?;
    }
    let session = SessionEpoch(request.session_epoch);
    let journal_id =
        JournalId::try_from(&request.journal_id[..]).map_err(|source| WireError::Id {
            field: "journal_id",
            source,
        })?;
    let stats: NodeStats = request.stats.ok_or(WireError::Missing("stats"))?.into();
    // Its texts end up in logs and tables, so they pass the same check as those of any node on the wire.
    let node = DataNodeInfo::try_from(wire::DataNodeInfo {
        node_id: request.node_id,
        address: request.address,
        state: wire::NodeState::Live.into(),
        name: request.name,
        rack: request.rack,
        generation: 0,
    })?;
    check_address(&node.address)?;
    let mutation = Mutation::RegisterNode {
        node_id: node.node_id,
        session_epoch: session,
        name: node.name,
        address: node.address,
        rack: node.rack,
        journal_id,
        now_ms: shared.wall_ms(),
    };
    let (index, next_sequence, journal_changed) = match shared.metadata.submit(mutation).await? {
        Reply::Registered {
            index,
            next_sequence,
            journal_changed,
        } => (index, next_sequence, journal_changed),
        other => return Err(unexpected(&other)),
    };
    let view = shared.metadata.view()?;
    let next_generation = view.next_generation()?;
    let record = view.node(index)?.ok_or_else(|| {
        StoreError::new(
            ErrorCode::Internal,
            format!("node {} registered and has no record", node.node_id),
        )
    })?;
    if request.journal_next < next_sequence.0 {
        // It learns it from the answer, and starts a new journal: its next events would pass for repetitions.
        tracing::warn!(
            node = %record.node_id, ours = next_sequence.0, theirs = request.journal_next,
            "the datanode's journal went back"
        );
    }
    tracing::info!(
        node = %record.node_id, name = record.name, address = record.address, rack = record.rack,
        session = session.0, next_sequence = next_sequence.0, journal_changed, version = request.version,
        "datanode registered"
    );
    let safe_mode_over = {
        let mut soft = shared.soft();
        let safe_mode_over = soft.registered(record, stats, shared.now_ms());
        soft.cluster.may_have_lost(index, next_generation);
        safe_mode_over
    };
    shared.tell_of(index, News::of(EventKind::NodeJoined));
    if safe_mode_over {
        tracing::info!("safe mode is over: every known datanode is back");
        shared.tell(News::of(EventKind::SafeModeOver));
    }
    Ok(wire::RegisterResponse {
        cluster_id: shared.metadata.cluster_id().to_string(),
        namenode_epoch: shared.epoch.0,
        next_sequence: next_sequence.0,
        // Always: where both sides agree it costs one small message, and what happened while they were apart is unknown.
        full_report_wanted: true,
        heartbeat_interval_ms: shared.config.heartbeat_interval_ms,
        deletes_wanted: view.was_restored()?,
    })
}

/// Notes that a datanode is alive and how it is, takes in what it has done, and gives it more to do.
pub async fn heartbeat(
    shared: &Shared,
    request: wire::HeartbeatRequest,
) -> Result<wire::HeartbeatResponse, StoreError> {
    check_cluster(shared, &request.cluster_id)?;
    check_epoch(shared, request.namenode_epoch)?;
    let node_id = node_id_field("node_id", &request.node_id)?;
    let mut response = wire::HeartbeatResponse {
        cluster_id: shared.metadata.cluster_id().to_string(),
        namenode_epoch: shared.epoch.0,
        forget_deletes_before: shared.copies.forget_deletes_before().0,
        newest_copy: shared.copies.shelved().map(Into::into),
        ..wire::HeartbeatResponse::default()
    };
    let Some(index) = shared.session(&node_id, SessionEpoch(request.session_epoch))? else {
        response.unregistered = true;
        return Ok(response);
    };
    let stats: NodeStats = request.stats.ok_or(WireError::Missing("stats"))?.into();
    shared
        .soft()
        .cluster
        .heartbeat(index, stats, shared.now_ms());
    note_address(shared, index, request.address).await?;
    commands::confirm(shared, index, request.outcomes).await?;
    let handed_out = commands::hand_out(shared, index).await?;
    response.commands = handed_out.commands.into_iter().map(Into::into).collect();
    response.more_commands = handed_out.more;
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    response.active = !soft.safe_mode.is_on();
    response.full_report_wanted = soft
        .cluster
        .get(index)
        .is_some_and(|node| node.report.wanted(now_ms));
    Ok(response)
}

/// A pod that comes back with another address is the same node.
async fn note_address(
    shared: &Shared,
    index: NodeIndex,
    address: String,
) -> Result<(), StoreError> {
    let known = shared
        .soft()
        .cluster
        .get(index)
        .map(|node| node.address.clone());
    if known.as_deref() == Some(&address) || address.is_empty() {
        return Ok(());
    }
    check_address(&address)?;
    tracing::info!(node = index.0, from = known, to = address, "datanode moved");
    let mutation = Mutation::UpdateNode {
        index,
        address: address.clone(),
    };
    shared.metadata.submit(mutation).await?;
    shared.soft().cluster.moved(index, address);
    Ok(())
}

fn check_cluster(shared: &Shared, theirs: &str) -> Result<(), StoreError> {
    let ours = shared.metadata.cluster_id();
    let theirs: ClusterId = theirs.parse().map_err(|source| WireError::Id {
        field: "cluster_id",
        source,
    })?;
    if theirs == ours {
        return Ok(());
    }
    Err(StoreError::new(
        ErrorCode::WrongCluster,
        format!("this is cluster {ours}, the datanode belongs to {theirs}"),
    ))
}

/// A datanode that has seen a newer start than this one: this namenode was restored from the past, or is a leftover. Not
/// the datanode's fault, so it may try again.
fn check_epoch(shared: &Shared, seen: u64) -> Result<(), StoreError> {
    if seen <= shared.epoch.0 {
        return Ok(());
    }
    tracing::error!(
        ours = shared.epoch.0,
        seen,
        "a datanode has seen a newer namenode of this cluster"
    );
    Err(StoreError::new(
        ErrorCode::Unavailable,
        format!(
            "this namenode is at epoch {}, the datanode has seen {seen}",
            shared.epoch
        ),
    ))
}

fn check_address(address: &str) -> Result<(), WireError> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or(WireError::Value("address"))?;
    let sound = !host.is_empty()
        && address.len() <= 256
        && address
            .chars()
            .all(|character| character.is_ascii_graphic())
        && port.parse::<u16>().is_ok_and(|port| port != 0);
    if sound {
        Ok(())
    } else {
        Err(WireError::Value("address"))
    }
}
