//! Downloads, by `/download?hash=` and by `/files/{hash}`: whole, in part, or only whether there is anything new.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use richardstore_client::{ClientError, GetOptions};
use richardstore_proto::{ContentHash, ErrorCode};
use serde::Deserialize;

use super::parameters::{HashPath, QueryOf};
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::ExactBody;
use crate::headers::{ByteRange, EntityTag, RangeAnswer, RequestId, attachment};

const NOSNIFF: (HeaderName, HeaderValue) = (
    header::X_CONTENT_TYPE_OPTIONS,
    HeaderValue::from_static("nosniff"),
);
/// The bytes of a hash never change. They may be deleted, though, so a cache must not be asked to keep them for good.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, max-age=3600, immutable");

#[derive(Debug, Deserialize)]
pub(crate) struct DownloadQuery {
    hash: String,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NameQuery {
    name: Option<String>,
}

/// What a request for bytes asks for.
struct Wanted {
    hash: ContentHash,
    name: Option<String>,
    headers: HeaderMap,
    id: RequestId,
}

/// `GET /download?hash=`
pub(crate) async fn by_query(
    State(app): State<Arc<App>>,
    QueryOf(query): QueryOf<DownloadQuery>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wanted = Wanted {
        hash: query.hash.parse()?,
        name: query.name,
        headers,
        id,
    };
    respond(&app, wanted).await
}

/// `HEAD /download?hash=`
pub(crate) async fn head_by_query(
    State(app): State<Arc<App>>,
    QueryOf(query): QueryOf<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let hash = query.hash.parse()?;
    describe(&app, hash, query.name.as_deref(), &headers).await
}

/// `GET /files/{hash}`
pub(crate) async fn by_path(
    State(app): State<Arc<App>>,
    HashPath(hash): HashPath,
    QueryOf(query): QueryOf<NameQuery>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wanted = Wanted {
        hash,
        name: query.name,
        headers,
        id,
    };
    respond(&app, wanted).await
}

/// `HEAD /files/{hash}`
pub(crate) async fn head_by_path(
    State(app): State<Arc<App>>,
    HashPath(hash): HashPath,
    QueryOf(query): QueryOf<NameQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    describe(&app, hash, query.name.as_deref(), &headers).await
}

/// Headers only. RFC 9110 defines ranges for `GET` alone, so a range is not looked at.
async fn describe(
    app: &App,
    hash: ContentHash,
    name: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let file = app.client.describe(&hash).await?;
    if is_known(hash, headers) {
        return Ok(not_modified(hash));
    }
    let mut response = file_headers(hash, name);
    response.insert(header::CONTENT_LENGTH, HeaderValue::from(file.size));
    Ok((response, Body::empty()).into_response())
}

async fn respond(app: &App, wanted: Wanted) -> Result<Response, ApiError> {
    let hash = wanted.hash;
    let range = range_header(hash, &wanted.headers);
    if range.is_none() && !wanted.headers.contains_key(header::IF_NONE_MATCH) {
        return send(app, wanted, None).await;
    }
    // Only these need the size, or to know whether the file is there, before the bytes.
    let size = app.client.describe(&hash).await?.size;
    if is_known(hash, &wanted.headers) {
        return Ok(not_modified(hash));
    }
    match range.map_or(RangeAnswer::Whole, |range| RangeAnswer::decide(range, size)) {
        RangeAnswer::Whole => send(app, wanted, None).await,
        RangeAnswer::Part(range) => send(app, wanted, Some(range)).await,
        RangeAnswer::Unsatisfiable => {
            let whole = HeaderValue::from_str(&format!("bytes */{size}"))
                .unwrap_or_else(|_| HeaderValue::from_static("bytes */*"));
            let message = format!("{hash} has {size} bytes; the range asked for is not among them");
            let error = ApiError::new(ErrorCode::RangeNotSatisfiable, message);
            Err(error.with_header(header::CONTENT_RANGE, whole))
        }
    }
}

/// Sends the file, or a part of it. The first bytes are here before the status goes out, so that a file that nobody can
/// deliver is an error and not a broken success.
async fn send(app: &App, wanted: Wanted, range: Option<ByteRange>) -> Result<Response, ApiError> {
    let hash = wanted.hash;
    let options = GetOptions {
        request_id: wanted.id.as_str().to_owned(),
    };
    let offset = range.map_or(0, |range| range.first);
    let length = range.map(ByteRange::length);
    let mut stream = app.client.get(&hash, offset, length, options).await?;
    let first = stream.next().await.transpose()?;
    let promised = stream.length;
    if first.is_none() && promised > 0 {
        return Err(ClientError::Internal(format!("{hash} yields no bytes")).into());
    }
    let mut headers = file_headers(hash, wanted.name.as_deref());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
    let mut status = StatusCode::OK;
    if let Some(range) = range {
        status = StatusCode::PARTIAL_CONTENT;
        let value = HeaderValue::from_str(&range.content_range(stream.file.size));
        headers.insert(
            header::CONTENT_RANGE,
            value.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?,
        );
    }
    let body = Body::new(ExactBody::new(first, stream, promised));
    Ok((status, headers, body).into_response())
}

/// The range to answer, if there is one and `If-Range` allows it.
fn range_header(hash: ContentHash, headers: &HeaderMap) -> Option<&str> {
    if let Some(condition) = headers.get(header::IF_RANGE) {
        let condition = condition.to_str().unwrap_or_default();
        if !EntityTag::of(hash).allows_range(condition) {
            return None;
        }
    }
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (first, second) = (ranges.next()?, ranges.next());
    if second.is_some() {
        return None;
    }
    first.to_str().ok()
}

fn is_known(hash: ContentHash, headers: &HeaderMap) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| EntityTag::of(hash).is_named_by(value))
}

fn not_modified(hash: ContentHash) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::ETAG, entity_tag(hash));
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

fn file_headers(hash: ContentHash, name: Option<&str>) -> HeaderMap {
    HeaderMap::from_iter([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (header::CONTENT_DISPOSITION, attachment(&hash, name)),
        (header::ETAG, entity_tag(hash)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        NOSNIFF,
    ])
}

fn entity_tag(hash: ContentHash) -> HeaderValue {
    HeaderValue::from_str(&EntityTag::of(hash).to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}
