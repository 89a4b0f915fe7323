//! The web page and the API description, from inside the binary.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};

/// The OpenAPI 3.1 description of every route.
pub(crate) const OPENAPI: &str = include_str!("../../openapi.json");

/// Only what this gateway serves itself may run, load or be talked to; nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`
pub(crate) async fn page() -> Response {
    asset(
        "text/html; charset=utf-8",
        include_str!("../../console/index.html"),
    )
}

/// `GET /app.js`
pub(crate) async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("../../console/app.js"),
    )
}

/// `GET /style.css`
pub(crate) async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        include_str!("../../console/style.css"),
    )
}

/// `GET /icon.svg`
pub(crate) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("../../console/icon.svg"))
}

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    asset("application/json", OPENAPI)
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        // After an upgrade the old script must not meet the new page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_SECURITY_POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    (headers, text).into_response()
}
