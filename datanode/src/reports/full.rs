//! The full report: a reconciliation that changes nothing at the namenode by itself.
//!
//! Digests find the ranges that differ, their entries find the replicas, and each of these is looked at in the directory
//! and journaled as it really is. All changes go the one way that is exactly-once (I10).

use richardstore_proto::wire::block_report_request::Step;
use richardstore_proto::wire::{self, list_field, to_bytes};
use richardstore_proto::{
    ContentHash, RANGES, RangeDigest, RangeDigests, ReplicaEntry, Sequence, StoreError,
    range_bounds,
};

use super::reporter::{ReportEnd, Reporting};
use crate::index::{Index, IndexError};
use crate::pipeline::offload_failed;

/// Entries in one message.
const PAGE_ENTRIES: usize = 4096;
/// Replicas that one answer may ask about.
const MAX_ASKED: usize = 4 * PAGE_ENTRIES;

impl Reporting<'_> {
    /// One pass over everything.
    pub(super) async fn reconcile(&mut self) -> Result<(), ReportEnd> {
        // What is on its way anyway would show up as a difference.
        self.flush().await?;
        let digests = self.ask_index(|index| Ok(index.digests())).await?;
        let answer = self.send_step(root_step(&digests)).await?;
        let mut listed = 0;
        if !answer.root_agrees {
            let answer = self.send_step(ranges_step(&digests)).await?;
            let differing = list_field("differing", answer.differing, RANGES, known_range);
            for range in differing.map_err(StoreError::from)? {
                listed += self.report_range(range).await?;
            }
        }
        let sizes = &self.node.metrics.full_report_replicas;
        sizes.observe_count(listed);
        self.flush().await?;
        let sequence = self.ask_index(|index| Ok(index.next_sequence())).await?;
        self.send_step(done_step(sequence)).await?;
        Ok(())
    }

    /// Returns how many replicas it listed.
    async fn report_range(&mut self, range: usize) -> Result<usize, ReportEnd> {
        let bounds = range_bounds(range).ok_or(ReportEnd::Register)?;
        let mut after = range
            .checked_sub(1)
            .and_then(range_bounds)
            .map(|(_, last)| last);
        let mut listed = 0;
        loop {
            let entries = self
                .ask_index(move |index| index.entries(after, bounds.1, PAGE_ENTRIES))
                .await?;
            listed += entries.len();
            let last = entries.last().map(|entry| entry.hash);
            // A full page says nothing about what lies behind it.
            let through = match last {
                Some(last) if entries.len() >= PAGE_ENTRIES => last,
                _ => bounds.1,
            };
            let answer = self
                .send_step(entries_step(after, through, entries))
                .await?;
            self.look_again(answer).await?;
            // Page by page, so that uploads behind a long report do not wait for its end.
            self.flush().await?;
            if through == bounds.1 {
                return Ok(listed);
            }
            after = Some(through);
        }
    }

    /// Looks at each replica in question under its lock, and journals what is there.
    async fn look_again(&self, answer: wire::BlockReportResponse) -> Result<(), ReportEnd> {
        let mut asked = entries_field("announce", answer.announce)?;
        asked.extend(entries_field("recheck", answer.recheck)?);
        if asked.is_empty() {
            return Ok(());
        }
        let volume = self.node.volume.clone();
        let looked = self.node.environment.offload.run(move || {
            asked
                .iter()
                .filter_map(|entry| Some((entry.hash, volume.reconcile(entry).err()?)))
                .collect::<Vec<_>>()
        });
        // One bad replica must not keep the rest of the report back.
        for (hash, error) in looked.await.map_err(offload_failed)? {
            if error.is_damage() {
                self.node.bad_replicas.found(hash, error.to_string());
            } else {
                tracing::warn!(%hash, %error, "a replica in question could not be looked at");
            }
        }
        Ok(())
    }

    async fn ask_index<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, ReportEnd> {
        let volume = self.node.volume.clone();
        let journal_id = self.journal_id;
        let answer = self.node.environment.offload.run(move || {
            volume.with_index(|index| {
                // An index that is being filled knows a part of the directory; reporting that would take the rest away.
                if index.journal_id() == journal_id && index.is_complete() {
                    ask(index).map(Some)
                } else {
                    Ok(None)
                }
            })
        });
        let answer = answer
            .await
            .map_err(offload_failed)?
            .map_err(StoreError::from)?;
        answer.ok_or(ReportEnd::Register)
    }

    async fn send_step(&self, step: Step) -> Result<wire::BlockReportResponse, ReportEnd> {
        let identity = self.node.membership.identity();
        let request = wire::BlockReportRequest {
            node_id: to_bytes(identity.node_id.as_bytes()),
            session_epoch: identity.session_epoch.0,
            journal_id: to_bytes(self.journal_id.as_bytes()),
            step: Some(step),
        };
        let answer = self.node.namenode.block_report(request).await?;
        if answer.unregistered {
            return Err(ReportEnd::Register);
        }
        Ok(answer)
    }
}

fn entries_field(
    field: &'static str,
    entries: Vec<wire::ReplicaEntry>,
) -> Result<Vec<ReplicaEntry>, StoreError> {
    Ok(list_field(
        field,
        entries,
        MAX_ASKED,
        ReplicaEntry::try_from,
    )?)
}

fn known_range(range: u32) -> Result<usize, wire::WireError> {
    usize::try_from(range)
        .ok()
        .filter(|range| *range < RANGES)
        .ok_or(wire::WireError::Value("differing"))
}

fn root_step(digests: &RangeDigests) -> Step {
    Step::Digests(wire::ReportDigests {
        root: Some(digest_message(0, &digests.root())),
        ranges: Vec::new(),
    })
}

fn ranges_step(digests: &RangeDigests) -> Step {
    Step::Digests(wire::ReportDigests {
        root: None,
        ranges: (0..)
            .zip(digests.ranges())
            .map(|(range, digest)| digest_message(range, digest))
            .collect(),
    })
}

fn digest_message(range: u32, digest: &RangeDigest) -> wire::RangeDigest {
    wire::RangeDigest {
        range,
        count: digest.count,
        sum: to_bytes(&digest.sum.to_be_bytes()),
    }
}

fn entries_step(
    after: Option<ContentHash>,
    through: ContentHash,
    entries: Vec<ReplicaEntry>,
) -> Step {
    Step::Entries(wire::ReportEntries {
        after: after
            .map(|hash| to_bytes(hash.as_bytes()))
            .unwrap_or_default(),
        through: to_bytes(through.as_bytes()),
        entries: entries.into_iter().map(Into::into).collect(),
    })
}

fn done_step(sequence: Sequence) -> Step {
    Step::Done(wire::ReportDone {
        sequence: sequence.0,
    })
}
