//! What the namenode of these tests answers to operators.

use richardstore_proto::wire;
use richardstore_proto::wire::name_node_admin_server::NameNodeAdmin;
use tonic::{Request, Response, Status};

/// Knows nothing, in words.
pub struct Admin;

#[tonic::async_trait]
impl NameNodeAdmin for Admin {
    type CheckStream = tokio_stream::Empty<Result<wire::CheckPart, Status>>;

    async fn check(
        &self,
        _: Request<wire::CheckRequest>,
    ) -> Result<Response<Self::CheckStream>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn repair_now(
        &self,
        _: Request<wire::RepairNowRequest>,
    ) -> Result<Response<wire::RepairNowResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn report(
        &self,
        _: Request<wire::ReportRequest>,
    ) -> Result<Response<wire::ReportResponse>, Status> {
        Ok(Response::new(wire::ReportResponse {
            info: Some(wire::InfoResponse {
                status: "running".to_owned(),
                cluster_id: crate::cluster::CLUSTER_ID.to_owned(),
                files: 7,
                ..wire::InfoResponse::default()
            }),
            replicas_dead: 3,
            copy_seconds: 60,
            ..wire::ReportResponse::default()
        }))
    }

    async fn why(
        &self,
        request: Request<wire::WhyRequest>,
    ) -> Result<Response<wire::WhyResponse>, Status> {
        Ok(Response::new(wire::WhyResponse {
            hash: request.into_inner().hash,
            state: "unknown".to_owned(),
            summary: "There is no such file.".to_owned(),
            next: vec!["Nothing.".to_owned()],
            ..wire::WhyResponse::default()
        }))
    }
}
