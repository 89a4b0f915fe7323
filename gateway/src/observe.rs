//! [`observe`]: around every request: its id, its size check, its span, its place in the metrics, and a net under its handler.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, Method};
use richardstore_proto::ErrorCode;
use tokio::time::Instant;
use tracing::Instrument;

use crate::api_error::ApiError;
use crate::app::App;
use crate::body::ObservedBody;
use crate::headers::RequestId;

/// The request line's path and all headers of a request together, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// By which a request is followed through the cluster.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs `next` and answers in its place where it must not run or panics.
pub(crate) async fn observe(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let id = RequestId::accept(request.headers().get(REQUEST_ID)).unwrap_or_else(RequestId::random);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let path = request.uri().path();
    let span = tracing::info_span!("request", id = id.as_str(), %method, path);
    request.extensions_mut().insert(id.clone());
    let mut response = async {
        if header_bytes(&request) > MAX_HEADER_BYTES {
            let message = format!("path and headers are larger than {MAX_HEADER_BYTES} bytes");
            return ApiError::new(ErrorCode::HeadersTooLarge, message).into_response();
        }
        // Nothing of the handler is used after a panic: what it held is dropped, and shared state is behind locks that
        // recover.
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        answer.unwrap_or_else(|_| {
            app.metrics.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("the handler of a request panicked");
            ApiError::new(
                ErrorCode::Internal,
                "the gateway failed to handle this request",
            )
            .into_response()
        })
    }
    .instrument(span.clone())
    .await;
    response.headers_mut().insert(REQUEST_ID, id.to_header());
    let status = response.status().as_u16();
    app.metrics.answered(route.as_deref(), &method, status);
    response.map(|body| {
        let end = move |whole: bool| {
            let time = start.elapsed();
            app.metrics.took(route.as_deref(), time);
            if !whole && method != Method::HEAD {
                app.metrics
                    .aborted_responses
                    .fetch_add(1, Ordering::Relaxed);
            }
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(parent: &span, status, millis, whole, "answered");
        };
        Body::new(ObservedBody::new(body, Box::new(end)))
    })
}

/// What the head of a request takes on the wire, near enough.
fn header_bytes(request: &Request) -> usize {
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    target
        + fields
            .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use richardstore_client::{Client, ClientConfig};
    use richardstore_runtime::Environment;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::config::GatewayConfig;
    use crate::connection::Connections;
    use crate::metrics::Metrics;

    async fn panics() -> Response {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_panic_is_a_500_in_json_and_counted() {
        let metrics = Arc::<Metrics>::default();
        let app = Arc::new(App::new(
            Client::new(ClientConfig::new("127.0.0.1:1"), Environment::system()),
            GatewayConfig::default(),
            metrics.clone(),
            Connections::new(1, metrics.clone()),
            CancellationToken::new(),
        ));
        let router = Router::new()
            .route("/", get(panics))
            .layer(from_fn_with_state(app, observe));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key(REQUEST_ID));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["code"], "internal");
        assert_eq!(metrics.panics.load(Ordering::Relaxed), 1);
        assert_eq!(metrics.aborted_responses.load(Ordering::Relaxed), 0);
    }
}
