//! [`write_file`]: generations and chains for new writes, replacements for one under way.

use std::collections::BTreeSet;

use richardstore_proto::wire::{self, WireError, list_field, node_id_field, optional_hash_field};
use richardstore_proto::{
    Allocation, ContentHash, ErrorCode, Generation, MAX_REPLICATION, NodeId, StoreError,
};

use crate::cluster::Cluster;
use crate::mutation::{Mutation, MutationError, Reply};
use crate::placement::{Shortage, Wanted};
use crate::record::{FileRecord, MAX_WRITES_PER_ALLOCATION, NodeIndex};
use crate::service::unexpected;
use crate::shared::Shared;

/// Writes in flight in the whole cluster; past it allocations wait for commits (I11).
const MAX_WRITES_IN_FLIGHT: u64 = 1 << 18;
/// Nodes a caller may exclude.
const MAX_EXCLUDED: usize = 1024;

/// A [`wire::WriteFileRequest`] that makes sense.
struct WriteQuery {
    count: u32,
    bytes: u64,
    replication: u32,
    declared: Option<ContentHash>,
    excluded: Vec<NodeId>,
    replace: Option<Generation>,
    acknowledged: Vec<NodeId>,
    targets_wanted: usize,
}

impl WriteQuery {
    fn parse(request: wire::WriteFileRequest, shared: &Shared) -> Result<Self, StoreError> {
        if request.count > MAX_WRITES_PER_ALLOCATION {
            return Err(WireError::Limit("count").into());
        }
        let replace = (request.generation > 0).then_some(Generation(request.generation));
        if request.count == 0 && replace.is_none() {
            return Err(WireError::Value("count").into());
        }
        let targets_wanted = usize::try_from(request.targets_wanted)
            .ok()
            .filter(|&wanted| wanted <= MAX_REPLICATION)
            .ok_or(WireError::Limit("targets_wanted"))?;
        Ok(Self {
            count: request.count,
            bytes: request.size_hint,
            replication: replication(request.replication, shared)?,
            declared: optional_hash_field("declared_hash", &request.declared_hash)?,
            excluded: list_field(
                "excluded_nodes",
                request.excluded_nodes,
                MAX_EXCLUDED,
                |id| node_id_field("excluded_nodes", &id),
            )?,
            replace,
            acknowledged: list_field(
                "acknowledged_nodes",
                request.acknowledged_nodes,
                MAX_REPLICATION,
                |id| node_id_field("acknowledged_nodes", &id),
            )?,
            targets_wanted,
        })
    }

    fn excluded(&self, shared: &Shared) -> BTreeSet<NodeIndex> {
        known(&self.excluded, shared)
    }
}

/// Allocates writes, finds replacements for one under way, or says that the declared content is there.
pub async fn write_file(
    shared: &Shared,
    request: wire::WriteFileRequest,
) -> Result<wire::WriteFileResponse, StoreError> {
    let query = WriteQuery::parse(request, shared)?;
    let needed = needed_replicas(shared, query.replication)?;
    let mut response = wire::WriteFileResponse {
        min_replication: u32::try_from(needed).unwrap_or(u32::MAX),
        expires_in_ms: shared.config.write_timeout_ms,
        ..wire::WriteFileResponse::default()
    };
    if let Some(generation) = query.replace {
        response.allocations = vec![replacements(shared, &query, generation).await?.into()];
        return Ok(response);
    }
    if let Some(hash) = query.declared
        && let Some(record) = shared.metadata.view()?.file(&hash)?
        && is_well_held(shared, &hash, &record, needed)
    {
        response.existing = Some(shared.locate(hash, &record).0.into());
        return Ok(response);
    }
    let allocations = allocate(shared, &query, needed).await?;
    response.allocations = allocations.into_iter().map(Into::into).collect();
    Ok(response)
}

async fn allocate(
    shared: &Shared,
    query: &WriteQuery,
    needed: usize,
) -> Result<Vec<Allocation>, StoreError> {
    let excluded = query.excluded(shared);
    // Asked before a generation is spent: a cluster without room must not write a record per refused upload.
    check_room(shared, query.bytes, &excluded, needed)?;
    let in_flight = shared.metadata.view()?.writes_open()?;
    if in_flight >= MAX_WRITES_IN_FLIGHT {
        return Err(StoreError::new(
            ErrorCode::Unavailable,
            format!("{in_flight} writes are in flight; try again when some have ended"),
        ));
    }
    let mutation = Mutation::AllocateWrites {
        count: query.count,
        expires_at_ms: shared.write_expiry_ms(),
    };
    let first = match shared.metadata.submit(mutation).await? {
        Reply::Writes { first } => first,
        other => return Err(unexpected(&other)),
    };
    let count = usize::try_from(query.replication).unwrap_or(MAX_REPLICATION);
    let wanted: Vec<Wanted> = (first.0..)
        .take(usize::try_from(query.count).unwrap_or(0))
        .map(|seed| Wanted {
            count,
            bytes: query.bytes,
            seed,
        })
        .collect();
    Ok(place(shared, &wanted, &excluded))
}

/// More nodes for a write under way. The write is renewed on the way, which also proves that it still is one.
async fn replacements(
    shared: &Shared,
    query: &WriteQuery,
    generation: Generation,
) -> Result<Allocation, StoreError> {
    let mutation = Mutation::RenewWrites {
        generations: vec![generation],
        expires_at_ms: shared.write_expiry_ms(),
    };
    match shared.metadata.submit(mutation).await? {
        Reply::Renewed { unknown } if unknown.is_empty() => {}
        Reply::Renewed { .. } => return Err(MutationError::WriteUnknown { generation }.into()),
        other => return Err(unexpected(&other)),
    }
    let wanted = Wanted {
        count: query.targets_wanted,
        bytes: query.bytes,
        seed: generation.0,
    };
    let (excluded, beside) = (query.excluded(shared), known(&query.acknowledged, shared));
    let now_ms = shared.now_ms();
    let mut soft = shared.soft();
    let chain = soft
        .cluster
        .place_beside(wanted, &excluded, &beside, now_ms);
    Ok(allocation(&soft.cluster, generation, chain, now_ms))
}

/// Those of `ids` that have registered.
fn known(ids: &[NodeId], shared: &Shared) -> BTreeSet<NodeIndex> {
    let soft = shared.soft();
    ids.iter()
        .filter_map(|id| soft.cluster.by_id(id))
        .map(|node| node.index)
        .collect()
}

fn place(shared: &Shared, wanted: &[Wanted], excluded: &BTreeSet<NodeIndex>) -> Vec<Allocation> {
    let now_ms = shared.now_ms();
    let mut soft = shared.soft();
    let chains = soft.cluster.place(wanted, excluded, now_ms);
    wanted
        .iter()
        .zip(chains)
        .map(|(one, chain)| allocation(&soft.cluster, Generation(one.seed), chain, now_ms))
        .collect()
}

fn allocation(
    cluster: &Cluster,
    generation: Generation,
    chain: Vec<NodeIndex>,
    now_ms: u64,
) -> Allocation {
    let timeouts = cluster.timeouts();
    Allocation {
        generation,
        targets: chain
            .into_iter()
            .filter_map(|index| cluster.get(index))
            .map(|node| node.info(Generation::default(), timeouts, now_ms))
            .collect(),
    }
}

fn check_room(
    shared: &Shared,
    bytes: u64,
    excluded: &BTreeSet<NodeIndex>,
    needed: usize,
) -> Result<(), StoreError> {
    let shortage = shared
        .soft()
        .cluster
        .shortage(bytes, excluded, needed, shared.now_ms());
    match shortage {
        None => Ok(()),
        Some(Shortage::Room { fit }) => Err(StoreError::new(
            ErrorCode::StorageFull,
            format!("{fit} datanodes have room for the file, {needed} are needed"),
        )),
        Some(Shortage::Nodes { fit }) => Err(StoreError::new(
            ErrorCode::InsufficientReplicas,
            format!("{fit} datanodes take writes now, {needed} are needed"),
        )),
    }
}

/// Whether known content need not be sent again. A file whose replicas are gone is better uploaded once more.
fn is_well_held(shared: &Shared, hash: &ContentHash, record: &FileRecord, needed: usize) -> bool {
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    let held = record.replicas.iter();
    let held = held.filter(|held| soft.stands(hash, held.node, now_ms));
    held.count() >= needed
}

/// Replicas that must be on disk before a write with this target is acknowledged.
pub fn needed_replicas(shared: &Shared, replication: u32) -> Result<usize, StoreError> {
    let members = shared.soft().cluster.census(shared.now_ms()).members;
    if members == 0 {
        return Err(StoreError::new(
            ErrorCode::InsufficientReplicas,
            "no datanode has registered",
        ));
    }
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    let needed = shared.config.min_replication.min(replication).min(members);
    Ok(usize::try_from(needed.max(1)).unwrap_or(MAX_REPLICATION))
}

/// The replication target, with the default for 0.
pub fn replication(asked: u32, shared: &Shared) -> Result<u32, WireError> {
    match asked {
        0 => Ok(shared.config.replication),
        asked if usize::try_from(asked).is_ok_and(|asked| asked <= MAX_REPLICATION) => Ok(asked),
        _ => Err(WireError::Limit("replication")),
    }
}
