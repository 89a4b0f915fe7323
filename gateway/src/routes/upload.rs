//! Uploads: a form at `/upload`, raw bytes or a form at `/files`, and at `/files/{hash}` raw bytes whose hash is known before.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use richardstore_client::{PutOptions, PutOutcome, SourceError};
use richardstore_failpoint::failpoint;
use richardstore_proto::ContentHash;
use serde::Serialize;

use super::parameters::HashPath;
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::{FileField, UploadBody};
use crate::headers::RequestId;

/// The hash that the bytes of an upload are said to have. With it a file that is stored already is not sent again, and
/// other bytes are refused.
pub(crate) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-content-sha256");

/// The answer to an upload.
#[derive(Debug, Serialize)]
pub(crate) struct Uploaded {
    hash: String,
    size: u64,
    replicas: u32,
    created: bool,
    created_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Uploaded {
    fn new(outcome: &PutOutcome, name: Option<String>) -> Self {
        Self {
            hash: outcome.file.hash.to_hex(),
            size: outcome.file.size,
            replicas: outcome.replicas,
            created: outcome.created,
            created_ms: outcome.file.created_ms,
            name,
        }
    }
}

/// `POST /upload`
pub(crate) async fn upload_form(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Uploaded>, ApiError> {
    let (outcome, name) = store_form(&app, &headers, body, &id).await?;
    Ok(Json(Uploaded::new(&outcome, name)))
}

/// `POST /files`. Of a form its file is stored: nobody who sends one wants the boundaries kept.
pub(crate) async fn upload_raw(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, HeaderMap, Json<Uploaded>), ApiError> {
    let (outcome, name) = if FileField::is_in(&headers) {
        store_form(&app, &headers, body, &id).await?
    } else {
        let declared = declared_hash(&headers)?;
        let body = receive(&app, body)?;
        let size_hint = body.announced();
        (store(&app, body, size_hint, declared, &id).await?, None)
    };
    Ok((
        StatusCode::CREATED,
        location(&outcome),
        Json(Uploaded::new(&outcome, name)),
    ))
}

/// `PUT /files/{hash}`. A stored file is answered before the first byte of the body is asked for; with `Expect:
/// 100-continue` none is ever sent.
pub(crate) async fn put_declared(
    State(app): State<Arc<App>>,
    HashPath(hash): HashPath,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, HeaderMap, Json<Uploaded>), ApiError> {
    if declared_hash(&headers)?.is_some_and(|declared| declared != hash) {
        return Err(ApiError::invalid(
            "the path and X-Content-SHA256 declare different hashes",
        ));
    }
    let body = receive(&app, body)?;
    let size_hint = body.announced();
    let outcome = store(&app, body, size_hint, Some(hash), &id).await?;
    let status = if outcome.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        location(&outcome),
        Json(Uploaded::new(&outcome, None)),
    ))
}

fn receive(app: &App, body: Body) -> Result<UploadBody, SourceError> {
    UploadBody::new(body, app.config.body_limit_bytes, app.config.pace())
}

/// What became of the file in a form, and how the form calls it.
async fn store_form(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    id: &RequestId,
) -> Result<(PutOutcome, Option<String>), ApiError> {
    let declared = declared_hash(headers)?;
    let body = receive(app, body)?;
    let field = FileField::find(headers, body).await?;
    let name = field.file_name().map(str::to_owned);
    let size_hint = field.size_hint_bytes();
    let outcome = store(app, field, size_hint, declared, id).await?;
    Ok((outcome, name))
}

async fn store<S>(
    app: &App,
    source: S,
    size_hint: Option<u64>,
    declared_hash: Option<ContentHash>,
    id: &RequestId,
) -> Result<PutOutcome, ApiError>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
{
    let options = PutOptions {
        declared_hash,
        size_hint,
        replication: app.config.replication,
        request_id: id.as_str().to_owned(),
        progress: None,
    };
    // Boxed: the state of a pipeline is large, and a request's future is moved around before it runs.
    let stored = Box::pin(app.client.put(source, options)).await;
    failpoint("gateway-committed");
    Ok(stored?)
}

fn declared_hash(headers: &HeaderMap) -> Result<Option<ContentHash>, ApiError> {
    let Some(value) = headers.get(CONTENT_SHA256) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::invalid("X-Content-SHA256 is not a hash"))?;
    Ok(Some(text.parse()?))
}

fn location(outcome: &PutOutcome) -> HeaderMap {
    let path = format!("/files/{}", outcome.file.hash);
    HeaderValue::from_str(&path)
        .map(|path| HeaderMap::from_iter([(header::LOCATION, path)]))
        .unwrap_or_default()
}
