//! [`report`]: the loop that decides when to report. One loop for both kinds: they share the position in the journal.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use richardstore_proto::{ErrorCode, JournalId, Sequence, StoreError};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::node::{Node, Registration};
use crate::pipeline::offload_failed;

/// Changes within this time go in one message. The client commits what it wrote within a moment, with its holders: a report that
/// comes after that changes nothing, one that comes before is kept aside until then. Each is a commit of the namenode.
const GATHER: Duration = Duration::from_millis(200);

/// Why reporting stopped before everything was told.
#[derive(Debug)]
pub(super) enum ReportEnd {
    /// This session or journal is not the one the namenode knows.
    Register,
    /// Something failed that may work later.
    Failed(StoreError),
}

impl From<StoreError> for ReportEnd {
    fn from(error: StoreError) -> Self {
        match error.code {
            // The registration that follows finds out for certain whether this session is over.
            ErrorCode::Fenced | ErrorCode::WrongCluster => Self::Register,
            _ => Self::Failed(error),
        }
    }
}

/// Reporting under one registration.
pub(super) struct Reporting<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) journal_id: JournalId,
    /// The namenode has everything before this.
    pub(super) next: Sequence,
    /// How often in a row it did not move on.
    pub(super) stuck: u32,
}

/// Reports until the datanode stops.
pub(crate) async fn report(node: Arc<Node>) {
    let stopping = node.tasks.stopping();
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = report_always(&node) => {}
    }
}

async fn report_always(node: &Arc<Node>) {
    let mut registration = node.registration.subscribe();
    let mut full = FullReportDue {
        at: Some(Instant::now() + node.config.full_report_interval),
    };
    loop {
        let Some(current) = *registration.borrow_and_update() else {
            if registration.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            biased;
            // First, so that nothing more is reported under a registration that is over.
            _ = registration.changed() => continue,
            () = report_under(node, current, &mut full) => {}
        }
        // That registration is of no use any more. Its successor ends the wait.
        node.register_again.notify_one();
        if registration.changed().await.is_err() {
            return;
        }
    }
}

/// When the next full report is due. Survives registrations: what was asked for is not forgotten over a reconnect.
struct FullReportDue {
    /// `None`: now.
    at: Option<Instant>,
}

/// Reports under one registration until that is not accepted any more.
async fn report_under(node: &Arc<Node>, registration: Registration, full: &mut FullReportDue) {
    let mut backoff = Backoff::new(node.backoff_seed());
    let mut reporting = Reporting {
        node,
        journal_id: registration.journal_id,
        next: registration.next_sequence,
        stuck: 0,
    };
    loop {
        let reported = reporting.report_due(full).await;
        match reported {
            Ok(()) => backoff.reset(),
            Err(ReportEnd::Register) => return,
            Err(ReportEnd::Failed(error)) => {
                tracing::debug!(%error, "a report was not delivered");
                tokio::time::sleep(backoff.next_wait()).await;
                continue;
            }
        }
        tokio::select! {
            biased;
            // First: under a steady load there are always changes, and they are reported before a full report anyway.
            () = node.full_report_wanted.notified() => full.at = None,
            () = full.wait() => full.at = None,
            () = node.volume.changed() => tokio::time::sleep(GATHER).await,
        }
    }
}

impl Reporting<'_> {
    async fn report_due(&mut self, full: &mut FullReportDue) -> Result<(), ReportEnd> {
        self.flush().await?;
        // One that is asked for while the index is being filled waits for the rebuild, which asks again at its end.
        if full.at.is_some() || !self.is_indexed().await? {
            return Ok(());
        }
        self.reconcile().await?;
        // The namenode asked for this one with every heartbeat until it ended. If it still wants one, it asks again.
        let _ = self.node.full_report_wanted.notified().now_or_never();
        full.at = Some(Instant::now() + self.node.config.full_report_interval);
        Ok(())
    }

    async fn is_indexed(&self) -> Result<bool, ReportEnd> {
        let volume = self.node.volume.clone();
        let asked = self
            .node
            .environment
            .offload
            .run(move || volume.is_indexed());
        Ok(asked.await.map_err(offload_failed)?)
    }
}

impl FullReportDue {
    async fn wait(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            // Due already and waiting for the rebuild, which wakes the loop itself.
            None => std::future::pending().await,
        }
    }
}
