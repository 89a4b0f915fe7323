//! The router: every path of this API, in one table that the API description is checked against.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use http::{HeaderName, HeaderValue, Method, header};
use richardstore_proto::ErrorCode;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::api_error::ApiError;
use crate::app::App;
use crate::gateway::GatewayError;
use crate::observe::{REQUEST_ID, observe};
use crate::routes::{admin, cluster, console, download, events, files, health, upload};

/// How long a browser may remember what a preflight said.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Every path and what answers it. `HEAD` is answered wherever `GET` is.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/", get(console::page)),
        ("/console/{version}/{file}", get(console::asset)),
        ("/upload", post(upload::upload_form)),
        (
            "/download",
            get(download::by_query).head(download::head_by_query),
        ),
        ("/files", get(files::list).post(upload::upload_raw)),
        (
            "/files/{hash}",
            get(download::by_path)
                .head(download::head_by_path)
                .put(upload::put_declared)
                .merge(delete(files::remove)),
        ),
        ("/files/{hash}/status", get(files::status)),
        ("/info", get(cluster::info)),
        ("/nodes", get(cluster::nodes)),
        ("/events", get(events::follow)),
        ("/history", get(cluster::history)),
        ("/admin/dump/{table}", get(cluster::dump)),
        ("/admin/report", get(admin::report)),
        ("/admin/why/{hash}", get(admin::why)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(console::openapi)),
    ]
}

/// The paths of the table.
#[cfg(test)]
pub(crate) fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// The whole service.
///
/// # Errors
/// [`GatewayError::Origin`] for a configured origin that is none.
pub(crate) fn build(app: Arc<App>) -> Result<Router, GatewayError> {
    let cors = cors(&app.config.cors_origins)?;
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    let mut router = router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method);
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    Ok(router
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app))
}

async fn unknown_path(request: axum::extract::Request) -> ApiError {
    let path: String = request.uri().path().chars().take(100).collect();
    ApiError::new(ErrorCode::NotFound, format!("there is nothing at {path}"))
}

async fn unknown_method(request: axum::extract::Request) -> ApiError {
    let method = request.method();
    let path: String = request.uri().path().chars().take(100).collect();
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("{path} does not answer {method}"),
    )
}

/// `None` with no origins configured: browsers then keep other sites' pages out.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>, GatewayError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let parsed: Result<Vec<HeaderValue>, GatewayError> =
            origins.iter().map(|origin| parse_origin(origin)).collect();
        AllowOrigin::list(parsed?)
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
        ])
        .allow_headers([
            header::CONTENT_TYPE,
            header::RANGE,
            header::IF_RANGE,
            header::IF_NONE_MATCH,
            REQUEST_ID,
            upload::CONTENT_SHA256,
        ])
        .expose_headers(exposed_headers())
        .max_age(PREFLIGHT_AGE);
    Ok(Some(layer))
}

fn exposed_headers() -> [HeaderName; 7] {
    [
        header::ACCEPT_RANGES,
        header::CONTENT_DISPOSITION,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::ETAG,
        header::LOCATION,
        REQUEST_ID,
    ]
}

/// Scheme, host and port, without a path: anything else never equals what a browser sends.
fn parse_origin(origin: &str) -> Result<HeaderValue, GatewayError> {
    let refused = || GatewayError::Origin(origin.to_owned());
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"))
        .ok_or_else(refused)?;
    if host.is_empty() || host.contains(['/', '*', ' ', '@', '?', '#']) {
        return Err(refused());
    }
    HeaderValue::from_str(origin).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        assert!(parse_origin("https://example.org:8443").is_ok());
        for bad in [
            "",
            "example.org",
            "https://",
            "https://a/",
            "https://*.a",
            "ftp://a",
        ] {
            assert!(parse_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cors_is_off_unless_configured() {
        assert!(cors(&[]).unwrap().is_none());
        assert!(cors(&["*".to_owned()]).unwrap().is_some());
        assert!(cors(&["nonsense".to_owned()]).is_err());
    }

    #[test]
    fn the_api_description_has_every_path_and_no_other() {
        let description: serde_json::Value = serde_json::from_str(console::OPENAPI).unwrap();
        let mut described: Vec<&str> = description["paths"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut routed = paths();
        described.sort_unstable();
        routed.sort_unstable();
        assert_eq!(described, routed);
    }
}
