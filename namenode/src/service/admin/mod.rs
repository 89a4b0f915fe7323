//! The gRPC face for operators. This file only maps calls to functions.

mod report;
mod why;

use std::sync::Arc;

use richardstore_proto::wire;
use richardstore_proto::wire::name_node_admin_server::NameNodeAdmin;
use tonic::{Request, Response, Status};

use crate::shared::Shared;

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
