//! The gRPC face for operators. This file only maps calls to functions.

mod check;
mod repair_now;
mod report;
mod why;

use std::sync::Arc;

use richardstore_proto::wire;
use richardstore_proto::wire::name_node_admin_server::NameNodeAdmin;
use tonic::{Request, Response, Status};

use crate::shared::Shared;

pub use report::report;

/// Answers all calls of the NameNodeAdmin service.
#[derive(Clone)]
pub struct AdminService {
    shared: Arc<Shared>,
}

impl AdminService {
    /// A service on `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl NameNodeAdmin for AdminService {
    type CheckStream = check::CheckStream;

    async fn check(
        &self,
        _: Request<wire::CheckRequest>,
    ) -> Result<Response<Self::CheckStream>, Status> {
        Ok(Response::new(check::check(&self.shared)))
    }

    async fn repair_now(
        &self,
        _: Request<wire::RepairNowRequest>,
    ) -> Result<Response<wire::RepairNowResponse>, Status> {
        Ok(Response::new(repair_now::repair_now(&self.shared)))
    }

    async fn report(
        &self,
        request: Request<wire::ReportRequest>,
    ) -> Result<Response<wire::ReportResponse>, Status> {
        let answer = report::report(&self.shared, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn why(
        &self,
        request: Request<wire::WhyRequest>,
    ) -> Result<Response<wire::WhyResponse>, Status> {
        let answer = why::why(&self.shared, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
