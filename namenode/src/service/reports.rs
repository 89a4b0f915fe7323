//! What datanodes say they hold: full reports in steps, incremental ones, and replicas that turned out bad.

use richardstore_proto::wire::block_report_request::Step;
use richardstore_proto::wire::{
    self, WireError, hash_field, list_field, node_id_field, optional_hash_field,
};
use richardstore_proto::{
    ContentHash, EventKind, JournalEvent, JournalId, NodeId, RANGES, RangeDigest, RangeDigests,
    ReplicaEntry, Sequence, SessionEpoch, StoreError,
};

use crate::event_log::News;
use crate::file_history::Deed;
use crate::mutation::{Mutation, MutationError, Reply};
use crate::reconcile::compare;
use crate::record::NodeIndex;
use crate::service::unexpected;
use crate::shared::{Shared, offload_failed};

/// Entries in one step of a full report.
const MAX_ENTRIES: usize = 4_096;
/// What the namenode believes is looked at up to this many replicas per step. More than a page, since a datanode may
/// have lost much; a report in which it was not enough is repeated.
const MAX_BELIEVED: usize = 16_384;
/// Events in one incremental report.
const MAX_EVENTS: usize = 8_192;
/// Bytes of a reason that are logged.
const MAX_REASON_BYTES: usize = 256;

/// One step of a full report. It changes nothing but what the datanode will journal (see [`compare`]).
pub async fn full(
    shared: &Shared,
    request: wire::BlockReportRequest,
) -> Result<wire::BlockReportResponse, StoreError> {
    let node_id = node_id_field("node_id", &request.node_id)?;
    let journal_id = journal_field(&request.journal_id)?;
    let session = SessionEpoch(request.session_epoch);
    let Some(index) = reporter(shared, &node_id, session, journal_id)? else {
        return Ok(wire::BlockReportResponse {
            unregistered: true,
            ..wire::BlockReportResponse::default()
        });
    };
    match request.step.ok_or(WireError::Missing("step"))? {
        Step::Digests(digests) => compare_digests(shared, index, digests),
        Step::Entries(entries) => compare_entries(shared, index, entries).await,
        Step::Done(done) => end(shared, index, Sequence(done.sequence)),
    }
}

/// The session is the registered one and the journal the one that reports are counted in.
fn reporter(
    shared: &Shared,
    node_id: &NodeId,
    session: SessionEpoch,
    journal_id: JournalId,
) -> Result<Option<NodeIndex>, StoreError> {
    let Some(index) = shared.session(node_id, session)? else {
        return Ok(None);
    };
    let record = shared.metadata.view()?.node(index)?;
    Ok(record
        .filter(|record| record.journal_id == Some(journal_id))
        .map(|record| record.index))
}

/// The root alone first, then all ranges.
fn compare_digests(
    shared: &Shared,
    index: NodeIndex,
    theirs: wire::ReportDigests,
) -> Result<wire::BlockReportResponse, StoreError> {
    // Before the view: a doubt that comes in between is of something that the view may not have.
    if let Some(node) = shared.soft().cluster.get_mut(index) {
        node.report.begin();
    }
    let ours = shared.metadata.view()?.digests(index)?;
    if theirs.ranges.is_empty() {
        let root = theirs.root.ok_or(WireError::Missing("root"))?;
        return Ok(wire::BlockReportResponse {
            root_agrees: ours.root() == RangeDigest::try_from(&root)?,
            ..wire::BlockReportResponse::default()
        });
    }
    let theirs = range_digests(theirs.ranges)?;
    let differing: Vec<u32> = ours
        .differing(&theirs)
        .into_iter()
        .filter_map(|range| u32::try_from(range).ok())
        .collect();
    Ok(wire::BlockReportResponse {
        root_agrees: differing.is_empty(),
        differing,
        ..wire::BlockReportResponse::default()
    })
}

async fn compare_entries(
    shared: &Shared,
    index: NodeIndex,
    page: wire::ReportEntries,
) -> Result<wire::BlockReportResponse, StoreError> {
    let after = optional_hash_field("after", &page.after)?;
    let through = hash_field("through", &page.through)?;
    let reported = list_field("entries", page.entries, MAX_ENTRIES, ReplicaEntry::try_from)?;
    let ascending = reported.windows(2).all(|pair| pair[0].hash < pair[1].hash);
    let inside = reported
        .iter()
        .all(|entry| after.is_none_or(|after| after < entry.hash) && entry.hash <= through);
    if !ascending || !inside {
        return Err(WireError::Value("entries").into());
    }
    let view = shared.metadata.view()?;
    let believed = shared
        .environment
        .offload
        .run(move || view.replicas_in(index, after, through, MAX_BELIEVED))
        .await
        .map_err(offload_failed)??;
    let mut difference = compare(&reported, &believed);
    if believed.len() == MAX_BELIEVED
        && let Some(last) = believed.last()
    {
        // Behind the last believed replica nothing is known: what was reported there may well be known, too.
        difference.announce.retain(|entry| entry.hash <= last.hash);
        if let Some(node) = shared.soft().cluster.get_mut(index) {
            node.report.cut_short();
        }
    }
    Ok(wire::BlockReportResponse {
        announce: difference.announce.into_iter().map(Into::into).collect(),
        recheck: difference.recheck.into_iter().map(Into::into).collect(),
        ..wire::BlockReportResponse::default()
    })
}

fn end(
    shared: &Shared,
    index: NodeIndex,
    sequence: Sequence,
) -> Result<wire::BlockReportResponse, StoreError> {
    let record = shared.metadata.view()?.node(index)?;
    let applied = record
        .map(|record| record.next_sequence)
        .unwrap_or_default();
    let now_ms = shared.now_ms();
    let fresh = shared
        .soft()
        .cluster
        .get_mut(index)
        .is_some_and(|node| node.report.end(sequence, applied, now_ms));
    log_fresh(index, fresh);
    Ok(wire::BlockReportResponse::default())
}

/// The next events of a journal, applied exactly once (I10).
pub async fn incremental(
    shared: &Shared,
    request: wire::IncrementalBlockReportRequest,
) -> Result<wire::IncrementalBlockReportResponse, StoreError> {
    let unregistered = wire::IncrementalBlockReportResponse {
        unregistered: true,
        next_sequence: 0,
    };
    let node_id = node_id_field("node_id", &request.node_id)?;
    let journal_id = journal_field(&request.journal_id)?;
    let session_epoch = SessionEpoch(request.session_epoch);
    let events = list_field("events", request.events, MAX_EVENTS, JournalEvent::try_from)?;
    shared.metrics.report_events.observe_count(events.len());
    let gapless = events
        .windows(2)
        .all(|pair| pair[0].sequence.next() == pair[1].sequence);
    if !gapless {
        return Err(WireError::Value("events").into());
    }
    let Some(index) = shared.session(&node_id, session_epoch)? else {
        return Ok(unregistered);
    };
    let told: Vec<(ContentHash, bool)> = events
        .iter()
        .map(|event| (event.replica.hash, event.removed))
        .collect();
    let mutation = Mutation::ApplyReport {
        index,
        session_epoch,
        journal_id,
        events,
        now_ms: shared.wall_ms(),
    };
    match shared.metadata.submit(mutation).await {
        Ok(Reply::Applied {
            next_sequence,
            newest_lost,
        }) => {
            let now_ms = shared.now_ms();
            let fresh = {
                let mut soft = shared.soft();
                if let Some(generation) = newest_lost {
                    soft.cluster.lost_in_flight(index, generation);
                }
                soft.reported(&told);
                soft.cluster.applied(index, next_sequence, now_ms)
            };
            log_fresh(index, fresh);
            Ok(wire::IncrementalBlockReportResponse {
                unregistered: false,
                next_sequence: next_sequence.0,
            })
        }
        Ok(other) => Err(unexpected(&other)),
        Err(MutationError::JournalUnknown { .. } | MutationError::NodeUnknown(_)) => {
            Ok(unregistered)
        }
        Err(error) => Err(error.into()),
    }
}

fn log_fresh(index: NodeIndex, fresh: bool) {
    if fresh {
        tracing::info!(node = index.0, "what the datanode holds has been checked");
    }
}

/// Somebody met wrong bytes. Readers ask that replica last from now on.
pub async fn bad_replica(
    shared: &Shared,
    request: wire::ReportBadReplicaRequest,
) -> Result<wire::ReportBadReplicaResponse, StoreError> {
    let hash = hash_field("hash", &request.hash)?;
    let node_id = node_id_field("node_id", &request.node_id)?;
    let record = shared.metadata.view()?.file(&hash)?;
    let node = shared.soft().cluster.by_id(&node_id).map(|node| node.index);
    // Only of replicas that are believed in: otherwise anybody could fill the memory of suspects with inventions.
    let Some(node) =
        node.filter(|&node| record.is_some_and(|record| record.replica(node).is_some()))
    else {
        return Ok(wire::ReportBadReplicaResponse {});
    };
    let news = {
        let mut soft = shared.soft();
        soft.repair.touch(hash);
        soft.suspects.add(hash, node)
    };
    if news {
        let mut reason = request.reason;
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        tracing::warn!(%hash, node = %node_id, reason, "a replica was reported as bad");
        shared.note(hash, Deed::ReportedBad { node, reason });
        shared.tell_of(node, News::of(EventKind::ReplicaCorrupt).hash(hash));
    }
    Ok(wire::ReportBadReplicaResponse {})
}

fn journal_field(bytes: &[u8]) -> Result<JournalId, WireError> {
    JournalId::try_from(bytes).map_err(|source| WireError::Id {
        field: "journal_id",
        source,
    })
}

fn range_digests(ranges: Vec<wire::RangeDigest>) -> Result<RangeDigests, WireError> {
    if ranges.len() > RANGES {
        return Err(WireError::Limit("ranges"));
    }
    let mut digests = RangeDigests::default();
    for range in ranges {
        let number = usize::try_from(range.range).unwrap_or(usize::MAX);
        if number >= RANGES {
            return Err(WireError::Value("range"));
        }
        digests.set(number, RangeDigest::try_from(&range)?);
    }
    Ok(digests)
}
