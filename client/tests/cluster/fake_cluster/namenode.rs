//! A namenode that keeps everything in memory and remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::Stream;
use richardstore_proto::wire::name_node_server::NameNode;
use richardstore_proto::wire::{self, hash_field, node_id_field, optional_hash_field};
use richardstore_proto::{
    Allocation, ContentHash, DataNodeInfo, ErrorCode, FileInfo, FileLocations, Forget, Generation,
    Held, Hold, HolderId, LocatedFile, NodeId, Sequence, StoreError,
};
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::datanode::Node;

/// The namenode.
pub struct FakeNameNode {
    nodes: Vec<Arc<Node>>,
    state: Mutex<State>,
    /// There is something to forget.
    news: Notify,
}

/// What it knows, was asked, and does wrong.
pub struct State {
    pub files: BTreeMap<ContentHash, (FileInfo, Vec<NodeId>)>,
    pub next_generation: u64,
    /// Allocations that are neither committed nor abandoned.
    pub open: BTreeSet<u64>,
    pub abandoned: Vec<u64>,
    /// Calls that asked for allocations.
    pub allocations: usize,
    /// Nodes in a chain.
    pub chain: usize,
    pub min_replication: u32,
    pub expires_in_ms: u64,
    pub renewals: usize,
    /// Who was said to have the bytes when replacements were last asked for.
    pub acknowledged: Vec<NodeId>,
    /// Renewals find that the write is gone.
    pub forgets_writes: bool,
    /// Writes of older generations began before a delete of their file.
    pub deleted_before: u64,
    /// Commits that were refused for that.
    pub refused: usize,
    /// This many commits are done, and their answers lost.
    pub lose_commit_answers: usize,
    /// This many deletes are done, and their answers lost.
    pub lose_delete_answers: usize,
    pub bad_replicas: Vec<(ContentHash, NodeId)>,
    pub lookups: usize,
    /// How long may be remembered where files are; 0 not at all.
    pub lease_ms: u64,
    /// Files that those who remember are to forget.
    to_forget: Vec<ContentHash>,
    /// How many of them were named, and how many the holder said it has forgotten.
    pub named: u64,
    pub forgotten: u64,
    pub released: bool,
    /// Of several allocations in a call only the last gets a chain: there is no room for the size of the largest in all.
    pub room_for_one: bool,
}

impl FakeNameNode {
    pub fn new(nodes: Vec<Arc<Node>>) -> Self {
        Self {
            nodes,
            news: Notify::new(),
            state: Mutex::new(State {
                files: BTreeMap::new(),
                next_generation: 1,
                open: BTreeSet::new(),
                abandoned: Vec::new(),
                allocations: 0,
                chain: 3,
                min_replication: 2,
                expires_in_ms: 60_000,
                renewals: 0,
                acknowledged: Vec::new(),
                forgets_writes: false,
                deleted_before: 0,
                refused: 0,
                lose_commit_answers: 0,
                lose_delete_answers: 0,
                bad_replicas: Vec::new(),
                lookups: 0,
                lease_ms: 0,
                to_forget: Vec::new(),
                named: 0,
                forgotten: 0,
                released: false,
                room_for_one: false,
            }),
        }
    }

    /// Has those who remember where `hash` is forget it.
    pub fn forget(&self, hash: ContentHash) {
        self.state().to_forget.push(hash);
        self.news.notify_one();
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn located(&self, file: FileInfo, holders: &[NodeId]) -> FileLocations {
        let nodes = self.nodes.iter().map(|node| node.info.clone());
        FileLocations {
            file,
            nodes: nodes
                .filter(|node| holders.contains(&node.node_id))
                .collect(),
        }
    }

    fn targets(&self, excluded: &[NodeId], count: usize) -> Vec<DataNodeInfo> {
        let nodes = self.nodes.iter().map(|node| node.info.clone());
        nodes
            .filter(|node| !excluded.contains(&node.node_id))
            .take(count)
            .collect()
    }

    fn allocate(&self, request: wire::WriteFileRequest) -> Result<wire::WriteFileResponse, Status> {
        let mut state = self.state();
        let declared = optional_hash_field("declared_hash", &request.declared_hash)?;
        if let Some((file, holders)) = declared.and_then(|hash| state.files.get(&hash)) {
            return Ok(wire::WriteFileResponse {
                existing: Some(self.located(*file, holders).into()),
                ..Default::default()
            });
        }
        let excluded: Vec<NodeId> = ids(&request.excluded_nodes)?;
        let needed = usize::try_from(state.min_replication).unwrap();
        if request.generation == 0 && self.targets(&excluded, needed).len() < needed {
            return Err(StoreError::new(ErrorCode::InsufficientReplicas, "too few nodes").into());
        }
        let mut more: Vec<wire::Allocation> = Vec::new();
        let allocation = if request.generation > 0 {
            let wanted = usize::try_from(request.targets_wanted).unwrap();
            state.acknowledged = ids(&request.acknowledged_nodes)?;
            Allocation {
                generation: Generation(request.generation),
                targets: self.targets(&excluded, wanted),
            }
        } else {
            state.allocations += 1;
            let chain = self.targets(&excluded, state.chain);
            let others = match state.room_for_one {
                true => Vec::new(),
                false => chain.clone(),
            };
            for _ in 1..request.count {
                more.push(state.allocation(others.clone()).into());
            }
            state.allocation(chain)
        };
        more.push(allocation.into());
        Ok(wire::WriteFileResponse {
            allocations: more,
            existing: None,
            min_replication: state.min_replication,
            expires_in_ms: state.expires_in_ms,
        })
    }

    fn look_up(&self, hash: &ContentHash) -> Result<FileLocations, StoreError> {
        let mut state = self.state();
        state.lookups += 1;
        let (file, holders) = state
            .files
            .get(hash)
            .ok_or_else(|| StoreError::new(ErrorCode::NotFound, format!("no file {hash}")))?;
        Ok(self.located(*file, holders))
    }

    fn commit(&self, commit: wire::FileCommit) -> Result<wire::CommitResult, Status> {
        let nodes = ids(&commit.nodes)?;
        let mut file = FileInfo::try_from(commit.file.unwrap())?;
        let mut state = self.state();
        if file.generation.0 < state.deleted_before {
            state.refused += 1;
            return Ok(wire::CommitResult {
                error_code: ErrorCode::DeletedMeanwhile.number(),
                error: "deleted meanwhile".into(),
                ..Default::default()
            });
        }
        if !state.open.remove(&file.generation.0) {
            let known = state.files.get(&file.hash);
            let done = known.is_some_and(|(known, _)| known.generation >= file.generation);
            return Ok(match done {
                true => committed(false, nodes.len()),
                false => wire::CommitResult {
                    error_code: ErrorCode::Conflict.number(),
                    error: "unknown write".into(),
                    ..Default::default()
                },
            });
        }
        file.created_ms = 77;
        let count = nodes.len();
        let created = state.files.insert(file.hash, (file, nodes)).is_none();
        if state.lose_commit_answers > 0 {
            state.lose_commit_answers -= 1;
            return Err(Status::unavailable("killed before the answer"));
        }
        Ok(committed(created, count))
    }
}

impl State {
    fn allocation(&mut self, targets: Vec<DataNodeInfo>) -> Allocation {
        let generation = self.next_generation;
        self.next_generation += 1;
        self.open.insert(generation);
        Allocation {
            generation: Generation(generation),
            targets,
        }
    }
}

fn committed(created: bool, replicas: usize) -> wire::CommitResult {
    wire::CommitResult {
        created,
        replicas: u32::try_from(replicas).unwrap(),
        created_ms: 77,
        ..Default::default()
    }
}

fn ids(list: &[bytes::Bytes]) -> Result<Vec<NodeId>, Status> {
    let ids = list.iter().map(|id| node_id_field("node_id", id));
    Ok(ids.collect::<Result<_, _>>()?)
}

type Lines = Pin<Box<dyn Stream<Item = Result<wire::DumpResponse, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl NameNode for FakeNameNode {
    type DumpStream = Lines;

    async fn write_file(
        &self,
        request: Request<wire::WriteFileRequest>,
    ) -> Answer<wire::WriteFileResponse> {
        self.allocate(request.into_inner()).map(Response::new)
    }

    async fn renew_writes(
        &self,
        request: Request<wire::RenewWritesRequest>,
    ) -> Answer<wire::RenewWritesResponse> {
        let mut state = self.state();
        state.renewals += 1;
        let unknown = match state.forgets_writes {
            true => request.into_inner().generations,
            false => Vec::new(),
        };
        Ok(Response::new(wire::RenewWritesResponse { unknown }))
    }

    async fn commit_files(
        &self,
        request: Request<wire::CommitFilesRequest>,
    ) -> Answer<wire::CommitFilesResponse> {
        let files = request.into_inner().files.into_iter();
        let results = files.map(|file| self.commit(file));
        let results = results.collect::<Result<_, _>>()?;
        Ok(Response::new(wire::CommitFilesResponse { results }))
    }

    async fn abandon_writes(
        &self,
        request: Request<wire::AbandonWritesRequest>,
    ) -> Answer<wire::AbandonWritesResponse> {
        let mut state = self.state();
        for generation in request.into_inner().generations {
            state.open.remove(&generation);
            state.abandoned.push(generation);
        }
        Ok(Response::new(wire::AbandonWritesResponse {}))
    }

    async fn read_file(&self, request: Request<wire::ReadFileRequest>) -> Answer<wire::StreamInfo> {
        let hash = hash_field("hash", &request.into_inner().hash)?;
        let located = LocatedFile {
            locations: self.look_up(&hash)?,
            equal_nodes: 1,
        };
        Ok(Response::new(located.into()))
    }

    async fn locate_files(
        &self,
        request: Request<wire::LocateFilesRequest>,
    ) -> Answer<wire::LocateFilesResponse> {
        let mut files = Vec::new();
        for hash in request.into_inner().hashes {
            files.push(match self.look_up(&hash_field("hashes", &hash)?) {
                Ok(located) => wire::LocatedFile {
                    file: Some(located.into()),
                    ..Default::default()
                },
                Err(error) => wire::LocatedFile {
                    error_code: error.code.number(),
                    error: error.message,
                    ..Default::default()
                },
            });
        }
        Ok(Response::new(wire::LocateFilesResponse { files }))
    }

    async fn hold_locations(
        &self,
        request: Request<wire::HoldLocationsRequest>,
    ) -> Answer<wire::HoldLocationsResponse> {
        let hold = Hold::from(request.into_inner());
        {
            let mut state = self.state();
            state.forgotten = hold.forgotten.0;
            state.released |= hold.release;
        }
        if hold.holder.is_some() {
            // With or without news: a holder is answered after a while also where there are none.
            drop(timeout(Duration::from_millis(200), self.news.notified()).await);
        }
        let mut state = self.state();
        let forget = std::mem::take(&mut state.to_forget);
        state.named += forget.len() as u64;
        let held = Held {
            holder: HolderId(1),
            forget: Forget::These(forget),
            sequence: Sequence(state.named),
            lease_ms: state.lease_ms,
        };
        Ok(Response::new(held.into()))
    }

    async fn delete_file(
        &self,
        request: Request<wire::DeleteFileRequest>,
    ) -> Answer<wire::DeleteFileResponse> {
        let hash = hash_field("hash", &request.into_inner().hash)?;
        let mut state = self.state();
        let existed = state.files.remove(&hash).is_some();
        if state.lose_delete_answers > 0 {
            state.lose_delete_answers -= 1;
            return Err(Status::unavailable("killed before the answer"));
        }
        Ok(Response::new(wire::DeleteFileResponse { existed }))
    }

    async fn info(&self, _: Request<wire::InfoRequest>) -> Answer<wire::InfoResponse> {
        Ok(Response::new(wire::InfoResponse {
            status: "running".into(),
            cluster_id: super::CLUSTER.into(),
            ..Default::default()
        }))
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
        request: Request<wire::ReportBadReplicaRequest>,
    ) -> Answer<wire::ReportBadReplicaResponse> {
        let request = request.into_inner();
        let hash = hash_field("hash", &request.hash)?;
        let node = node_id_field("node_id", &request.node_id)?;
        self.state().bad_replicas.push((hash, node));
        Ok(Response::new(wire::ReportBadReplicaResponse {}))
    }

    async fn list_files(
        &self,
        request: Request<wire::ListFilesRequest>,
    ) -> Answer<wire::ListFilesResponse> {
        let request = request.into_inner();
        let after = optional_hash_field("after", &request.after)?;
        let state = self.state();
        let matching: Vec<_> = state
            .files
            .iter()
            .filter(|(hash, _)| after.is_none_or(|after| **hash > after))
            .filter(|(hash, _)| hash.to_hex().starts_with(&request.prefix))
            .collect();
        let limit = usize::try_from(request.limit).unwrap();
        let page = matching.iter().take(limit);
        Ok(Response::new(wire::ListFilesResponse {
            files: page
                .map(|(_, (file, holders))| self.located(*file, holders).into())
                .collect(),
            more: matching.len() > limit,
        }))
    }

    async fn list_nodes(
        &self,
        _: Request<wire::ListNodesRequest>,
    ) -> Answer<wire::ListNodesResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn dump(&self, _: Request<wire::DumpRequest>) -> Answer<Lines> {
        Err(Status::unimplemented("not needed"))
    }

    async fn register(&self, _: Request<wire::RegisterRequest>) -> Answer<wire::RegisterResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn heartbeat(
        &self,
        _: Request<wire::HeartbeatRequest>,
    ) -> Answer<wire::HeartbeatResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn block_report(
        &self,
        _: Request<wire::BlockReportRequest>,
    ) -> Answer<wire::BlockReportResponse> {
        Err(Status::unimplemented("not needed"))
    }

    async fn incremental_block_report(
        &self,
        _: Request<wire::IncrementalBlockReportRequest>,
    ) -> Answer<wire::IncrementalBlockReportResponse> {
        Err(Status::unimplemented("not needed"))
    }
}
