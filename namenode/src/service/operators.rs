//! What operators change: what is wanted of a datanode, and safe mode.

use richardstore_proto::wire::{self, NodeAction, SafeModeAction, WireError, to_bytes};
use richardstore_proto::{ErrorCode, EventKind, StoreError};

use crate::event_log::News;
use crate::mutation::{Mutation, Reply};
use crate::record::{NodeAdmin, NodeIndex};
use crate::repair::{Drain, Tally};
use crate::service::unexpected;
use crate::shared::Shared;

/// Has a datanode emptied or puts it back in service, durably, and says how far it is.
pub async fn set_node_admin(
    shared: &Shared,
    request: wire::SetNodeAdminRequest,
) -> Result<wire::SetNodeAdminResponse, StoreError> {
    let wanted = match request.action() {
        NodeAction::InService => NodeAdmin::InService,
        NodeAction::Decommission => NodeAdmin::Decommissioning,
        NodeAction::Unspecified => return Err(WireError::Value("action").into()),
    };
    let index = find(shared, &request.node)?;
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
    status(shared, index)
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
    let drain = shared.soft().drains.get(&index).cloned();
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
        admin: match record.admin {
            NodeAdmin::InService => "in_service",
            NodeAdmin::Decommissioning => "decommissioning",
            NodeAdmin::Decommissioned => "decommissioned",
        }
        .to_owned(),
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
