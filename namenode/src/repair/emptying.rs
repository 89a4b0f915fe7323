//! [`run_emptying`]: walks what the nodes that are being emptied hold, and says when nothing needs them any more.
//!
//! A round reads one bounded page for each of them. The copies themselves are ordered by repair, which counts such a node for
//! nothing. After a restart the walks begin anew; that a node is to be emptied is in its record.

use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::{ContentHash, Generation, StoreError};

use super::case::{Case, RepairNode};
use super::drain::{Drain, Obstacle, obstacle};
use super::plan::Nodes;
use super::round::least;
use crate::metadata::{View, ViewError};
use crate::mutation::{Mutation, Reply};
use crate::record::{CommandRecordAction, FileRecord, NodeAdmin, NodeIndex};
use crate::shared::{Shared, offload_failed};
use crate::soft_state::SoftState;
use crate::ticker::Ticks;

const PERIOD: Duration = Duration::from_millis(200);
/// Files of one node in a round.
const PAGE: usize = 4_096;

/// A file that a node holds: its record, and the repair under way.
type Held = (
    (Generation, ContentHash),
    Result<(FileRecord, Option<CommandRecordAction>), Obstacle>,
);

/// Empties nodes until the namenode stops.
pub async fn run_emptying(shared: Arc<Shared>) {
    let mut ticks = Ticks::every(PERIOD, shared.tasks.stopping());
    while ticks.next().await {
        if let Err(error) = round(&shared).await {
            tracing::warn!("a round of emptying datanodes failed: {error}");
        }
    }
}

async fn round(shared: &Shared) -> Result<(), StoreError> {
    let wanted: Vec<NodeIndex> = {
        let soft = shared.soft();
        let emptied = |admin| admin == NodeAdmin::Decommissioning;
        let wanted = soft.cluster.iter().filter(|node| emptied(node.admin));
        wanted.map(|node| node.index).collect()
    };
    for index in wanted {
        if walk(shared, index).await? {
            finish(shared, index).await?;
        }
    }
    Ok(())
}

/// Walks one page. `true`: the node is empty in all but fact.
async fn walk(shared: &Shared, index: NodeIndex) -> Result<bool, StoreError> {
    let now_ms = shared.now_ms();
    let (view, placed_before, position) = {
        let _one_at_a_time = shared.node_admin.lock().await;
        // The view is younger than the wish: a write that is placed later has a generation that it does not know.
        let view = shared.metadata.view()?;
        let next_generation = view.next_generation()?;
        let mut soft = shared.soft();
        let node = soft.cluster.get(index);
        if node.is_none_or(|node| node.admin != NodeAdmin::Decommissioning) {
            return Ok(false);
        }
        let drain = soft.drains.entry(index);
        let drain = drain.or_insert_with(|| Drain::new(next_generation));
        (view, drain.placed_before, drain.position(now_ms))
    };
    let Some(after) = position else {
        return Ok(false);
    };
    let replicas = view.node(index)?.map_or(0, |node| node.replicas);
    let writes_in_flight = view.write_open_before(placed_before)?;
    let page = shared
        .environment
        .offload
        .run(move || page(&view, index, after))
        .await
        .map_err(offload_failed)??;

    let least = least(shared);
    let mut soft = shared.soft();
    let nodes = nodes(&soft, now_ms);
    let obstacles: Vec<_> = page
        .iter()
        .filter_map(|((_, hash), held)| {
            Some((*hash, obstacle_of(&soft, *hash, held, least, &nodes)?))
        })
        .collect();
    let Some(drain) = soft.drains.get_mut(&index) else {
        return Ok(false); // back in service meanwhile
    };
    if let Some((last, _)) = page.last() {
        drain.walked(*last, page.len() as u64, obstacles);
    }
    Ok(page.len() < PAGE && drain.ended(replicas, writes_in_flight, now_ms))
}

fn page(
    view: &View,
    index: NodeIndex,
    after: Option<(Generation, ContentHash)>,
) -> Result<Vec<Held>, ViewError> {
    let mut page = Vec::new();
    for key in view.held_by(index, after, PAGE)? {
        let held = match view.file(&key.1) {
            Ok(Some(record)) => {
                let repair = view.repair_of(&key.1)?.map(|command| command.action);
                Ok((record, repair))
            }
            Ok(None) | Err(ViewError::Corrupt(_)) => Err(Obstacle::Damaged),
            Err(error) => return Err(error),
        };
        page.push((key, held));
    }
    Ok(page)
}

fn obstacle_of(
    soft: &SoftState,
    hash: ContentHash,
    held: &Result<(FileRecord, Option<CommandRecordAction>), Obstacle>,
    least: usize,
    nodes: &Nodes,
) -> Option<Obstacle> {
    match held {
        Ok((record, repair)) => {
            let case = Case::of(soft, hash, record, least, None);
            obstacle(&case, nodes, repair.as_ref())
        }
        Err(obstacle) => Some(*obstacle),
    }
}

fn nodes(soft: &SoftState, now_ms: u64) -> Nodes {
    let timeouts = soft.cluster.timeouts();
    soft.cluster
        .iter()
        .map(|node| (node.index, RepairNode::of(node, 0, timeouts, now_ms)))
        .collect()
}

/// Writes down that the node is emptied, unless the operator wants it back.
async fn finish(shared: &Shared, index: NodeIndex) -> Result<(), StoreError> {
    let _one_at_a_time = shared.node_admin.lock().await;
    // Taken back, and perhaps asked for again: then this walk is not about that wish.
    let complete = |drain: &Drain| {
        let found = drain.found.as_ref();
        found.is_some_and(|found| found.blocking == 0) && !drain.writes_in_flight
    };
    if !shared.soft().drains.get(&index).is_some_and(complete) {
        return Ok(());
    }
    let mutation = Mutation::SetNodeAdmin {
        index,
        admin: NodeAdmin::Decommissioned,
    };
    if let Reply::NodeAdmin { admin } = shared.metadata.submit(mutation).await? {
        let mut soft = shared.soft();
        soft.cluster.set_admin(index, admin);
        soft.drains.remove(&index);
        tracing::info!(node = index.0, ?admin, "datanode is emptied");
    }
    Ok(())
}
