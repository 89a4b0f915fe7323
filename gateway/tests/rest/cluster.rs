//! A cluster for tests: namenode and datanode as one real gRPC server in this process, with its disk in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use richardstore_proto::wire::data_node_server::{DataNode, DataNodeServer};
use richardstore_proto::wire::event_log_server::{EventLog, EventLogServer};
use richardstore_proto::wire::name_node_admin_server::NameNodeAdminServer;
use richardstore_proto::wire::name_node_server::{NameNode, NameNodeServer};
use richardstore_proto::wire::{self, hash_field, optional_hash_field};
use richardstore_proto::{
    Allocation, Blake3Root, ContentHash, DataNodeInfo, ErrorCode, FileInfo, FileLocations,
    Generation, NodeId, NodeState, PipelineResult, StoreError, WholeFiles, WholeResults,
};
use richardstore_runtime::{bind, grpc_server, serve_grpc};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::admin_answers::Admin;

pub const CLUSTER_ID: &str = "0a0b0c0d-0000-4000-8000-000000000001";
const NODE: NodeId = NodeId::new([1; 16]);
/// The start that counts the events.
const EPOCH: u64 = 7;
/// Bytes of one message of a read.
const CHUNK_BYTES: usize = 64 << 10;

/// What the cluster holds and does wrong.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<ContentHash, (FileInfo, Bytes)>,
    /// On the disk and not committed.
    pub written: BTreeMap<ContentHash, Bytes>,
    pub next_generation: u64,
    /// Uploads whose bytes a datanode began to take.
    pub streams_begun: usize,
    /// Reads break after so many bytes.
    pub break_reads_after: Option<usize>,
    /// Every allocation is refused with this.
    pub refuse_writes: Option<ErrorCode>,
    pub nodes_live: u32,
    pub nodes_dead: u32,
    pub request_ids: Vec<String>,
    /// Streams of events that were asked for.
    pub follows: usize,
    /// Counted by the start 7 of a namenode.
    pub events: Vec<wire::EventKind>,
}

/// The servers. They end with it.
pub struct Cluster {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Roles {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Cluster {
    pub async fn start() -> Self {
        let bound = bind("127.0.0.1:0").await.unwrap();
        let address = bound.address();
        let state = Arc::new(Mutex::new(State {
            next_generation: 1,
            nodes_live: 1,
            ..State::default()
        }));
        let roles = Roles {
            address: address.to_string(),
            state: state.clone(),
        };
        let router = grpc_server()
            .add_service(EventLogServer::new(roles.clone()))
            .add_service(NameNodeServer::new(roles.clone()))
            .add_service(DataNodeServer::new(roles))
            .add_service(NameNodeAdminServer::new(Admin));
        let stop = CancellationToken::new();
        tokio::spawn(serve_grpc(bound, router, stop.clone()));
        Self {
            address,
            state,
            stop,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A file that is there.
    pub fn with_file(&self, bytes: impl Into<Bytes>) -> ContentHash {
        let bytes = bytes.into();
        let file = file_info(&bytes);
        self.state().files.insert(file.hash, (file, bytes));
        file.hash
    }

    /// Something happens.
    pub fn tell(&self, kind: wire::EventKind) {
        self.state().events.push(kind);
    }

    /// Nothing is stored, nothing is half there.
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.files.is_empty() && state.written.is_empty()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// `length` bytes that differ from their neighbours.
pub fn some_bytes(length: usize) -> Vec<u8> {
    let byte = |at: usize| (at * 7 + at / 251).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

/// The SHA-256 of `bytes`.
pub fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::new(Sha256::digest(bytes).into())
}

fn file_info(bytes: &[u8]) -> FileInfo {
    FileInfo {
        hash: hash_of(bytes),
        size: bytes.len() as u64,
        blake3_root: Blake3Root::new(*blake3::hash(bytes).as_bytes()),
        generation: Generation(1),
        replication: 1,
        created_ms: 77,
    }
}

impl Roles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn node(&self) -> DataNodeInfo {
        DataNodeInfo {
            node_id: NODE,
            address: self.address.clone(),
            state: NodeState::Live,
            name: "datanode-1".into(),
            rack: "r1".into(),
            generation: Generation(1),
        }
    }

    fn located(&self, file: FileInfo) -> wire::StreamInfo {
        FileLocations {
            file,
            nodes: vec![self.node()],
        }
        .into()
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not needed here"))
}

#[tonic::async_trait]
impl EventLog for Roles {
    type FollowStream = Parts<wire::FollowResponse>;

    async fn follow(
        &self,
        request: Request<wire::FollowRequest>,
    ) -> Answer<Parts<wire::FollowResponse>> {
        let request = request.into_inner();
        self.state().follows += 1;
        let same_start = request.epoch == EPOCH;
        let first = if same_start { request.sequence } else { 0 };
        let mut gap = !same_start && request.epoch != 0;
        let roles = self.clone();
        let answers = stream::unfold(first, move |seen| {
            let (roles, gap) = (roles.clone(), std::mem::take(&mut gap));
            async move {
                let at = usize::try_from(seen).unwrap();
                while roles.state().events.len() <= at {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let event = wire::Event {
                    sequence: seen + 1,
                    kind: roles.state().events[at].into(),
                    ..Default::default()
                };
                let response = wire::FollowResponse {
                    epoch: EPOCH,
                    gap,
                    events: vec![event],
                };
                Some((Ok(response), seen + 1))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl NameNode for Roles {
    type DumpStream = Parts<wire::DumpResponse>;

    async fn write_file(
        &self,
        request: Request<wire::WriteFileRequest>,
    ) -> Answer<wire::WriteFileResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        if let Some(code) = state.refuse_writes {
            return Err(StoreError::new(code, "refused on purpose").into());
        }
        let declared = optional_hash_field("declared_hash", &request.declared_hash)?;
        if let Some((file, _)) = declared.and_then(|hash| state.files.get(&hash)) {
            return Ok(Response::new(wire::WriteFileResponse {
                existing: Some(self.located(*file)),
                ..Default::default()
            }));
        }
        let allocations = (0..request.count).map(|_| {
            state.next_generation += 1;
            let allocation = Allocation {
                generation: Generation(state.next_generation - 1),
                targets: vec![self.node()],
            };
            allocation.into()
        });
        Ok(Response::new(wire::WriteFileResponse {
            allocations: allocations.collect(),
            existing: None,
            min_replication: 1,
            expires_in_ms: 60_000,
        }))
    }

    async fn renew_writes(
        &self,
        _: Request<wire::RenewWritesRequest>,
    ) -> Answer<wire::RenewWritesResponse> {
        Ok(Response::new(wire::RenewWritesResponse::default()))
    }

    async fn commit_files(
        &self,
        request: Request<wire::CommitFilesRequest>,
    ) -> Answer<wire::CommitFilesResponse> {
        let mut state = self.state();
        let mut results = Vec::new();
        for commit in request.into_inner().files {
            let mut file = FileInfo::try_from(commit.file.unwrap())?;
            file.created_ms = 77;
            let bytes = state.written.remove(&file.hash).unwrap();
            let created = state.files.insert(file.hash, (file, bytes)).is_none();
            results.push(wire::CommitResult {
                created,
                replicas: 1,
                created_ms: 77,
                ..Default::default()
            });
        }
        Ok(Response::new(wire::CommitFilesResponse { results }))
    }

    async fn abandon_writes(
        &self,
        _: Request<wire::AbandonWritesRequest>,
    ) -> Answer<wire::AbandonWritesResponse> {
        Ok(Response::new(wire::AbandonWritesResponse {}))
    }

    async fn read_file(&self, request: Request<wire::ReadFileRequest>) -> Answer<wire::StreamInfo> {
        let hash = hash_field("hash", &request.into_inner().hash)?;
        let file = self.state().files.get(&hash).map(|(file, _)| *file);
        let file = file.ok_or_else(|| {
            StoreError::new(ErrorCode::NotFound, format!("there is no file {hash}"))
        })?;
        Ok(Response::new(self.located(file)))
    }

    async fn locate_files(
        &self,
        request: Request<wire::LocateFilesRequest>,
    ) -> Answer<wire::LocateFilesResponse> {
        let state = self.state();
        let mut files = Vec::new();
        for hash in request.into_inner().hashes {
            let found = state.files.get(&hash_field("hashes", &hash)?);
            files.push(match found {
                Some((file, _)) => wire::LocatedFile {
                    file: Some(self.located(*file)),
                    ..Default::default()
                },
                None => wire::LocatedFile {
                    error_code: ErrorCode::NotFound.number(),
                    error: "there is no such file".into(),
                    ..Default::default()
                },
            });
        }
        Ok(Response::new(wire::LocateFilesResponse { files }))
    }

    async fn hold_locations(
        &self,
        _: Request<wire::HoldLocationsRequest>,
    ) -> Answer<wire::HoldLocationsResponse> {
        unused()
    }

    async fn delete_file(
        &self,
        request: Request<wire::DeleteFileRequest>,
    ) -> Answer<wire::DeleteFileResponse> {
        let hash = hash_field("hash", &request.into_inner().hash)?;
        let existed = self.state().files.remove(&hash).is_some();
        Ok(Response::new(wire::DeleteFileResponse { existed }))
    }

    async fn list_files(
        &self,
        request: Request<wire::ListFilesRequest>,
    ) -> Answer<wire::ListFilesResponse> {
        let request = request.into_inner();
        let after = optional_hash_field("after", &request.after)?;
        let state = self.state();
        let matching: Vec<FileInfo> = state
            .files
            .values()
            .map(|(file, _)| *file)
            .filter(|file| after.is_none_or(|after| file.hash > after))
            .filter(|file| file.hash.to_hex().starts_with(&request.prefix))
            .collect();
        let limit = usize::try_from(request.limit).unwrap();
        Ok(Response::new(wire::ListFilesResponse {
            more: matching.len() > limit,
            files: matching
                .into_iter()
                .take(limit)
                .map(|file| self.located(file))
                .collect(),
        }))
    }

    async fn list_nodes(
        &self,
        _: Request<wire::ListNodesRequest>,
    ) -> Answer<wire::ListNodesResponse> {
        let nodes = vec![wire::NodeStatus {
            node: Some(self.node().into()),
            ..Default::default()
        }];
        Ok(Response::new(wire::ListNodesResponse { nodes }))
    }

    async fn info(&self, _: Request<wire::InfoRequest>) -> Answer<wire::InfoResponse> {
        let state = self.state();
        Ok(Response::new(wire::InfoResponse {
            status: "running".into(),
            cluster_id: CLUSTER_ID.into(),
            files: state.files.len() as u64,
            nodes_live: state.nodes_live,
            nodes_dead: state.nodes_dead,
            ..Default::default()
        }))
    }

    async fn dump(&self, request: Request<wire::DumpRequest>) -> Answer<Parts<wire::DumpResponse>> {
        match request.into_inner().table.as_str() {
            "files" => {
                let parts = ["{\"hash\":1}\n", "{\"hash\":2}\n"].map(|lines| {
                    Ok(wire::DumpResponse {
                        lines: Bytes::from_static(lines.as_bytes()),
                    })
                });
                Ok(Response::new(Box::pin(stream::iter(parts))))
            }
            "tombstones" => Ok(Response::new(Box::pin(stream::empty()))),
            other => {
                Err(StoreError::new(ErrorCode::NotFound, format!("no table {other:?}")).into())
            }
        }
    }

    async fn register(&self, _: Request<wire::RegisterRequest>) -> Answer<wire::RegisterResponse> {
        unused()
    }

    async fn heartbeat(
        &self,
        _: Request<wire::HeartbeatRequest>,
    ) -> Answer<wire::HeartbeatResponse> {
        unused()
    }

    async fn block_report(
        &self,
        _: Request<wire::BlockReportRequest>,
    ) -> Answer<wire::BlockReportResponse> {
        unused()
    }

    async fn incremental_block_report(
        &self,
        _: Request<wire::IncrementalBlockReportRequest>,
    ) -> Answer<wire::IncrementalBlockReportResponse> {
        unused()
    }

    async fn set_node_admin(
        &self,
        _: Request<wire::SetNodeAdminRequest>,
    ) -> Answer<wire::SetNodeAdminResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn set_safe_mode(
        &self,
        _: Request<wire::SetSafeModeRequest>,
    ) -> Answer<wire::SetSafeModeResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn report_bad_replica(
        &self,
        _: Request<wire::ReportBadReplicaRequest>,
    ) -> Answer<wire::ReportBadReplicaResponse> {
        Ok(Response::new(wire::ReportBadReplicaResponse {}))
    }
}

#[tonic::async_trait]
impl DataNode for Roles {
    type ReadFileStream = Parts<wire::ReadFileResponsePart>;

    async fn write_file(
        &self,
        request: Request<Streaming<wire::WriteFileRequestPart>>,
    ) -> Answer<wire::WriteFileResult> {
        use wire::write_file_request_part::Part;
        let mut parts = request.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.next().await {
            match part?.part.unwrap() {
                Part::Header(header) => {
                    let mut state = self.state();
                    state.streams_begun += 1;
                    state.request_ids.push(header.request_id);
                }
                Part::Chunk(chunk) => bytes.extend_from_slice(&chunk),
                Part::Trailer(trailer) => {
                    let file = file_info(&bytes);
                    assert_eq!(trailer.hash, file.hash.as_bytes()[..]);
                    self.state().written.insert(file.hash, bytes.into());
                    return Ok(Response::new(wire::WriteFileResult {
                        file: Some(file.into()),
                        acknowledged: vec![Bytes::copy_from_slice(NODE.as_bytes())],
                        failed: Vec::new(),
                    }));
                }
            }
        }
        Err(Status::aborted("no trailer"))
    }

    async fn write_files(
        &self,
        request: Request<wire::WriteFilesRequest>,
    ) -> Answer<wire::WriteFilesResponse> {
        let whole = WholeFiles::try_from(request.into_inner())?;
        let mut state = self.state();
        let mut results = Vec::new();
        for sent in whole.files {
            let file = file_info(&sent.data);
            assert_eq!(sent.trailer.hash, file.hash);
            state.streams_begun += 1;
            state.request_ids.push(sent.request_id);
            state.written.insert(file.hash, sent.data);
            results.push(Ok(PipelineResult {
                acknowledged: vec![NODE],
                failed: Vec::new(),
            }));
        }
        Ok(Response::new(WholeResults(results).into()))
    }

    async fn read_file(
        &self,
        request: Request<wire::ReadReplicaRequest>,
    ) -> Answer<Self::ReadFileStream> {
        use wire::read_file_response_part::Part;
        let request = request.into_inner();
        let hash = hash_field("hash", &request.hash)?;
        let state = self.state();
        let (file, bytes) = state
            .files
            .get(&hash)
            .ok_or_else(|| StoreError::new(ErrorCode::NotFound, "no replica"))?;
        let start = usize::try_from(request.offset).unwrap();
        let end = match usize::try_from(request.length).unwrap() {
            0 => bytes.len(),
            length => bytes.len().min(start + length),
        };
        let healthy = state.break_reads_after.map_or(end, |most| most.min(end));
        let mut parts = vec![Ok(Part::Info(self.located(*file)))];
        for at in (start..healthy).step_by(CHUNK_BYTES) {
            let chunk = bytes.slice(at..healthy.min(at + CHUNK_BYTES));
            parts.push(Ok(Part::Chunk(chunk)));
        }
        if healthy < end {
            parts.push(Err(Status::unavailable("broken on purpose")));
        }
        let parts = parts
            .into_iter()
            .map(|part| part.map(|part| wire::ReadFileResponsePart { part: Some(part) }));
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }

    async fn read_files(
        &self,
        _: Request<wire::ReadFilesRequest>,
    ) -> Answer<wire::ReadFilesResponse> {
        unused()
    }

    async fn copy_file(&self, _: Request<wire::CopyFileRequest>) -> Answer<wire::WriteFileResult> {
        unused()
    }

    async fn info(
        &self,
        _: Request<wire::DataNodeInfoRequest>,
    ) -> Answer<wire::DataNodeInfoResponse> {
        unused()
    }
}
