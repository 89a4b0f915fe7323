//! The web console and the API description, from inside the binary.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use richardstore_proto::ErrorCode;

use crate::api_error::ApiError;
use crate::assets::Assets;

/// The OpenAPI 3.1 description of every route.
pub(crate) const OPENAPI: &str = include_str!("../../openapi.json");

/// Only what this gateway serves itself may run, load or be talked to; nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// A path with the content's hash in it always has the same bytes.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// `GET /`
pub(crate) async fn page(headers: HeaderMap) -> Response {
    let assets = Assets::of_this_binary();
    let tag = format!("\"{}\"", assets.version);
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let known = known
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(&tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        text("text/html; charset=utf-8", "no-cache", &assets.page)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// `GET /console/{version}/{file}`
pub(crate) async fn asset(
    Path((version, file)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let Some(asset) = Assets::find(&file) else {
        let message = "the console has no file of that name";
        return Err(ApiError::new(ErrorCode::NotFound, message));
    };
    // While gateways are replaced one by one, a page of one may ask another: better other bytes than none, but not to keep.
    let keep = match version == Assets::of_this_binary().version {
        true => FOR_GOOD,
        false => "no-store",
    };
    Ok(text(asset.content_type, keep, asset.text))
}

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    text("application/json", "no-cache", OPENAPI)
}

fn text(content_type: &'static str, cache_control: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static(cache_control),
        ),
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
