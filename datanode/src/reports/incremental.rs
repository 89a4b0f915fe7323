//! The incremental report: the journal's events from the sequence number that the namenode asks for, trimmed once they
//! are durable there.

use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{JournalEvent, Sequence, StoreError};

use super::reporter::{ReportEnd, Reporting};
use crate::index::IndexError;
use crate::pipeline::offload_failed;
use crate::volume::VolumeError;

/// Events in one message, which is one piece of work for the namenode: a commit that arrives meanwhile waits for its end.
const PAGE_EVENTS: usize = 256;

impl Reporting<'_> {
    /// Sends what the namenode does not have yet, until it has everything.
    pub(super) async fn flush(&mut self) -> Result<(), ReportEnd> {
        loop {
            let events = self.events().await?;
            if events.is_empty() {
                return Ok(());
            }
            let next = self.send_events(events).await?;
            // Going back is right: it asks again for what it does not have. Not twice in a row, though, without a step
            // forward in between: that would never end. Where it is ahead of the journal, the next read finds out.
            self.stuck = if next > self.next { 0 } else { self.stuck + 1 };
            if self.stuck > 1 {
                return Err(ReportEnd::Register);
            }
            self.next = next;
            self.trim().await?;
        }
    }

    async fn events(&self) -> Result<Vec<JournalEvent>, ReportEnd> {
        let (volume, from) = (self.node.volume.clone(), self.next);
        let journal_id = self.journal_id;
        let read = self.node.environment.offload.run(move || {
            volume.with_index(|index| {
                // A rebuild may have come in between, and its journal begins at 1 again.
                if index.journal_id() == journal_id {
                    index.events(from, PAGE_EVENTS).map(Some)
                } else {
                    Ok(None)
                }
            })
        });
        match read.await.map_err(offload_failed)? {
            Ok(Some(events)) => Ok(events),
            Ok(None) | Err(VolumeError::IndexAway) => Err(ReportEnd::Register),
            Err(VolumeError::Index(error @ IndexError::Trimmed { .. })) => {
                // Events that are gone cannot be sent, and later ones would be refused for the gap. A new journal starts
                // from the beginning, and the full report finds all differences.
                self.node.volume.discard_index(&error.to_string());
                Err(ReportEnd::Register)
            }
            Err(error) => Err(StoreError::from(error).into()),
        }
    }

    async fn send_events(&self, events: Vec<JournalEvent>) -> Result<Sequence, ReportEnd> {
        let identity = self.node.membership.identity();
        let sizes = &self.node.metrics.report_events;
        sizes.observe_count(events.len());
        let request = wire::IncrementalBlockReportRequest {
            node_id: to_bytes(identity.node_id.as_bytes()),
            session_epoch: identity.session_epoch.0,
            journal_id: to_bytes(self.journal_id.as_bytes()),
            events: events.into_iter().map(Into::into).collect(),
        };
        let answer = self.node.namenode.incremental_block_report(request).await?;
        if answer.unregistered {
            return Err(ReportEnd::Register);
        }
        Ok(Sequence(answer.next_sequence))
    }

    async fn trim(&self) -> Result<(), ReportEnd> {
        let (volume, before) = (self.node.volume.clone(), self.next);
        let trimmed = self
            .node
            .environment
            .offload
            .run(move || volume.with_index(|index| index.trim(before)));
        // What could not be trimmed is trimmed with the next page.
        if let Err(error) = trimmed.await.map_err(offload_failed)? {
            tracing::debug!(%error, "the journal was not trimmed");
        }
        Ok(())
    }
}
