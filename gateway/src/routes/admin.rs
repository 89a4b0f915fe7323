//! What operators look at: the cluster at a glance, and why a file is as it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use richardstore_client::{ClusterReport, WhyReport};

use super::parameters::HashPath;
use crate::api_error::ApiError;
use crate::app::App;

/// `GET /admin/report`
pub(crate) async fn report(State(app): State<Arc<App>>) -> Result<Json<ClusterReport>, ApiError> {
    Ok(Json(app.client.report().await?))
}

/// `GET /admin/why/{hash}`: 200 for every hash, also one that is not there: that is an answer too.
pub(crate) async fn why(
    State(app): State<Arc<App>>,
    HashPath(hash): HashPath,
) -> Result<Json<WhyReport>, ApiError> {
    Ok(Json(app.client.why(&hash).await?))
}
