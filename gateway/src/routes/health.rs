//! What machines ask: is it alive, is it ready, what did it count.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use richardstore_client::ClusterInfo;
use richardstore_proto::ErrorCode;
use serde_json::{Value, json};

use super::cluster;
use crate::api_error::ApiError;
use crate::app::App;

/// Live datanodes that a write needs, where the cluster has as many: the namenode's default.
const MIN_REPLICATION: u32 = 2;

/// `GET /healthz`: the process is alive. Says nothing of the cluster, or a namenode that is away would restart gateways.
pub(crate) async fn alive() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// `GET /readyz`: a write that comes now can be placed.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let info = cluster::ask(&app).await?;
    match obstacle(&info) {
        None => Ok(Json(json!({"status": "ready", "cluster": info.status}))),
        Some(obstacle) => Err(ApiError::new(ErrorCode::Unavailable, obstacle)),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app
        .metrics
        .to_text(app.connections.count(), app.client.look_up_counts());
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// Why a write cannot be placed. Safe mode is no reason: it holds back repairs and deletes, not uploads.
fn obstacle(info: &ClusterInfo) -> Option<String> {
    let known = info
        .nodes_live
        .saturating_add(info.nodes_stale)
        .saturating_add(info.nodes_dead);
    let wanted = MIN_REPLICATION.min(known).max(1);
    let live = info.nodes_live;
    (live < wanted).then(|| format!("{live} of {known} datanodes are live, a write needs {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::ClusterId;

    fn cluster(live: u32, stale: u32, dead: u32) -> ClusterInfo {
        ClusterInfo {
            status: "running".into(),
            reason: String::new(),
            cluster_id: ClusterId::new([0; 16]),
            epoch: 1,
            files: 0,
            bytes: 0,
            repairs_copying: 0,
            repairs_waiting: 0,
            under_replicated: 0,
            misplaced: 0,
            misplaced_checked: true,
            tombstones: 0,
            commands_pending: 0,
            writes_in_flight: 0,
            nodes_live: live,
            nodes_stale: stale,
            nodes_dead: dead,
            nodes_in_maintenance: 0,
            capacity_bytes: 0,
            available_bytes: 0,
            uptime_ms: 0,
            version: String::new(),
            address: String::new(),
        }
    }

    #[test]
    fn ready_is_when_a_write_can_be_placed() {
        for (live, stale, dead, ready) in [
            (3, 0, 0, true),
            (2, 1, 0, true),
            (1, 0, 0, true),
            (1, 1, 0, false),
            (1, 0, 2, false),
            (0, 0, 0, false),
            (0, 3, 0, false),
        ] {
            let found = obstacle(&cluster(live, stale, dead));
            assert_eq!(found.is_none(), ready, "{live} {stale} {dead}: {found:?}");
        }
    }
}
