//! What operators change: what is wanted of a datanode, its maintenance, and safe mode.

use richardstore_proto::wire::{self, NodeAction, SafeModeAction, WireError, to_bytes};
use richardstore_proto::{ErrorCode, EventKind, StoreError};

use crate::event_log::News;
use crate::mutation::{Mutation, Reply};
use crate::record::{NodeAdmin, NodeIndex};
use crate::repair::{Drain, RemovalCheck, Tally};
use crate::service::{removal, unexpected};
use crate::shared::Shared;

/// How long a node is expected to be away when nobody says, in milliseconds.
const DEFAULT_MAINTENANCE_MS: u64 = 2 * 3_600_000;
/// The longest that may be announced: what is away for longer is better decommissioned. Milliseconds.
const MAX_MAINTENANCE_MS: u64 = 7 * 24 * 3_600_000;

/// Changes what is wanted of a datanode, durably, and says how far it is.
pub async fn set_node_admin(
    shared: &Shared,
    request: wire::SetNodeAdminRequest,
) -> Result<wire::SetNodeAdminResponse, StoreError> {
    let action = request.action();
    let index = match find(shared, &request.node) {
        Err(error) if action == NodeAction::Remove && error.code == ErrorCode::NotFound => {
            // Asked again, because the first answer got lost.
            let record = removal::removed_before(shared, &request.node)?.ok_or(error)?;
            return Ok(removal::answer(record, RemovalCheck::default(), true, true));
        }
        found => found?,
    };
    match action {
        NodeAction::InService => set_wanted(shared, index, NodeAdmin::InService).await?,
        NodeAction::Decommission => set_wanted(shared, index, NodeAdmin::Decommissioning).await?,
        NodeAction::Maintenance => set_maintenance(shared, index, request.maintenance_ms).await?,
        NodeAction::EndMaintenance => end_maintenance(shared, index).await?,
        NodeAction::Remove => {
            return removal::remove_node(shared, index, request.accept_loss).await;
        }
        NodeAction::Unspecified => return Err(WireError::Value("action").into()),
    }
    status(shared, index)
}

async fn set_wanted(
    shared: &Shared,
    index: NodeIndex,
    wanted: NodeAdmin,
) -> Result<(), StoreError> {
    {
        let _one_at_a_time = shared.node_admin.lock().await;
        let before = shared.soft().cluster.get(index).map(|node| node.admin);
        let mutation = Mutation::SetNodeAdmin {
            index,
            admin: wanted,
        };
        // Asked again it changes nothing, and costs no commit: this is also how one watches it.
        let idle = match wanted {
            NodeAdmin::InService => before == Some(NodeAdmin::InService),
            _ => before.is_some_and(|admin| admin != NodeAdmin::InService),
        };
        if !idle {
            let admin = match shared.metadata.submit(mutation).await? {
                Reply::NodeAdmin { admin } => admin,
                other => return Err(unexpected(&other)),
            };
            tracing::info!(node = index.0, ?admin, "an operator changed a datanode");
            let mut soft = shared.soft();
            soft.cluster.set_admin(index, admin);
            soft.drains.remove(&index);
            drop(soft);
            shared.tell_of(index, News::of(told(admin)));
        }
    }
    Ok(())
}

/// Expects a node to be away from now on, for `for_ms` (0 is the default). Asked again it begins anew.
async fn set_maintenance(shared: &Shared, index: NodeIndex, for_ms: u64) -> Result<(), StoreError> {
    let for_ms = match for_ms {
        0 => DEFAULT_MAINTENANCE_MS,
        for_ms if for_ms <= MAX_MAINTENANCE_MS => for_ms,
        _ => return Err(WireError::Limit("maintenance_ms").into()),
    };
    let until_ms = shared.wall_ms().saturating_add(for_ms);
    change_maintenance(shared, index, Some(until_ms)).await?;
    tracing::info!(node = index.0, for_ms, "a datanode is in maintenance");
    Ok(())
}

async fn end_maintenance(shared: &Shared, index: NodeIndex) -> Result<(), StoreError> {
    change_maintenance(shared, index, None).await?;
    tracing::info!(node = index.0, "the maintenance of a datanode is over");
    Ok(())
}

async fn change_maintenance(
    shared: &Shared,
    index: NodeIndex,
    until_ms: Option<u64>,
) -> Result<(), StoreError> {
    let _one_at_a_time = shared.node_admin.lock().await;
    let mutation = Mutation::SetMaintenance { index, until_ms };
    shared.metadata.submit(mutation).await?;
    shared.soft().cluster.set_maintenance(index, until_ms);
    Ok(())
}

/// Ends what was announced for no longer than until now.
///
/// # Errors
/// The metadata did not take it; the next tick tries again.
pub async fn end_overdue_maintenance(shared: &Shared) -> Result<(), StoreError> {
    let wall_ms = shared.wall_ms();
    let overdue = |until_ms: Option<u64>| until_ms.is_some_and(|until_ms| until_ms <= wall_ms);
    let over: Vec<NodeIndex> = {
        let soft = shared.soft();
        let over = soft
            .cluster
            .iter()
            .filter(|node| overdue(node.maintenance_until_ms));
        over.map(|node| node.index).collect()
    };
    for index in over {
        let _one_at_a_time = shared.node_admin.lock().await;
        let known = shared
            .soft()
            .cluster
            .get(index)
            .map(|node| node.maintenance_until_ms);
        if known.is_some_and(overdue) {
            let until_ms = None;
            let mutation = Mutation::SetMaintenance { index, until_ms };
            shared.metadata.submit(mutation).await?;
            shared.soft().cluster.set_maintenance(index, until_ms);
            tracing::info!(node = index.0, "the time of a maintenance is over");
        }
    }
    Ok(())
}

/// The word for what is wanted of a node.
pub fn admin_word(admin: NodeAdmin) -> &'static str {
    match admin {
        NodeAdmin::InService => "in_service",
        NodeAdmin::Decommissioning => "decommissioning",
        NodeAdmin::Decommissioned => "decommissioned",
    }
}

fn told(admin: NodeAdmin) -> EventKind {
    match admin {
        NodeAdmin::InService => EventKind::NodeInService,
        NodeAdmin::Decommissioning | NodeAdmin::Decommissioned => EventKind::NodeEmptying,
    }
}

fn find(shared: &Shared, text: &str) -> Result<NodeIndex, StoreError> {
    let soft = shared.soft();
    match &soft.cluster.named(text)[..] {
        [node] => Ok(node.index),
        [] => Err(StoreError::new(
            ErrorCode::NotFound,
            format!("no datanode has the id or name {text:?}"),
        )),
        many => Err(StoreError::new(
            ErrorCode::Conflict,
            format!("{} datanodes have the name {text:?}; use an id", many.len()),
        )),
    }
}

fn status(shared: &Shared, index: NodeIndex) -> Result<wire::SetNodeAdminResponse, StoreError> {
    let record = shared.metadata.view()?.node(index)?;
    let record = record.ok_or(crate::mutation::MutationError::NodeUnknown(index))?;
    let (drain, maintenance_until_ms) = {
        let soft = shared.soft();
        let until_ms = soft
            .cluster
            .get(index)
            .and_then(|node| node.maintenance_until_ms);
        (soft.drains.get(&index).cloned(), until_ms)
    };
    let found = drain.as_ref().and_then(|drain| drain.found.as_ref());
    let draining = record.admin == NodeAdmin::Decommissioning;
    let Tally { blocking, first } = match found {
        Some(found) => found.clone(),
        // Nobody has looked yet: all may need it.
        None if draining => Tally {
            blocking: record.replicas,
            first: Vec::new(),
        },
        None => Tally::default(),
    };
    Ok(wire::SetNodeAdminResponse {
        node_id: to_bytes(record.node_id.as_bytes()),
        name: record.name,
        admin: admin_word(record.admin).to_owned(),
        replicas: record.replicas,
        checked: found.is_some() || !draining,
        blocking,
        first: first
            .into_iter()
            .map(|(hash, obstacle)| wire::BlockingFile {
                hash: to_bytes(hash.as_bytes()),
                reason: obstacle.as_str().to_owned(),
            })
            .collect(),
        writes_in_flight: drain.is_some_and(|drain: Drain| drain.writes_in_flight),
        maintenance_until_ms: maintenance_until_ms.unwrap_or(0),
    })
}

/// Enters or leaves safe mode, or only says whether it is on.
pub async fn set_safe_mode(
    shared: &Shared,
    request: wire::SetSafeModeRequest,
) -> Result<wire::SetSafeModeResponse, StoreError> {
    let now_ms = shared.now_ms();
    let mut soft = shared.soft();
    match request.action() {
        SafeModeAction::Get => {}
        SafeModeAction::Leave => {
            tracing::warn!("an operator ends safe mode");
            soft.leave_safe_mode();
            let over = News::of(EventKind::SafeModeOver);
            soft.events.tell(over, shared.wall_ms());
        }
        SafeModeAction::Enter => {
            tracing::warn!("an operator enters safe mode");
            soft.safe_mode.enter();
            let on = News::of(EventKind::SafeModeOn);
            soft.events.tell(on, shared.wall_ms());
        }
        SafeModeAction::Unspecified => return Err(WireError::Value("action").into()),
    }
    Ok(wire::SetSafeModeResponse {
        on: soft.safe_mode.is_on(),
        reason: soft.safe_mode.reason(now_ms).unwrap_or_default(),
        repair_rests: soft.repair_rests(now_ms).unwrap_or_default(),
    })
}
