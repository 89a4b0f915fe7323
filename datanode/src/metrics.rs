//! [`DatanodeMetrics`] and [`ObservedDatanode`]: what a datanode counts, and how it is shown. `docs/metrics.md` lists it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use richardstore_proto::NodeStats;
use richardstore_runtime::metrics::{
    COUNTS, Exposition, Histogram, Observable, Readiness, Requests,
};

use crate::node::Node;

/// What is counted while a datanode works.
#[derive(Debug)]
pub(crate) struct DatanodeMetrics {
    /// Calls of all services.
    pub(crate) requests: Arc<Requests>,
    /// Bytes of uploads and copies that came in.
    pub(crate) received_bytes: AtomicU64,
    /// Bytes of reads that went out, copies not counted.
    pub(crate) sent_bytes: AtomicU64,
    /// Bytes that the scrub read.
    pub(crate) scrubbed_bytes: AtomicU64,
    /// Passes of the scrub that came to their end.
    pub(crate) scrub_passes: AtomicU64,
    /// When the pass under way began, milliseconds since the Unix epoch; 0: none did.
    pub(crate) scrub_began_ms: AtomicU64,
    /// Replicas that were found to hold wrong bytes.
    pub(crate) bad_replicas: AtomicU64,
    /// Events of each incremental block report.
    pub(crate) report_events: Histogram,
    /// Replicas that each full block report listed; 0 where the digests agreed.
    pub(crate) full_report_replicas: Histogram,
}

impl Default for DatanodeMetrics {
    fn default() -> Self {
        Self {
            requests: Arc::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            scrubbed_bytes: AtomicU64::new(0),
            scrub_passes: AtomicU64::new(0),
            scrub_began_ms: AtomicU64::new(0),
            bad_replicas: AtomicU64::new(0),
            report_events: Histogram::new(COUNTS),
            full_report_replicas: Histogram::new(COUNTS),
        }
    }
}

/// Counts `bytes`, or whatever else is a number of things.
pub(crate) fn count(counter: &AtomicU64, number: usize) {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    counter.fetch_add(number, Ordering::Relaxed);
}

/// A running datanode as Prometheus and probes see it.
pub(crate) struct ObservedDatanode {
    node: Arc<Node>,
}

impl ObservedDatanode {
    /// Shows `node`.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

impl Observable for ObservedDatanode {
    fn metrics(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            let mut out = Exposition::default();
            out.build_info("datanode", env!("CARGO_PKG_VERSION"));
            self.node.metrics.requests.expose("datanode", &mut out);
            expose_counters(&self.node, &mut out);
            match self.node.stats().await {
                Ok(stats) => expose_stats(&stats, &mut out),
                Err(error) => tracing::warn!(%error, "the state of the volume could not be read"),
            }
            out.into_text()
        })
    }

    fn readiness(&self) -> Readiness {
        if let Some(failure) = self.node.failure() {
            return Err(failure.to_string());
        }
        if self.node.tasks.stopping().is_cancelled() {
            return Err("the datanode is stopping".to_owned());
        }
        match *self.node.registration.borrow() {
            Some(_) => Ok(()),
            None => Err("not registered with the namenode".to_owned()),
        }
    }
}

fn expose_counters(node: &Node, out: &mut Exposition) {
    let metrics = &node.metrics;
    for (name, help, counter) in [
        (
            "received_bytes",
            "Bytes of uploads and copies that came in.",
            &metrics.received_bytes,
        ),
        (
            "sent_bytes",
            "Bytes of reads that went out.",
            &metrics.sent_bytes,
        ),
        (
            "scrubbed_bytes",
            "Bytes that the scrub read.",
            &metrics.scrubbed_bytes,
        ),
        (
            "scrub_passes",
            "Times that the scrub read all replicas.",
            &metrics.scrub_passes,
        ),
        (
            "bad_replicas",
            "Replicas that were found to hold wrong bytes.",
            &metrics.bad_replicas,
        ),
    ] {
        let name = format!("richardstore_datanode_{name}_total");
        out.counter(&name, help, counter.load(Ordering::Relaxed));
    }
    let began_ms = metrics.scrub_began_ms.load(Ordering::Relaxed);
    let age_ms = match began_ms {
        0 => 0,
        began_ms => node.environment.clock.now_ms().saturating_sub(began_ms),
    };
    out.gauge(
        "richardstore_datanode_scrub_age_seconds",
        "Time since the newest pass of the scrub began.",
        age_ms / 1_000,
    );
    out.gauge(
        "richardstore_datanode_untold_bad_replicas",
        "Bad replicas that the namenode was not told of yet.",
        node.bad_replicas.waiting(),
    );
    let silence = node.membership.namenode_silence();
    out.gauge(
        "richardstore_datanode_namenode_silence_seconds",
        "Time since the namenode last answered.",
        silence.map_or(0, |silence| silence.as_secs()),
    );
    out.gauge(
        "richardstore_datanode_registered",
        "1 while it is registered with the namenode.",
        u64::from(node.registration.borrow().is_some()),
    );
    out.histogram(
        "richardstore_datanode_report_events",
        "Events of one incremental block report.",
        &metrics.report_events,
    );
    out.histogram(
        "richardstore_datanode_full_report_replicas",
        "Replicas that one full block report listed; 0 where the digests agreed.",
        &metrics.full_report_replicas,
    );
}

fn expose_stats(stats: &NodeStats, out: &mut Exposition) {
    for (name, help, value) in [
        ("replicas", "Replicas on the volume.", stats.replicas),
        ("used_bytes", "Bytes of those.", stats.used_bytes),
        (
            "capacity_bytes",
            "Bytes of the volume.",
            stats.capacity_bytes,
        ),
        (
            "available_bytes",
            "Bytes that may still be written.",
            stats.available_bytes,
        ),
        (
            "active_writes",
            "Writes under way.",
            u64::from(stats.active_writes),
        ),
        (
            "active_reads",
            "Reads and copies under way.",
            u64::from(stats.active_reads),
        ),
        (
            "read_only",
            "1 while it takes no writes: full, or its volume failed.",
            u64::from(stats.read_only),
        ),
    ] {
        out.gauge(&format!("richardstore_datanode_{name}"), help, value);
    }
}
