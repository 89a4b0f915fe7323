//! [`Metrics`]: the gateway's counters. Their number is bounded: routes come from the router's own table, methods and
//! statuses from the protocol, never from what a caller sent.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;

use super::histogram::Histogram;

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
            histogram.observe(time);
        } else {
            durations.entry(route.to_owned()).or_default().observe(time);
        }
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn to_text(&self, open_connections: usize) -> String {
        let mut out = String::new();
        self.write_requests(&mut out);
        self.write_durations(&mut out);
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
            head(&mut out, &name, help, "counter");
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        let name = "richardstore_gateway_open_connections";
        head(&mut out, name, "Connections open now.", "gauge");
        let _ = writeln!(out, "{name} {open_connections}");
        let name = "richardstore_gateway_build_info";
        head(&mut out, name, "The version that runs.", "gauge");
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(out, "{name}{{version=\"{version}\"}} 1");
        out
    }

    fn write_requests(&self, out: &mut String) {
        let name = "richardstore_gateway_requests_total";
        head(out, name, "Requests answered.", "counter");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, method, status), count) in requests.iter() {
            // Writing to a String cannot fail, here and above.
            let _ = writeln!(
                out,
                "{name}{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            );
        }
    }

    fn write_durations(&self, out: &mut String) {
        let name = "richardstore_gateway_request_duration_seconds";
        head(
            out,
            name,
            "Time to the last byte of the response.",
            "histogram",
        );
        let durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (route, histogram) in durations.iter() {
            histogram.write(out, name, &format!("route=\"{route}\""));
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
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
        let text = metrics.to_text(7);
        for line in [
            "richardstore_gateway_requests_total{route=\"/files/{hash}\",method=\"GET\",status=\"200\"} 2",
            "richardstore_gateway_requests_total{route=\"unmatched\",method=\"other\",status=\"404\"} 1",
            "richardstore_gateway_request_duration_seconds_count{route=\"/info\"} 1",
            "richardstore_gateway_open_connections 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
