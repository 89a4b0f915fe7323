//! [`DataNodeService`]: the calls of a datanode, from the wire to the parts that answer them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use richardstore_proto::wire::{
    self, WireError, cluster_field, data_node_server::DataNode, hash_field, list_field,
    request_id_field,
};
use richardstore_proto::{
    DataNodeInfo, ErrorCode, Generation, MAX_REPLICATION, StoreError, WantedFiles,
};
use tonic::{Request, Response, Status, Streaming};

use crate::copy::{Copy, copy};
use crate::node::Node;
use crate::pipeline::{offload_failed, receive, receive_whole};
use crate::read::open_read;
use crate::read_whole::read_whole;

/// The gRPC face of one datanode.
pub(crate) struct DataNodeService {
    node: Arc<Node>,
}

impl DataNodeService {
    /// The calls of `node`.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    async fn copy(
        &self,
        request: wire::CopyFileRequest,
    ) -> Result<wire::WriteFileResult, StoreError> {
        let node = &self.node;
        node.membership
            .check_cluster(cluster_field(&request.cluster_id)?)
            .await?;
        let stream = request.stream.ok_or(WireError::Missing("stream"))?;
        let file = stream.file.ok_or(WireError::Missing("file"))?;
        let asked = Copy {
            hash: hash_field("hash", &file.hash)?,
            generation: Generation(file.generation),
            chain: list_field(
                "nodes",
                stream.nodes,
                MAX_REPLICATION,
                DataNodeInfo::try_from,
            )?,
            request_id: request_id_field(request.request_id),
        };
        tokio::select! {
            biased;
            () = node.cut.cancelled() => Err(stopping()),
            result = copy(node, asked) => Ok(result?.into()),
        }
    }

    async fn info(&self) -> Result<wire::DataNodeInfoResponse, StoreError> {
        let node = &self.node;
        let volume = node.volume.clone();
        let indexed = node.environment.offload.run(move || volume.is_indexed());
        let indexed = indexed.await.map_err(offload_failed)?;
        let cluster_id = node.membership.identity().cluster_id;
        let status = match cluster_id {
            None => "joining",
            Some(_) if indexed => "serving",
            Some(_) => "rebuilding",
        };
        Ok(wire::DataNodeInfoResponse {
            node: Some(node.info(Generation(0)).into()),
            stats: Some(node.stats().await?.into()),
            cluster_id: cluster_id.map(|id| id.to_string()).unwrap_or_default(),
            status: status.to_owned(),
            namenode_last_seen_age_ms: node
                .membership
                .namenode_silence()
                .map_or(u64::MAX, milliseconds),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

fn stopping() -> StoreError {
    StoreError::new(ErrorCode::Unavailable, "the datanode is stopping")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[tonic::async_trait]
impl DataNode for DataNodeService {
    type ReadFileStream =
        Pin<Box<dyn Stream<Item = Result<wire::ReadFileResponsePart, Status>> + Send>>;

    async fn write_file(
        &self,
        request: Request<Streaming<wire::WriteFileRequestPart>>,
    ) -> Result<Response<wire::WriteFileResult>, Status> {
        let _room = self.node.admit_write()?;
        let result = tokio::select! {
            biased;
            () = self.node.cut.cancelled() => Err(stopping()),
            result = receive(&self.node, request.into_inner()) => result,
        };
        Ok(Response::new(result?.into()))
    }

    async fn write_files(
        &self,
        request: Request<wire::WriteFilesRequest>,
    ) -> Result<Response<wire::WriteFilesResponse>, Status> {
        let request = request.into_inner();
        let _room = self.node.admit_writes(request.files.len())?;
        let results = tokio::select! {
            biased;
            () = self.node.cut.cancelled() => Err(stopping()),
            results = receive_whole(&self.node, request) => results,
        };
        Ok(Response::new(results?.into()))
    }

    async fn read_file(
        &self,
        request: Request<wire::ReadReplicaRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let parts = open_read(&self.node, request.into_inner()).await?;
        Ok(Response::new(Box::pin(parts)))
    }

    async fn read_files(
        &self,
        request: Request<wire::ReadFilesRequest>,
    ) -> Result<Response<wire::ReadFilesResponse>, Status> {
        let wanted = WantedFiles::try_from(request.into_inner())?;
        let reads = read_whole(&self.node, wanted).await?;
        Ok(Response::new(reads.into()))
    }

    async fn copy_file(
        &self,
        request: Request<wire::CopyFileRequest>,
    ) -> Result<Response<wire::WriteFileResult>, Status> {
        Ok(Response::new(self.copy(request.into_inner()).await?))
    }

    async fn info(
        &self,
        _request: Request<wire::DataNodeInfoRequest>,
    ) -> Result<Response<wire::DataNodeInfoResponse>, Status> {
        Ok(Response::new(DataNodeService::info(self).await?))
    }
}
