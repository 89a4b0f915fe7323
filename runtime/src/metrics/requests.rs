//! [`Requests`] and [`Observed`]: the gRPC calls of one service, counted by method and code, and how long they took.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;
use tonic::Code;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::exposition::{Exposition, Labels};
use super::histogram::{Histogram, SECONDS};
use crate::SharedClock;

/// The method of calls that the service does not have: a caller may invent as many as it likes.
const UNKNOWN: &str = "unknown";

/// What comes later has no form in HTTP.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// Calls that were answered. Their kinds are bounded: methods of the service, codes of the protocol.
#[derive(Debug, Default)]
pub struct Requests {
    answered: Mutex<BTreeMap<(String, i32), u64>>,
    durations: Mutex<BTreeMap<String, Arc<Histogram>>>,
}

impl Requests {
    fn answered(&self, path: &str, code: Code, time: Duration) {
        let method = match (code, path.rsplit_once('/')) {
            (Code::Unimplemented, _) | (_, None) => UNKNOWN,
            (_, Some((_, method))) => method,
        };
        let key = (method.to_owned(), i32::from(code));
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let count = answered.entry(key).or_default();
        *count = count.saturating_add(1);
        drop(answered);
        let mut durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let histogram = durations
            .entry(method.to_owned())
            .or_insert_with(|| Arc::new(Histogram::new(SECONDS)))
            .clone();
        drop(durations);
        histogram.observe(time);
    }

    /// Writes `richardstore_ROLE_requests_total` and `richardstore_ROLE_request_duration_seconds`.
    pub fn expose(&self, role: &str, out: &mut Exposition) {
        let answered = self
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let rows: Vec<([(&str, &str); 2], u64)> = answered
            .iter()
            .map(|((method, code), count)| {
                (
                    [("method", method.as_str()), ("code", code_name(*code))],
                    *count,
                )
            })
            .collect();
        out.counters(
            &format!("richardstore_{role}_requests_total"),
            "gRPC calls answered.",
            rows.iter()
                .map(|(labels, count)| (labels as Labels<'_>, *count)),
        );
        let durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let rows: Vec<([(&str, &str); 1], &Histogram)> = durations
            .iter()
            .map(|(method, histogram)| ([("method", method.as_str())], &**histogram))
            .collect();
        out.histograms(
            &format!("richardstore_{role}_request_duration_seconds"),
            "Time to the answer, or to the first part of it where it is a stream.",
            rows.iter()
                .map(|(labels, histogram)| (labels as Labels<'_>, *histogram)),
        );
    }
}

fn code_name(code: i32) -> &'static str {
    match Code::from_i32(code) {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// A gRPC service whose calls are counted.
#[derive(Clone)]
pub struct Observed<S> {
    service: S,
    requests: Arc<Requests>,
    clock: SharedClock,
}

impl<S> Observed<S> {
    /// Counts the calls of `service` in `requests`, and dates its answers by `clock`.
    pub fn new(service: S, requests: Arc<Requests>, clock: SharedClock) -> Self {
        Self {
            service,
            requests,
            clock,
        }
    }
}

impl<S: NamedService> NamedService for Observed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<http::Request<B>> for Observed<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<R>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let (requests, clock) = (self.requests.clone(), self.clock.clone());
        let begun = Instant::now();
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            // Otherwise hyper sets it by the machine's clock. The length of its header depends on it, and by that when what arrives: a
            // simulation would not run twice in the same way.
            response
                .headers_mut()
                .insert(http::header::DATE, date(clock.now_ms()));
            // A call that failed says so in the head of its answer; one that went well says it behind the message.
            let code = response.headers().get("grpc-status");
            let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
            requests.answered(&path, code, begun.elapsed());
            Ok(response)
        })
    }
}

fn date(now_ms: u64) -> http::HeaderValue {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now_ms).min(LAST_DATE));
    http::HeaderValue::from_str(&text).unwrap_or(http::HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_dated_whatever_the_clock_says() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn i11_invented_methods_share_one_label() {
        let requests = Requests::default();
        for number in 0..100 {
            let path = format!("/richardstore.v1.NameNode/Nonsense{number}");
            requests.answered(&path, Code::Unimplemented, Duration::ZERO);
        }
        requests.answered(
            "/richardstore.v1.NameNode/Info",
            Code::Ok,
            Duration::from_millis(3),
        );
        let mut out = Exposition::default();
        requests.expose("namenode", &mut out);
        let text = out.into_text();
        for line in [
            "richardstore_namenode_requests_total{method=\"unknown\",code=\"unimplemented\"} 100",
            "richardstore_namenode_requests_total{method=\"Info\",code=\"ok\"} 1",
            "richardstore_namenode_request_duration_seconds_count{method=\"Info\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
