//! The cluster as a whole: its figures, its datanodes, its metadata tables.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header;
use richardstore_client::{ClusterInfo, NodeStatus};
use richardstore_proto::{ErrorCode, StoreError};
use serde::Serialize;

use crate::api_error::ApiError;
use crate::app::App;
use crate::history::HistoryJson;

/// The first line that anybody ever saw of this API; clients look for it.
const SERVICE: &str = "Distributed File System";
/// Longest name of a table that is asked for.
const MAX_TABLE_BYTES: usize = 64;
/// How long the namenode may take to say how it is. The client would try for longer, which helps a download and not
/// somebody who asks whether the namenode is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// `GET /info`: true even when there is nobody to ask.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    service: &'static str,
    status: String,
    reason: String,
    namenode: String,
    version: &'static str,
    #[serde(flatten)]
    cluster: Option<Cluster>,
}

/// The part of [`Info`] that only the namenode knows.
#[derive(Debug, Serialize)]
struct Cluster {
    cluster_id: String,
    epoch: u64,
    files: u64,
    bytes: u64,
    under_replicated: u64,
    repairs_copying: u64,
    repairs_waiting: u64,
    misplaced: u64,
    misplaced_checked: bool,
    tombstones: u64,
    commands_pending: u64,
    writes_in_flight: u64,
    nodes: NodeCounts,
    capacity_bytes: u64,
    available_bytes: u64,
    uptime_ms: u64,
}

#[derive(Debug, Serialize)]
struct NodeCounts {
    total: u32,
    live: u32,
    stale: u32,
    dead: u32,
    maintenance: u32,
}

/// The answer of `GET /nodes`.
#[derive(Debug, Serialize)]
pub(crate) struct Nodes {
    nodes: Vec<NodeStatus>,
}

/// `GET /info`
pub(crate) async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    let mut answer = Info {
        service: SERVICE,
        status: "unavailable".to_owned(),
        reason: String::new(),
        namenode: app.config.namenode.clone(),
        version: env!("CARGO_PKG_VERSION"),
        cluster: None,
    };
    match ask(&app).await {
        Ok(info) => {
            answer.status.clone_from(&info.status);
            answer.reason.clone_from(&info.reason);
            answer.cluster = Some(Cluster::from(info));
        }
        Err(error) => answer.reason = format!("the namenode does not answer: {error}"),
    }
    Json(answer)
}

/// The cluster in figures, or soon the word that there is nobody to ask.
pub(crate) async fn ask(app: &App) -> Result<ClusterInfo, StoreError> {
    match tokio::time::timeout(ANSWER_LIMIT, app.client.info()).await {
        Ok(info) => Ok(info?),
        Err(_) => Err(StoreError::new(
            ErrorCode::Unavailable,
            format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
        )),
    }
}

/// `GET /nodes`
pub(crate) async fn nodes(State(app): State<Arc<App>>) -> Result<Json<Nodes>, ApiError> {
    let nodes = app.client.nodes().await?;
    Ok(Json(Nodes { nodes }))
}

/// `GET /history`: this gateway's throughput and the cluster's backlog in the last hour.
pub(crate) async fn history(State(app): State<Arc<App>>) -> Json<HistoryJson> {
    Json(app.history().to_json())
}

/// `GET /admin/dump/{table}`: JSON lines, as they come. A dump that breaks breaks the response off.
pub(crate) async fn dump(
    State(app): State<Arc<App>>,
    Path(table): Path<String>,
) -> Result<Response, ApiError> {
    if !is_table_name(&table) {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            "there is no table of that name",
        ));
    }
    let mut lines = Box::pin(app.client.dump(&table).await?);
    // Awaited before the status, so that a table that does not exist is a 404 and not an empty dump.
    let first: Option<Bytes> = lines.next().await.transpose()?;
    let all = stream::iter(first.map(Ok)).chain(lines);
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(all),
    )
        .into_response())
}

fn is_table_name(table: &str) -> bool {
    (1..=MAX_TABLE_BYTES).contains(&table.len())
        && table
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

impl From<ClusterInfo> for Cluster {
    fn from(info: ClusterInfo) -> Self {
        Self {
            cluster_id: info.cluster_id.to_string(),
            epoch: info.epoch,
            files: info.files,
            bytes: info.bytes,
            under_replicated: info.under_replicated,
            repairs_copying: info.repairs_copying,
            repairs_waiting: info.repairs_waiting,
            misplaced: info.misplaced,
            misplaced_checked: info.misplaced_checked,
            tombstones: info.tombstones,
            commands_pending: info.commands_pending,
            writes_in_flight: info.writes_in_flight,
            nodes: NodeCounts {
                total: info
                    .nodes_live
                    .saturating_add(info.nodes_stale)
                    .saturating_add(info.nodes_dead)
                    .saturating_add(info.nodes_in_maintenance),
                live: info.nodes_live,
                stale: info.nodes_stale,
                dead: info.nodes_dead,
                maintenance: info.nodes_in_maintenance,
            },
            capacity_bytes: info.capacity_bytes,
            available_bytes: info.available_bytes,
            uptime_ms: info.uptime_ms,
        }
    }
}
