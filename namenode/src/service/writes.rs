//! What becomes of writes: more time, the commit, the way back.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use richardstore_failpoint::failpoint;
use richardstore_proto::wire::{self, WireError, list_field, node_id_field};
use richardstore_proto::{ErrorCode, FileInfo, Generation, MAX_REPLICATION, NodeId, StoreError};

use crate::mutation::{Mutation, Reply};
use crate::service::allocations::{needed_replicas, replication};
use crate::service::unexpected;
use crate::shared::{Shared, place_among};

/// Generations or files in one call.
const MAX_BATCH: usize = 1024;

/// Gives writes more time.
pub async fn renew(
    shared: &Shared,
    request: wire::RenewWritesRequest,
) -> Result<wire::RenewWritesResponse, StoreError> {
    let mutation = Mutation::RenewWrites {
        generations: generations(request.generations)?,
        expires_at_ms: shared.write_expiry_ms(),
    };
    match shared.metadata.submit(mutation).await? {
        Reply::Renewed { unknown } => Ok(wire::RenewWritesResponse {
            unknown: unknown.into_iter().map(|generation| generation.0).collect(),
        }),
        other => Err(unexpected(&other)),
    }
}

/// Gives writes back.
pub async fn abandon(
    shared: &Shared,
    request: wire::AbandonWritesRequest,
) -> Result<wire::AbandonWritesResponse, StoreError> {
    let mutation = Mutation::AbandonWrites {
        generations: generations(request.generations)?,
        now_ms: shared.wall_ms(),
    };
    shared.metadata.submit(mutation).await?;
    Ok(wire::AbandonWritesResponse {})
}

/// Makes files readable, each on its own: one that is refused does not hold up the others.
pub async fn commit(
    shared: &Arc<Shared>,
    request: wire::CommitFilesRequest,
) -> Result<wire::CommitFilesResponse, StoreError> {
    if request.files.len() > MAX_BATCH {
        return Err(WireError::Limit("files").into());
    }
    let place = place_among(&shared.commits).await;
    let committing = shared.clone();
    let results = shared.to_the_end(place, async move {
        // Submitted together, so that they share one durable commit.
        let files = request.files.into_iter();
        join_all(files.map(|file| commit_one(&committing, file))).await
    });
    let results = results.await?;
    let results = results
        .into_iter()
        .map(|result| {
            result.unwrap_or_else(|error| wire::CommitResult {
                error_code: error.code.number(),
                error: error.message,
                ..wire::CommitResult::default()
            })
        })
        .collect();
    Ok(wire::CommitFilesResponse { results })
}

async fn commit_one(
    shared: &Shared,
    commit: wire::FileCommit,
) -> Result<wire::CommitResult, StoreError> {
    let file = FileInfo::try_from(commit.file.ok_or(WireError::Missing("file"))?)?;
    let replication = replication(file.replication, shared)?;
    let nodes = list_field("nodes", commit.nodes, MAX_REPLICATION, |id| {
        node_id_field("nodes", &id)
    })?;
    let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
    check_acknowledgements(shared, &file, replication, &nodes)?;
    let mutation = Mutation::CommitFile {
        generation: file.generation,
        hash: file.hash,
        size: file.size,
        blake3_root: file.blake3_root,
        replication,
        nodes: nodes.into_iter().collect(),
        now_ms: shared.wall_ms(),
    };
    failpoint("namenode-file-committing");
    let committed = shared.metadata.submit(mutation).await?;
    failpoint("namenode-file-committed");
    match committed {
        Reply::Committed {
            created,
            replicas,
            created_ms,
        } => {
            check_late_holders(shared, &file)?;
            let wall_ms = shared.wall_ms();
            let history = &mut shared.soft().history;
            history.committed(file.hash, file.generation, created, wall_ms);
            Ok(wire::CommitResult {
                created,
                replicas,
                created_ms,
                error_code: 0,
                error: String::new(),
            })
        }
        other => Err(unexpected(&other)),
    }
}

/// I6: a datanode that acknowledged a write and lost its disk before the commit may have been through its full report by then.
/// Nothing would tell that it holds nothing before the next one, an hour later.
fn check_late_holders(shared: &Shared, file: &FileInfo) -> Result<(), StoreError> {
    if !shared.soft().cluster.may_be_lost(file.generation) {
        return Ok(());
    }
    let record = shared.metadata.view()?.file(&file.hash)?;
    let replicas = record.into_iter().flat_map(|record| record.replicas);
    let mut soft = shared.soft();
    for replica in replicas.filter(|replica| replica.generation == file.generation) {
        soft.cluster.told_of(replica.node, replica.generation);
    }
    Ok(())
}

/// I1: nothing is acknowledged that is on fewer disks than promised.
fn check_acknowledgements(
    shared: &Shared,
    file: &FileInfo,
    replication: u32,
    nodes: &BTreeSet<NodeId>,
) -> Result<(), StoreError> {
    let needed = needed_replicas(shared, replication)?;
    if let Some(unknown) = nodes
        .iter()
        .find(|id| shared.soft().cluster.by_id(id).is_none())
    {
        // Not "not found": that would be read as a missing file.
        return Err(StoreError::new(
            ErrorCode::Conflict,
            format!("{}: node {unknown} never registered", file.hash),
        ));
    }
    if nodes.len() < needed {
        return Err(StoreError::new(
            ErrorCode::InsufficientReplicas,
            format!(
                "{}: {} datanodes have it, {needed} are needed",
                file.hash,
                nodes.len()
            ),
        ));
    }
    Ok(())
}

fn generations(numbers: Vec<u64>) -> Result<Vec<Generation>, WireError> {
    list_field("generations", numbers, MAX_BATCH, |number| {
        Ok::<_, WireError>(Generation(number))
    })
}
