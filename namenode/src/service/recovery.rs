//! [`RecoveryService`]: what datanodes remember after the metadata was restored, and copies of it on demand.

use std::sync::Arc;

use richardstore_proto::wire::name_node_recovery_server::NameNodeRecovery;
use richardstore_proto::wire::{self, list_field, node_id_field};
use richardstore_proto::{ContentHash, ErrorCode, RememberedDelete, SessionEpoch, StoreError};
use tonic::{Request, Response, Status};

use crate::copies::{CopyError, take_copy};
use crate::mutation::Mutation;
use crate::shared::{Shared, place_among};

/// Remembered deletes in one message.
const MAX_DELETES: usize = 10_000;

/// Answers all calls of the NameNodeRecovery service.
#[derive(Clone)]
pub struct RecoveryService {
    shared: Arc<Shared>,
}

impl RecoveryService {
    /// A service on `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl NameNodeRecovery for RecoveryService {
    async fn recall_deletes(
        &self,
        request: Request<wire::RecallDeletesRequest>,
    ) -> Result<Response<wire::RecallDeletesResponse>, Status> {
        let answer = recall_deletes(&self.shared, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn take_copy(
        &self,
        _: Request<wire::TakeCopyRequest>,
    ) -> Result<Response<wire::TakeCopyResponse>, Status> {
        let copy = take_copy(&self.shared).await.map_err(|error| {
            let code = match &error {
                CopyError::View(_) | CopyError::Changed { .. } | CopyError::Hash(_) => {
                    ErrorCode::Internal
                }
                CopyError::NoRoom { .. } => ErrorCode::StorageFull,
                CopyError::Io { .. } | CopyError::Lost(_) => ErrorCode::Unavailable,
            };
            StoreError::new(code, error.to_string())
        })?;
        Ok(Response::new(wire::TakeCopyResponse {
            copy: Some(copy.copy.into()),
            path: copy.path.display().to_string(),
            stored: self.shared.copies.shelved() == Some(copy.copy),
        }))
    }
}

async fn recall_deletes(
    shared: &Arc<Shared>,
    request: wire::RecallDeletesRequest,
) -> Result<wire::RecallDeletesResponse, StoreError> {
    let node_id = node_id_field("node_id", &request.node_id)?;
    if shared
        .session(&node_id, SessionEpoch(request.session_epoch))?
        .is_none()
    {
        return Ok(wire::RecallDeletesResponse { unregistered: true });
    }
    let deletes = list_field(
        "deletes",
        request.deletes,
        MAX_DELETES,
        RememberedDelete::try_from,
    )?;
    let place = place_among(&shared.deletes).await;
    let hashes: Vec<ContentHash> = deletes.iter().map(|delete| delete.hash).collect();
    let forgotten = shared.forgotten(&hashes).await?;
    let recall = Mutation::RecallDeletes {
        deletes,
        now_ms: shared.wall_ms(),
    };
    let metadata = shared.metadata.clone();
    // What is recalled deletes what readers may remember since the restore.
    let recalled = shared.to_the_end(place, async move {
        let _forgotten = forgotten;
        metadata.submit(recall).await
    });
    recalled.await??;
    Ok(wire::RecallDeletesResponse {
        unregistered: false,
    })
}
