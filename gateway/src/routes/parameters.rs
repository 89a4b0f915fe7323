//! [`HashPath`] and [`QueryOf`]: what handlers take from the path and the query. What cannot be read is a 400 in JSON.

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use richardstore_proto::ContentHash;
use serde::de::DeserializeOwned;

use crate::api_error::ApiError;

/// The hash in the path of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashPath(pub(crate) ContentHash);

/// The query of a request as `T`.
#[derive(Debug)]
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync> FromRequestParts<S> for HashPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // A hash has nothing to encode. Decoding first would give every file many addresses, and every proxy on the way
        // a chance to read the path differently.
        if parts.uri.path().contains('%') {
            return Err(ApiError::invalid(
                "not a hash: a path with a hash in it is never percent-encoded",
            ));
        }
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(text.parse()?))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(query))
    }
}
