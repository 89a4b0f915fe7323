//! [`why`]: looks up everything that bears on one hash and has it explained.

use std::collections::BTreeMap;

use richardstore_proto::wire::{self, hash_field, to_bytes};
use richardstore_proto::{ContentHash, FileLocations, NodeState, StoreError};

use crate::known_node::KnownNode;
use crate::liveness::Timeouts;
use crate::metadata::{RepairUnderWay, View, ViewError};
use crate::record::{
    CommandRecord, CommandRecordAction, FileRecord, NodeAdmin, ParkedReplica, Replica,
    TombstoneRecord,
};
use crate::repair::copy_limit_ms;
use crate::shared::{Shared, offload_failed};
use crate::soft_state::SoftState;
use crate::why::{
    Buried, DeleteFacts, Explanation, Facts, HolderFacts, NodeFacts, Planned, Subject, explain,
};

/// Replicas under uploads in flight that are named.
const MAX_PARKED: usize = 16;

/// Says how a hash is doing, and why.
pub async fn why(
    shared: &Shared,
    request: wire::WhyRequest,
) -> Result<wire::WhyResponse, StoreError> {
    let hash = hash_field("hash", &request.hash)?;
    let view = shared.metadata.view()?;
    let found = shared
        .environment
        .offload
        .run(move || Records::read(&view, hash))
        .await
        .map_err(offload_failed)??;
    let deleted_ms = found.tombstone.as_ref().map_or(0, |tomb| tomb.deleted_ms);
    let file = found
        .file
        .as_ref()
        .map(|record| located(shared, hash, record));
    let explanation = explain(&facts(shared, hash, found));
    Ok(answer(hash, file, deleted_ms, explanation))
}

/// What one snapshot says of a hash.
struct Records {
    file: Option<FileRecord>,
    tombstone: Option<TombstoneRecord>,
    deletes: Vec<Option<CommandRecord>>,
    repair: Option<RepairUnderWay>,
    parked: Vec<ParkedReplica>,
}

impl Records {
    fn read(view: &View, hash: ContentHash) -> Result<Self, ViewError> {
        let tombstone = view.tombstone(&hash)?;
        let holders = tombstone.iter().flat_map(|tombstone| &tombstone.holders);
        let deletes = holders
            .map(|holder| view.command(holder.node, holder.command))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            file: view.file(&hash)?,
            tombstone,
            deletes,
            repair: view.repair_under_way(&hash)?,
            parked: view.parked(&hash, MAX_PARKED)?,
        })
    }
}

fn facts(shared: &Shared, hash: ContentHash, found: Records) -> Facts {
    let (now_ms, wall_ms) = (shared.now_ms(), shared.wall_ms());
    let soft = shared.soft();
    let timeouts = soft.cluster.timeouts();
    let nodes: BTreeMap<_, _> = soft
        .cluster
        .iter()
        .map(|node| (node.index, node_facts(node, timeouts, now_ms)))
        .collect();
    let size = found.file.as_ref().map_or(0, |record| record.size);
    let planned = found.repair.map(|repair| planned(&soft, repair, size));
    let switched_off = (shared.config.repair_bytes_per_second == 0)
        .then(|| "Copies are switched off: repair may use 0 bytes a second.".to_owned());
    let setback = soft.repair.setback(&hash);
    Facts {
        hash,
        now_ms: wall_ms,
        buried: found
            .file
            .as_ref()
            .and(found.tombstone.as_ref())
            .map(|tombstone| Buried {
                generation: tombstone.generation,
                deleted_ms: tombstone.deleted_ms,
                holders: tombstone.holders.len(),
            }),
        story: soft.history.of(&hash),
        deadline_now_ms: shared.deadline_ms(),
        subject: match (found.file, found.tombstone) {
            (Some(record), _) => Subject::File {
                holders: holders(&soft, hash, &record),
                record,
            },
            (None, Some(tombstone)) => delete_facts(&soft, tombstone, found.deletes),
            (None, None) => Subject::Unknown,
        },
        nodes,
        parked: found.parked,
        planned,
        halted: soft.halted(now_ms).or(switched_off),
        rests_ms: setback.map_or(0, |setback| setback.not_before_ms.saturating_sub(now_ms)),
        waiting: soft.repair.progress.waiting,
    }
}

pub(super) fn node_facts(node: &KnownNode, timeouts: Timeouts, now_ms: u64) -> NodeFacts {
    let state = node.state(timeouts, now_ms);
    NodeFacts {
        name: node.name.clone(),
        rack: node.rack.clone(),
        state,
        counts: node.admin == NodeAdmin::InService
            && !node.is_expected_away()
            && !node.stats.volume_failed
            && matches!(state, NodeState::Live | NodeState::Stale),
        registered: node.registered,
        read_only: node.stats.read_only,
        available_bytes: node.candidate(timeouts, now_ms).available_bytes,
        silent_ms: node.silent_ms(now_ms),
    }
}

fn planned(soft: &SoftState, repair: RepairUnderWay, size: u64) -> Planned {
    let RepairUnderWay {
        node, id, record, ..
    } = repair;
    let is_copy = matches!(record.action, CommandRecordAction::Replicate { .. });
    let known = soft.cluster.get(node);
    Planned {
        node,
        id,
        handed_out: known.is_some_and(|known| known.delivery.is_out(id)),
        deadline_ms: is_copy.then(|| record.issued_ms.saturating_add(copy_limit_ms(size))),
        command: record,
    }
}

/// The replicas of a file, and what speaks against them.
pub(super) fn holders(
    soft: &SoftState,
    hash: ContentHash,
    record: &FileRecord,
) -> Vec<HolderFacts> {
    let facts = |replica: &Replica| HolderFacts {
        node: replica.node,
        generation: replica.generation,
        suspect: soft.suspects.contains(&hash, replica.node),
        unsettled: soft.repair.is_unsettled(&hash, replica.node),
    };
    record.replicas.iter().map(facts).collect()
}

fn delete_facts(
    soft: &SoftState,
    tombstone: TombstoneRecord,
    commands: Vec<Option<CommandRecord>>,
) -> Subject {
    let deletes = tombstone
        .holders
        .iter()
        .zip(commands)
        .map(|(holder, command)| DeleteFacts {
            node: holder.node,
            id: holder.command,
            command,
            handed_out: soft
                .cluster
                .get(holder.node)
                .is_some_and(|known| known.delivery.is_out(holder.command)),
        })
        .collect();
    Subject::Deleted {
        generation: tombstone.generation,
        deleted_ms: tombstone.deleted_ms,
        deletes,
    }
}

/// The file with its nodes in the order of the record, which is that of the words.
pub(super) fn located(shared: &Shared, hash: ContentHash, record: &FileRecord) -> FileLocations {
    let now_ms = shared.now_ms();
    let soft = shared.soft();
    let timeouts = soft.cluster.timeouts();
    let nodes = record.replicas.iter().filter_map(|replica| {
        let node = soft.cluster.get(replica.node)?;
        Some(node.info(replica.generation, timeouts, now_ms))
    });
    FileLocations {
        file: record.info(hash),
        nodes: nodes.collect(),
    }
}

fn answer(
    hash: ContentHash,
    file: Option<FileLocations>,
    deleted_ms: u64,
    explanation: Explanation,
) -> wire::WhyResponse {
    wire::WhyResponse {
        hash: to_bytes(hash.as_bytes()),
        state: explanation.state.to_owned(),
        summary: explanation.summary,
        file: file.map(Into::into),
        deleted_ms,
        replicas: explanation.replicas,
        placement: explanation.placement,
        planned: explanation.planned,
        blocked: explanation.blocked,
        next: explanation.next,
        history: explanation.history,
    }
}
