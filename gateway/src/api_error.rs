//! [`ApiError`]: every failure of this API, as the one JSON shape `{"error": "...", "code": "..."}`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use richardstore_client::{ClientError, SourceError};
use richardstore_proto::{ErrorCode, ParseHashError, StoreError};
use serde::Serialize;

/// When a caller may try again, in seconds. Shorter than the time after which a silent datanode counts as dead.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// An error on its way to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    error: StoreError,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    error: &'a str,
    code: ErrorCode,
}

impl ApiError {
    /// An error of `code` with `message`.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::from(StoreError::new(code, message))
    }

    /// The request makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// The same with one more header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The body of the response, as JSON text.
    pub(crate) fn to_json(&self) -> String {
        let json = ErrorJson {
            error: &self.error.message,
            code: self.error.code,
        };
        serde_json::to_string(&json).unwrap_or_else(|_| "{\"error\":\"unknown\"}".to_owned())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let mut headers = Vec::new();
        match error.code {
            ErrorCode::Unavailable | ErrorCode::InsufficientReplicas | ErrorCode::SafeMode => {
                headers.push((header::RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            // What is left of the request is not worth reading, and cannot be told from a next request.
            ErrorCode::PayloadTooLarge | ErrorCode::RequestTimeout | ErrorCode::HeadersTooLarge => {
                headers.push((header::CONNECTION, HeaderValue::from_static("close")));
            }
            _ => {}
        }
        Self { error, headers }
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        StoreError::new(error.code, error.message).into()
    }
}

impl From<ParseHashError> for ApiError {
    fn from(error: ParseHashError) -> Self {
        Self::invalid(format!("not a hash: {error}"))
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.error.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = ErrorJson {
            error: &self.error.message,
            code: self.error.code,
        };
        (status, HeaderMap::from_iter(self.headers), Json(json)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_json_with_a_message_and_a_code() {
        let error = ApiError::new(ErrorCode::HashMismatch, "not \"these\" bytes");
        assert_eq!(
            error.to_json(),
            r#"{"error":"not \"these\" bytes","code":"hash_mismatch"}"#
        );
        assert_eq!(error.into_response().status(), 422);
    }

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
        for code in [
            ErrorCode::Unavailable,
            ErrorCode::InsufficientReplicas,
            ErrorCode::SafeMode,
        ] {
            let response = ApiError::new(code, "x").into_response();
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
        }
    }

    #[test]
    fn a_request_that_is_not_read_to_its_end_closes_the_connection() {
        let response = ApiError::new(ErrorCode::PayloadTooLarge, "x").into_response();
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }
}
