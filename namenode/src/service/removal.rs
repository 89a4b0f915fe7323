//! [`remove_node`]: takes a datanode out of the cluster for good.

use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, ErrorCode, StoreError};

use crate::metadata::{View, ViewError};
use crate::record::{FileRecord, NodeAdmin, NodeIndex, NodeRecord};
use crate::repair::{Position, RemovalCheck, forget};
use crate::shared::{Shared, offload_failed};
use crate::soft_state::SoftState;

/// Replicas that are looked at in a step.
const PAGE: usize = 4_096;
/// How long one call looks through what the node held. Asked again it goes on where it was. Milliseconds.
const PATIENCE_MS: u64 = 1_000;

/// A page of what a node held.
type Page = Vec<(Position, Option<FileRecord>)>;

/// Removes the node, unless it is there or has the last replica of a file that the caller did not accept to lose.
pub async fn remove_node(
    shared: &Shared,
    index: NodeIndex,
    accept_loss: bool,
) -> Result<wire::SetNodeAdminResponse, StoreError> {
    check_gone(shared, index)?;
    let (check, done) = look_through(shared, index).await?;
    let view = shared.metadata.view()?;
    let record = view.node(index)?;
    let record = record.ok_or(crate::mutation::MutationError::NodeUnknown(index))?;
    let removes = done && (check.lost == 0 || accept_loss);
    if removes {
        let _one_at_a_time = shared.node_admin.lock().await;
        check_gone(shared, index)?;
        forget(shared, index, None).await?;
        shared.soft().removed(index);
        tracing::warn!(
            node = %record.node_id, name = record.name, lost = check.lost,
            "an operator removed a datanode from the cluster"
        );
    }
    Ok(answer(record, check, done, removes))
}

/// What is said of a node that was removed before.
pub fn removed_before(shared: &Shared, text: &str) -> Result<Option<NodeRecord>, ViewError> {
    let view = shared.metadata.view()?;
    for index in view.removed_nodes()?.into_keys() {
        let record = view.node(index)?;
        let meant = |record: &NodeRecord| record.name == text || record.node_id.to_string() == text;
        if let Some(record) = record.filter(meant) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// How a removal is answered.
pub fn answer(
    record: NodeRecord,
    check: RemovalCheck,
    checked: bool,
    removed: bool,
) -> wire::SetNodeAdminResponse {
    let admin = match removed {
        true => "removed",
        false => super::operators::admin_word(record.admin),
    };
    wire::SetNodeAdminResponse {
        node_id: to_bytes(record.node_id.as_bytes()),
        name: record.name,
        admin: admin.to_owned(),
        replicas: record.replicas,
        checked,
        blocking: check.lost,
        first: check
            .first
            .into_iter()
            .map(|hash| wire::BlockingFile {
                hash: to_bytes(hash.as_bytes()),
                reason: "no other live datanode has it".to_owned(),
            })
            .collect(),
        writes_in_flight: false,
        maintenance_until_ms: 0,
    }
}

/// A node that is there must be stopped first: it would go on to take part. Of one that was emptied it is enough that it
/// falls silent.
fn check_gone(shared: &Shared, index: NodeIndex) -> Result<(), StoreError> {
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    let node = soft.cluster.get(index);
    let node = node.ok_or(crate::mutation::MutationError::NodeUnknown(index))?;
    let state = node.liveness(soft.cluster.timeouts(), now_ms);
    let gone = match node.admin {
        NodeAdmin::Decommissioned => state != crate::liveness::Liveness::Live,
        NodeAdmin::InService | NodeAdmin::Decommissioning => {
            state == crate::liveness::Liveness::Dead
        }
    };
    if gone {
        return Ok(());
    }
    Err(StoreError::new(
        ErrorCode::Conflict,
        format!(
            "datanode {} was heard from {} ms ago; only one that is dead, or was decommissioned and stopped, can be removed",
            node.name,
            node.silent_ms(now_ms)
        ),
    ))
}

/// Goes on to look for files that nobody else has. `true`: all was looked at.
async fn look_through(
    shared: &Shared,
    index: NodeIndex,
) -> Result<(RemovalCheck, bool), StoreError> {
    let until_ms = shared.now_ms().saturating_add(PATIENCE_MS);
    let mut check = shared
        .soft()
        .removals
        .checks
        .remove(&index)
        .unwrap_or_default();
    loop {
        let (view, after) = (shared.metadata.view()?, check.after);
        let page = shared
            .environment
            .offload
            .run(move || page(&view, index, after))
            .await
            .map_err(offload_failed)??;
        let now_ms = shared.now_ms();
        let mut soft = shared.soft();
        let standing = soft.standing(now_ms);
        if check.standing != standing {
            // What was found to be held by others may have been held by one that is gone since.
            let begins = check.standing.is_empty();
            check = RemovalCheck::among(standing);
            if !begins {
                soft.removals.checks.insert(index, check.clone());
                return Ok((check, false));
            }
        }
        let lost: Vec<ContentHash> = page
            .iter()
            .filter(|((_, hash), record)| is_last(&soft, hash, record.as_ref(), index, now_ms))
            .map(|((_, hash), _)| *hash)
            .collect();
        check.walked(page.last().map(|(place, _)| *place), lost);
        if page.len() < PAGE {
            return Ok((check, true));
        }
        if now_ms >= until_ms {
            soft.removals.checks.insert(index, check.clone());
            return Ok((check, false));
        }
    }
}

fn page(view: &View, index: NodeIndex, after: Option<Position>) -> Result<Page, ViewError> {
    let mut page = Vec::new();
    for place in view.held_by(index, after, PAGE)? {
        let record = match view.file(&place.1) {
            Ok(record) => record,
            // Who else has it cannot be told.
            Err(ViewError::Corrupt(_)) => None,
            Err(error) => return Err(error),
        };
        page.push((place, record));
    }
    Ok(page)
}

fn is_last(
    soft: &SoftState,
    hash: &ContentHash,
    file: Option<&FileRecord>,
    index: NodeIndex,
    now_ms: u64,
) -> bool {
    file.is_none_or(|file| {
        let mut others = file.replicas.iter().filter(|held| held.node != index);
        !others.any(|held| soft.stands(hash, held.node, now_ms))
    })
}
