//! Files as records: the list, one file's replicas, the delete.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use richardstore_proto::{ContentHash, ErrorCode, FileLocations, NodeState};
use serde::{Deserialize, Serialize};

use super::parameters::{HashPath, QueryOf};
use crate::api_error::ApiError;
use crate::app::App;

/// Files on a page unless asked otherwise, and at most.
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    after: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    prefix: String,
}

/// A page of files.
#[derive(Debug, Serialize)]
pub(crate) struct FileList {
    files: Vec<FileJson>,
    /// Give this as `after` to get the next page; `null` on the last one.
    next: Option<String>,
}

/// A file in a list.
#[derive(Debug, Serialize)]
pub(crate) struct FileJson {
    hash: String,
    size: u64,
    target: u32,
    replicas: usize,
    created_ms: u64,
}

/// A file and where it is.
#[derive(Debug, Serialize)]
pub(crate) struct FileStatusJson {
    hash: String,
    size: u64,
    target: u32,
    created_ms: u64,
    generation: u64,
    blake3: String,
    replicas: Vec<ReplicaJson>,
}

/// One replica.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaJson {
    node: String,
    name: String,
    address: String,
    rack: String,
    state: NodeState,
    generation: u64,
}

/// The answer to a delete.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted {
    hash: String,
    deleted: bool,
}

/// `GET /files`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<FileList>, ApiError> {
    let after = query.after.as_deref().map(str::parse).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid(format!(
            "limit has to be 1 to {MAX_PAGE}"
        )));
    }
    if !is_prefix(&query.prefix) {
        return Err(ApiError::invalid(
            "prefix has to be at most 64 of the digits 0-9 and a-f",
        ));
    }
    let page = app.client.list(after, &query.prefix, limit).await?;
    let last = page.files.last().filter(|_| page.more);
    Ok(Json(FileList {
        next: last.map(|locations| locations.file.hash.to_hex()),
        files: page.files.iter().map(FileJson::from).collect(),
    }))
}

/// `GET /files/{hash}/status`
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    HashPath(hash): HashPath,
) -> Result<Json<FileStatusJson>, ApiError> {
    let locations = app.client.locate(&hash).await?;
    Ok(Json(FileStatusJson::from(locations)))
}

/// `DELETE /files/{hash}`
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    HashPath(hash): HashPath,
) -> Result<Json<Deleted>, ApiError> {
    if app.client.delete(&hash).await? {
        Ok(Json(Deleted {
            hash: hash.to_hex(),
            deleted: true,
        }))
    } else {
        Err(not_found(&hash))
    }
}

fn not_found(hash: &ContentHash) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no file {hash}"))
}

fn is_prefix(text: &str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl From<&FileLocations> for FileJson {
    fn from(locations: &FileLocations) -> Self {
        let file = &locations.file;
        Self {
            hash: file.hash.to_hex(),
            size: file.size,
            target: file.replication,
            replicas: locations.nodes.len(),
            created_ms: file.created_ms,
        }
    }
}

impl From<FileLocations> for FileStatusJson {
    fn from(locations: FileLocations) -> Self {
        let file = locations.file;
        Self {
            hash: file.hash.to_hex(),
            size: file.size,
            target: file.replication,
            created_ms: file.created_ms,
            generation: file.generation.0,
            blake3: file.blake3_root.to_hex(),
            replicas: locations
                .nodes
                .into_iter()
                .map(|node| ReplicaJson {
                    node: node.node_id.to_string(),
                    name: node.name,
                    address: node.address,
                    rack: node.rack,
                    state: node.state,
                    generation: node.generation.0,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_lower_case_hex() {
        assert!(is_prefix("") && is_prefix("0af"));
        assert!(!is_prefix("0AF") && !is_prefix("../") && !is_prefix(&"0".repeat(65)));
    }
}
