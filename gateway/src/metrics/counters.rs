//! [`Metrics`]: the gateway's counters. Their number is bounded: routes come from the router's own table, methods and
//! statuses from the protocol, never from what a caller sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use richardstore_client::LookUpCounts;
use richardstore_runtime::metrics::{Exposition, Histogram, SECONDS};

/// The route of requests for paths that do not exist.
const UNMATCHED: &str = "unmatched";

/// Everything that is counted. Shared by all connections.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests by route, method and status; then how long they took, by route.
    requests: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    durations: Mutex<BTreeMap<String, Arc<Histogram>>>,
    /// Bytes read from sockets.
    pub(crate) received_bytes: AtomicU64,
    /// Bytes written to sockets.
    pub(crate) sent_bytes: AtomicU64,
    /// Responses that broke off.
    pub(crate) aborted_responses: AtomicU64,
    /// Connections accepted since the start.
    pub(crate) accepted_connections: AtomicU64,
    /// Idle connections that were closed to let new ones in.
    pub(crate) evicted_connections: AtomicU64,
    /// Requests whose handler panicked.
    pub(crate) panics: AtomicU64,
}

impl Metrics {
    /// Counts a request that was answered. `route` is the matched pattern, if any.
    pub(crate) fn answered(&self, route: Option<&str>, method: &Method, status: u16) {
        let key = (route.unwrap_or(UNMATCHED).to_owned(), label(method), status);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let count = requests.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts how long a request took, to the last byte of its response.
    pub(crate) fn took(&self, route: Option<&str>, time: Duration) {
        let route = route.unwrap_or(UNMATCHED);
        let mut durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = durations.get(route) {
            return histogram.observe(time);
        }
        let histogram = durations
            .entry(route.to_owned())
            .or_insert_with(|| Arc::new(Histogram::new(SECONDS)));
        histogram.observe(time);
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn to_text(&self, open_connections: usize, look_ups: LookUpCounts) -> String {
        let mut out = Exposition::default();
        self.expose_requests(&mut out);
        self.expose_durations(&mut out);
        for (name, help, counter) in [
            (
                "received_bytes",
                "Bytes read from sockets.",
                &self.received_bytes,
            ),
            ("sent_bytes", "Bytes written to sockets.", &self.sent_bytes),
            (
                "aborted_responses",
                "Responses that broke off.",
                &self.aborted_responses,
            ),
            (
                "accepted_connections",
                "Connections accepted.",
                &self.accepted_connections,
            ),
            (
                "evicted_connections",
                "Idle connections closed to let new ones in.",
                &self.evicted_connections,
            ),
            ("panics", "Requests whose handler panicked.", &self.panics),
        ] {
            let name = format!("richardstore_gateway_{name}_total");
            out.counter(&name, help, counter.load(Ordering::Relaxed));
        }
        out.counters(
            "richardstore_gateway_look_ups_total",
            "Questions where a file is, by who knew.",
            [
                (&[("by", "memory")][..], look_ups.remembered),
                (&[("by", "namenode")][..], look_ups.asked),
            ],
        );
        out.gauge(
            "richardstore_gateway_open_connections",
            "Connections open now.",
            open_connections,
        );
        out.build_info("gateway", env!("CARGO_PKG_VERSION"));
        out.into_text()
    }

    fn expose_requests(&self, out: &mut Exposition) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = requests
            .iter()
            .map(|((route, method, status), count)| (route, *method, status.to_string(), *count))
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(route, method, status, count)| {
                let labels = [
                    ("route", route.as_str()),
                    ("method", method),
                    ("status", status),
                ];
                (labels, *count)
            })
            .collect();
        out.counters(
            "richardstore_gateway_requests_total",
            "Requests answered.",
            rows.iter().map(|(labels, count)| (&labels[..], *count)),
        );
    }

    fn expose_durations(&self, out: &mut Exposition) {
        let durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = durations
            .iter()
            .map(|(route, histogram)| ([("route", route.as_str())], &**histogram))
            .collect();
        out.histograms(
            "richardstore_gateway_request_duration_seconds",
            "Time to the last byte of the response.",
            rows.iter()
                .map(|(labels, histogram)| (&labels[..], *histogram)),
        );
    }
}

/// A caller may invent methods; they share one label.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let metrics = Metrics::default();
        metrics.answered(Some("/files/{hash}"), &Method::GET, 200);
        metrics.answered(Some("/files/{hash}"), &Method::GET, 200);
        metrics.answered(None, &Method::from_bytes(b"BREW").unwrap(), 404);
        metrics.took(Some("/info"), Duration::from_millis(3));
        let text = metrics.to_text(
            7,
            LookUpCounts {
                remembered: 5,
                asked: 2,
            },
        );
        for line in [
            "richardstore_gateway_requests_total{route=\"/files/{hash}\",method=\"GET\",status=\"200\"} 2",
            "richardstore_gateway_requests_total{route=\"unmatched\",method=\"other\",status=\"404\"} 1",
            "richardstore_gateway_request_duration_seconds_count{route=\"/info\"} 1",
            "richardstore_gateway_look_ups_total{by=\"memory\"} 5",
            "richardstore_gateway_look_ups_total{by=\"namenode\"} 2",
            "richardstore_gateway_open_connections 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
