//! [`check`]: looks at every file and says which are not as they should be. A page of files is read from one snapshot, so
//! that neither memory nor the age of a snapshot grows with the number of files.

use std::collections::BTreeMap;
use std::sync::Arc;

use richardstore_proto::wire;
use richardstore_proto::{ContentHash, StoreError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::why::{holders, located, node_facts};
use crate::metadata::ViewError;
use crate::record::{FileRecord, NodeIndex};
use crate::shared::{Shared, offload_failed};
use crate::why::{FileState, NodeFacts, Standing, racks_there};

/// Files of one page.
const PAGE: usize = 1_000;
/// Parts that wait for a slow reader.
const QUEUED_PARTS: usize = 2;

/// The answer, as it comes.
pub type CheckStream = ReceiverStream<Result<wire::CheckPart, Status>>;

/// Begins the check. It ends with its reader, or with the namenode.
pub fn check(shared: &Arc<Shared>) -> CheckStream {
    let (parts, queue) = mpsc::channel(QUEUED_PARTS);
    let shared = shared.clone();
    let stopping = shared.tasks.stopping();
    shared.clone().tasks.spawn(async move {
        let work = async {
            if let Err(error) = walk(&shared, &parts).await {
                // A reader that is gone needs no error.
                let _ = parts.send(Err(error.into())).await;
            }
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = work => {}
        }
    });
    ReceiverStream::new(queue)
}

async fn walk(
    shared: &Shared,
    parts: &mpsc::Sender<Result<wire::CheckPart, Status>>,
) -> Result<(), StoreError> {
    let mut totals = wire::CheckTotals::default();
    let mut after = None;
    loop {
        let view = shared.metadata.view()?;
        let read = move || -> Result<Vec<(ContentHash, FileRecord)>, ViewError> {
            view.files(after, "", PAGE)
        };
        let page = shared.environment.offload.run(read).await;
        let page = page.map_err(offload_failed)??;
        let full = page.len() == PAGE;
        after = page.last().map(|(hash, _)| *hash);
        let findings = judge(shared, &page, &mut totals);
        if !full {
            finish(shared, &mut totals)?;
        }
        let part = wire::CheckPart {
            findings,
            totals: Some(totals),
            done: !full,
        };
        if parts.send(Ok(part)).await.is_err() || !full {
            return Ok(());
        }
    }
}

fn judge(
    shared: &Shared,
    page: &[(ContentHash, FileRecord)],
    totals: &mut wire::CheckTotals,
) -> Vec<wire::CheckFinding> {
    let nodes = nodes(shared);
    let racks = racks_there(&nodes);
    let mut found = Vec::new();
    for (hash, record) in page {
        let holders = holders(&shared.soft(), *hash, record);
        let standing = Standing::of(&nodes, racks, record.replication, &holders);
        let state = standing.state();
        totals.files += 1;
        totals.bytes = totals.bytes.saturating_add(record.size);
        *match state {
            FileState::Missing => &mut totals.missing,
            FileState::Damaged => &mut totals.damaged,
            FileState::UnderReplicated => &mut totals.under_replicated,
            FileState::OverReplicated => &mut totals.over_replicated,
            FileState::Misplaced => &mut totals.misplaced,
            FileState::Healthy => &mut totals.healthy,
        } += 1;
        if state != FileState::Healthy {
            found.push(wire::CheckFinding {
                file: Some(located(shared, *hash, record).into()),
                state: state.as_str().to_owned(),
                summary: standing.summary(),
            });
        }
    }
    found
}

fn nodes(shared: &Shared) -> BTreeMap<NodeIndex, NodeFacts> {
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    let timeouts = soft.cluster.timeouts();
    let nodes = soft.cluster.iter();
    nodes
        .map(|node| (node.index, node_facts(node, timeouts, now_ms)))
        .collect()
}

/// What is no file: deletes that are not over, and replicas that no file has.
fn finish(shared: &Shared, totals: &mut wire::CheckTotals) -> Result<(), StoreError> {
    let view = shared.metadata.view()?;
    let counts = view.counts()?;
    totals.unconfirmed_deletes = counts.tombstones;
    totals.foreign_replicas = counts.foreign_replicas;
    let records = view.nodes()?;
    let soft = shared.soft();
    for record in records {
        let Some(node) = soft
            .cluster
            .get(record.index)
            .filter(|node| node.registered)
        else {
            continue;
        };
        let surplus = node.stats.replicas.saturating_sub(record.replicas);
        totals.orphaned_replicas = totals.orphaned_replicas.saturating_add(surplus);
    }
    Ok(())
}
