//! [`NamenodeMetrics`] and [`ObservedNamenode`]: what a namenode counts, and how it is shown. `docs/metrics.md` lists it.

use std::pin::Pin;
use std::sync::Arc;

use richardstore_proto::wire;
use richardstore_runtime::metrics::{
    COUNTS, Exposition, Histogram, Observable, Readiness, Requests,
};

use crate::service::report;
use crate::shared::Shared;

/// What is counted while calls are answered.
#[derive(Debug)]
pub struct NamenodeMetrics {
    /// Calls of all services.
    pub requests: Arc<Requests>,
    /// Events of each incremental block report.
    pub report_events: Histogram,
}

impl Default for NamenodeMetrics {
    fn default() -> Self {
        Self {
            requests: Arc::default(),
            report_events: Histogram::new(COUNTS),
        }
    }
}

/// A running namenode as Prometheus and probes see it.
pub struct ObservedNamenode {
    shared: Arc<Shared>,
}

impl ObservedNamenode {
    /// Shows `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Observable for ObservedNamenode {
    fn metrics(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            let mut out = Exposition::default();
            expose_counted(&self.shared, &mut out);
            match report(&self.shared, wire::ReportRequest {}).await {
                Ok(report) => expose_report(&report, &mut out),
                // The counters are worth more alone than nothing: readiness says what is wrong.
                Err(error) => {
                    tracing::warn!(%error, "the figures of the cluster could not be read")
                }
            }
            out.into_text()
        })
    }

    fn readiness(&self) -> Readiness {
        if self.shared.metadata.failed().is_cancelled() {
            return Err("the metadata database failed".to_owned());
        }
        let view = self.shared.metadata.view();
        view.and_then(|view| view.epoch())
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

fn expose_counted(shared: &Shared, out: &mut Exposition) {
    out.build_info("namenode", env!("CARGO_PKG_VERSION"));
    shared.metrics.requests.expose("namenode", out);
    out.histogram(
        "richardstore_namenode_report_events",
        "Events of one incremental block report.",
        &shared.metrics.report_events,
    );
    let commits = shared.metadata.commits();
    out.histogram(
        "richardstore_namenode_commit_mutations",
        "Mutations of one durable commit.",
        &commits.sizes,
    );
    out.histogram(
        "richardstore_namenode_commit_duration_seconds",
        "Time of one durable commit.",
        &commits.times,
    );
    out.gauge(
        "richardstore_namenode_queued_mutations",
        "Mutations that wait for the writer.",
        shared.metadata.queued(),
    );
    out.gauge(
        "richardstore_namenode_location_holders",
        "Gateways that remember where files are.",
        shared.leases.holders(shared.now_ms()),
    );
}

fn expose_report(report: &wire::ReportResponse, out: &mut Exposition) {
    let info = report.info.clone().unwrap_or_default();
    for (name, help, value) in [
        ("files", "Committed files.", info.files),
        ("file_bytes", "Bytes of all files, each once.", info.bytes),
        (
            "under_replicated_files",
            "Files with fewer replicas on record than wanted.",
            info.under_replicated,
        ),
        (
            "over_replicated_files",
            "Files with more replicas on record than wanted.",
            report.over_replicated,
        ),
        (
            "misplaced_files",
            "Files known to lie in one rack only, although there are others.",
            info.misplaced,
        ),
        (
            "tombstones",
            "Deletes that some datanode has not confirmed.",
            info.tombstones,
        ),
        (
            "pending_commands",
            "Commands that datanodes have not confirmed.",
            info.commands_pending,
        ),
        ("open_writes", "Uploads under way.", info.writes_in_flight),
        (
            "foreign_replicas",
            "Reported replicas that are newer than this database.",
            report.foreign_replicas,
        ),
        (
            "repair_copying_files",
            "Files of which copies are being made.",
            report.copying,
        ),
        (
            "repair_waiting_files",
            "Files known to be short that wait for their turn.",
            report.waiting,
        ),
        (
            "repair_bytes",
            "Bytes left to copy, at most.",
            report.bytes_to_copy,
        ),
        (
            "repair_seconds",
            "Time that takes at the rate repair may use, at least.",
            report.copy_seconds,
        ),
        (
            "safe_mode",
            "1 while nothing is copied or deleted.",
            u64::from(report.safe_mode),
        ),
        (
            "capacity_bytes",
            "Bytes of the volumes of the datanodes that are there.",
            info.capacity_bytes,
        ),
        (
            "available_bytes",
            "Bytes that may still be written there.",
            info.available_bytes,
        ),
        (
            "epoch",
            "Starts of the namenode on this database.",
            info.epoch,
        ),
    ] {
        out.gauge(&format!("richardstore_namenode_{name}"), help, value);
    }
    let uptime_seconds = info.uptime_ms / 1_000;
    out.gauge(
        "richardstore_namenode_uptime_seconds",
        "Time since the start.",
        uptime_seconds,
    );
    by_state(
        out,
        "richardstore_namenode_datanodes",
        "Datanodes by state.",
        [
            ("live", u64::from(info.nodes_live)),
            ("stale", u64::from(info.nodes_stale)),
            ("dead", u64::from(info.nodes_dead)),
        ],
    );
    by_state(
        out,
        "richardstore_namenode_replicas",
        "Replicas on record by the state of their datanode.",
        [
            ("live", report.replicas_live),
            ("stale", report.replicas_stale),
            ("leaving", report.replicas_leaving),
            ("dead", report.replicas_dead),
        ],
    );
}

fn by_state<const N: usize>(
    out: &mut Exposition,
    name: &str,
    help: &str,
    rows: [(&'static str, u64); N],
) {
    let rows = rows.map(|(state, count)| ([("state", state)], count));
    out.gauges(
        name,
        help,
        rows.iter().map(|(labels, count)| (&labels[..], *count)),
    );
}
