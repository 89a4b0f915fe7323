//! The gRPC face of the namenode. This file only maps calls to functions: `allocations`, `writes`, `files` and
//! `locations` are what clients ask, `nodes`, `commands` and `reports` what datanodes ask, `cluster`, `operators`, `removal` and
//! `dump` what operators ask.

mod admin;
mod allocations;
mod cluster;
mod commands;
mod dump;
mod events;
mod files;
mod locations;
mod nodes;
mod operators;
mod recovery;
mod removal;
mod reports;
mod writes;

pub use operators::end_overdue_maintenance;

use std::sync::Arc;

pub use events::EventLogService;
pub use locations::SharedLeases;
use richardstore_proto::wire::name_node_server::NameNode;
use richardstore_proto::{ErrorCode, StoreError, wire};
use tonic::{Request, Response, Status};

pub use admin::{AdminService, report};
pub use recovery::RecoveryService;

use crate::mutation::Reply;
use crate::shared::Shared;

/// Answers all calls of the NameNode service.
#[derive(Clone)]
pub struct NameNodeService {
    shared: Arc<Shared>,
}

impl NameNodeService {
    /// A service on `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// A reply of another mutation: a fault in this program, told to the caller instead of ending the process.
pub(crate) fn unexpected(reply: &Reply) -> StoreError {
    StoreError::new(
        ErrorCode::Internal,
        format!("the metadata answered with {reply:?}"),
    )
}

macro_rules! call {
    ($self:ident, $request:ident, $function:path) => {
        Ok(Response::new(
            $function(&$self.shared, $request.into_inner()).await?,
        ))
    };
}

#[tonic::async_trait]
impl NameNode for NameNodeService {
    type DumpStream = dump::DumpStream;

    async fn write_file(
        &self,
        request: Request<wire::WriteFileRequest>,
    ) -> Result<Response<wire::WriteFileResponse>, Status> {
        call!(self, request, allocations::write_file)
    }

    async fn renew_writes(
        &self,
        request: Request<wire::RenewWritesRequest>,
    ) -> Result<Response<wire::RenewWritesResponse>, Status> {
        call!(self, request, writes::renew)
    }

    async fn commit_files(
        &self,
        request: Request<wire::CommitFilesRequest>,
    ) -> Result<Response<wire::CommitFilesResponse>, Status> {
        call!(self, request, writes::commit)
    }

    async fn abandon_writes(
        &self,
        request: Request<wire::AbandonWritesRequest>,
    ) -> Result<Response<wire::AbandonWritesResponse>, Status> {
        call!(self, request, writes::abandon)
    }

    async fn read_file(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::StreamInfo>, Status> {
        call!(self, request, files::read_file)
    }

    async fn locate_files(
        &self,
        request: Request<wire::LocateFilesRequest>,
    ) -> Result<Response<wire::LocateFilesResponse>, Status> {
        call!(self, request, files::locate_files)
    }

    async fn hold_locations(
        &self,
        request: Request<wire::HoldLocationsRequest>,
    ) -> Result<Response<wire::HoldLocationsResponse>, Status> {
        call!(self, request, locations::hold)
    }

    async fn delete_file(
        &self,
        request: Request<wire::DeleteFileRequest>,
    ) -> Result<Response<wire::DeleteFileResponse>, Status> {
        call!(self, request, files::delete_file)
    }

    async fn list_files(
        &self,
        request: Request<wire::ListFilesRequest>,
    ) -> Result<Response<wire::ListFilesResponse>, Status> {
        call!(self, request, files::list_files)
    }

    async fn list_nodes(
        &self,
        request: Request<wire::ListNodesRequest>,
    ) -> Result<Response<wire::ListNodesResponse>, Status> {
        call!(self, request, cluster::list_nodes)
    }

    async fn info(
        &self,
        request: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        call!(self, request, cluster::info)
    }

    async fn dump(
        &self,
        request: Request<wire::DumpRequest>,
    ) -> Result<Response<Self::DumpStream>, Status> {
        call!(self, request, dump::dump)
    }

    async fn set_node_admin(
        &self,
        request: Request<wire::SetNodeAdminRequest>,
    ) -> Result<Response<wire::SetNodeAdminResponse>, Status> {
        call!(self, request, operators::set_node_admin)
    }

    async fn set_safe_mode(
        &self,
        request: Request<wire::SetSafeModeRequest>,
    ) -> Result<Response<wire::SetSafeModeResponse>, Status> {
        call!(self, request, operators::set_safe_mode)
    }

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterResponse>, Status> {
        call!(self, request, nodes::register)
    }

    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        call!(self, request, nodes::heartbeat)
    }

    async fn block_report(
        &self,
        request: Request<wire::BlockReportRequest>,
    ) -> Result<Response<wire::BlockReportResponse>, Status> {
        call!(self, request, reports::full)
    }

    async fn incremental_block_report(
        &self,
        request: Request<wire::IncrementalBlockReportRequest>,
    ) -> Result<Response<wire::IncrementalBlockReportResponse>, Status> {
        call!(self, request, reports::incremental)
    }

    async fn report_bad_replica(
        &self,
        request: Request<wire::ReportBadReplicaRequest>,
    ) -> Result<Response<wire::ReportBadReplicaResponse>, Status> {
        call!(self, request, reports::bad_replica)
    }
}
