//! [`DataNodeAdminService`]: what operators ask of a datanode.

use std::sync::Arc;

use richardstore_proto::wire;
use richardstore_proto::wire::data_node_admin_server::DataNodeAdmin;
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::prove::prove;

/// The gRPC face for operators.
pub(crate) struct DataNodeAdminService {
    node: Arc<Node>,
}

impl DataNodeAdminService {
    /// The calls of `node`.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl DataNodeAdmin for DataNodeAdminService {
    async fn prove_replica(
        &self,
        request: Request<wire::ProveReplicaRequest>,
    ) -> Result<Response<wire::ProveReplicaResponse>, Status> {
        let proof = prove(&self.node, request.into_inner()).await?;
        Ok(Response::new(proof))
    }

    async fn scrub_now(
        &self,
        _: Request<wire::ScrubNowRequest>,
    ) -> Result<Response<wire::ScrubNowResponse>, Status> {
        let running = self.node.config.scrubs();
        if running {
            tracing::info!("an operator has all replicas read again now");
            self.node.scrub_wanted.notify_one();
        }
        Ok(Response::new(wire::ScrubNowResponse { running }))
    }
}
