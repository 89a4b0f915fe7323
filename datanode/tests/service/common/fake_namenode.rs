//! [`FakeNamenode`]: answers as the real one does as far as datanodes can tell, and remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use richardstore_proto::wire::block_report_request::Step;
use richardstore_proto::wire::name_node_server::{NameNode, NameNodeServer};
use richardstore_proto::wire::{self, hash_field, node_id_field, to_bytes};
use richardstore_proto::{
    ClusterId, Command, CommandOutcome, ContentHash, ErrorCode, Generation, JournalEvent,
    JournalId, NodeId, RangeDigest, RangeDigests, ReplicaEntry, StoreError,
};
use richardstore_runtime::{bind, grpc_server, serve_grpc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub const CLUSTER: ClusterId = ClusterId::new([7; 16]);

/// What is known of one datanode.
#[derive(Default)]
pub struct NodeView {
    pub registered: bool,
    pub journal_id: Option<JournalId>,
    pub next_sequence: u64,
    pub replicas: BTreeMap<ContentHash, Generation>,
    pub events: Vec<JournalEvent>,
    pub registrations: u32,
    pub heartbeats: u32,
    pub commands: Vec<Command>,
    pub outcomes: Vec<CommandOutcome>,
    pub bad_replicas: BTreeSet<ContentHash>,
    pub full_reports: u32,
    pub full_report_steps: u32,
    pub stats: wire::NodeStats,
}

/// All that the fake namenode knows; survives its restarts unless a test says otherwise.
pub struct State {
    pub cluster: ClusterId,
    pub epoch: u64,
    pub nodes: BTreeMap<NodeId, NodeView>,
    /// Registrations and heartbeats are answered with this.
    pub refuse: Option<ErrorCode>,
    pub full_report_wanted: bool,
}

pub struct FakeNamenode {
    pub state: Arc<Mutex<State>>,
    pub address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl FakeNamenode {
    pub async fn start() -> Self {
        let state = State {
            cluster: CLUSTER,
            epoch: 5,
            nodes: BTreeMap::new(),
            refuse: None,
            full_report_wanted: false,
        };
        Self::serve("127.0.0.1:0", Arc::new(Mutex::new(state))).await
    }

    async fn serve(address: &str, state: Arc<Mutex<State>>) -> Self {
        let bound = bind(address).await.unwrap();
        let address = bound.address();
        let stop = CancellationToken::new();
        let service = NameNodeServer::new(Service(state.clone()));
        let router = grpc_server().add_service(service);
        let serving = serve_grpc(bound, router, stop.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            state,
            address,
            stop,
            served,
        }
    }

    /// Goes away, and returns what is needed to come back.
    pub async fn stop(self) -> (SocketAddr, Arc<Mutex<State>>) {
        self.stop.cancel();
        self.served.await.unwrap();
        (self.address, self.state)
    }

    /// Comes back at its address with the next epoch, knowing no session and, as the real one, no bad replica.
    pub async fn restart((address, state): (SocketAddr, Arc<Mutex<State>>)) -> Self {
        {
            let mut state = state.lock().unwrap();
            state.epoch += 1;
            for node in state.nodes.values_mut() {
                node.registered = false;
                node.bad_replicas.clear();
            }
        }
        Self::serve(&address.to_string(), state).await
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Looks at one datanode.
    pub fn view<T>(&self, node: NodeId, look: impl FnOnce(&mut NodeView) -> T) -> T {
        look(self.state().nodes.entry(node).or_default())
    }

    pub fn replicas(&self, node: NodeId) -> BTreeMap<ContentHash, Generation> {
        self.view(node, |view| view.replicas.clone())
    }
}

struct Service(Arc<Mutex<State>>);

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn refused(state: &State) -> Result<(), Status> {
    match state.refuse {
        Some(code) => Err(StoreError::new(code, "refused by the test").into()),
        None => Ok(()),
    }
}

fn digests(replicas: &BTreeMap<ContentHash, Generation>) -> RangeDigests {
    let mut digests = RangeDigests::default();
    for (hash, generation) in replicas {
        digests.add(hash, *generation);
    }
    digests
}

fn received(digest: &wire::RangeDigest) -> RangeDigest {
    RangeDigest {
        count: digest.count,
        sum: u128::from_be_bytes(digest.sum[..].try_into().unwrap()),
    }
}

fn compare_digests(
    view: &NodeView,
    report: &wire::ReportDigests,
    answer: &mut wire::BlockReportResponse,
) {
    let ours = digests(&view.replicas);
    if let Some(root) = &report.root {
        answer.root_agrees = received(root) == ours.root();
    }
    for digest in &report.ranges {
        if received(digest) != ours.ranges()[digest.range as usize] {
            answer.differing.push(digest.range);
        }
    }
}

fn compare_entries(
    view: &NodeView,
    report: &wire::ReportEntries,
    answer: &mut wire::BlockReportResponse,
) {
    assert!(report.entries.len() <= 4096);
    let after = ContentHash::try_from(&report.after[..]).ok();
    let through = hash_field("through", &report.through).unwrap();
    let held: BTreeMap<_, _> = report
        .entries
        .iter()
        .map(|entry| ReplicaEntry::try_from(entry.clone()).unwrap())
        .map(|entry| (entry.hash, entry.generation))
        .collect();
    for (&hash, &generation) in &held {
        // One that is known with a newer generation is rechecked below.
        if view
            .replicas
            .get(&hash)
            .is_none_or(|known| *known < generation)
        {
            answer
                .announce
                .push(ReplicaEntry { hash, generation }.into());
        }
    }
    for (&hash, &generation) in &view.replicas {
        let listed = after.is_none_or(|after| hash > after) && hash <= through;
        if listed && held.get(&hash).is_none_or(|held| *held < generation) {
            answer
                .recheck
                .push(ReplicaEntry { hash, generation }.into());
        }
    }
}

fn apply(view: &mut NodeView, event: JournalEvent) {
    let ReplicaEntry { hash, generation } = event.replica;
    if event.removed {
        if view
            .replicas
            .get(&hash)
            .is_some_and(|held| *held <= generation)
        {
            view.replicas.remove(&hash);
        }
    } else {
        let held = view.replicas.entry(hash).or_insert(generation);
        *held = generation.max(*held);
    }
    view.events.push(event);
    view.next_sequence = event.sequence.0 + 1;
}

#[tonic::async_trait]
impl NameNode for Service {
    type DumpStream = tokio_stream::Empty<Result<wire::DumpResponse, Status>>;

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        refused(&state)?;
        let (cluster, epoch) = (state.cluster, state.epoch);
        let node = node_id_field("node_id", &request.node_id)?;
        let view = state.nodes.entry(node).or_default();
        let journal = JournalId::try_from(&request.journal_id[..]).unwrap();
        if view.journal_id != Some(journal) {
            view.journal_id = Some(journal);
            view.next_sequence = 1;
        }
        view.registered = true;
        view.registrations += 1;
        let next_sequence = view.next_sequence;
        Ok(Response::new(wire::RegisterResponse {
            cluster_id: cluster.to_string(),
            namenode_epoch: epoch,
            next_sequence,
            full_report_wanted: true,
            heartbeat_interval_ms: 20,
            deletes_wanted: false,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        refused(&state)?;
        let (cluster, epoch, wanted) = (state.cluster, state.epoch, state.full_report_wanted);
        state.full_report_wanted = false;
        let node = node_id_field("node_id", &request.node_id)?;
        let view = state.nodes.entry(node).or_default();
        view.heartbeats += 1;
        view.stats = request.stats.unwrap_or_default();
        for outcome in request.outcomes {
            let outcome = CommandOutcome::from(outcome);
            view.commands.retain(|command| command.id != outcome.id);
            view.outcomes.push(outcome);
        }
        Ok(Response::new(wire::HeartbeatResponse {
            unregistered: !view.registered,
            cluster_id: cluster.to_string(),
            namenode_epoch: epoch,
            commands: view.commands.iter().cloned().map(Into::into).collect(),
            more_commands: false,
            full_report_wanted: wanted,
            active: true,
            ..wire::HeartbeatResponse::default()
        }))
    }

    async fn block_report(
        &self,
        request: Request<wire::BlockReportRequest>,
    ) -> Result<Response<wire::BlockReportResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let node = node_id_field("node_id", &request.node_id)?;
        let view = state.nodes.entry(node).or_default();
        let mut answer = wire::BlockReportResponse {
            unregistered: !view.registered,
            ..Default::default()
        };
        view.full_report_steps += 1;
        match request.step.unwrap() {
            Step::Digests(report) => compare_digests(view, &report, &mut answer),
            Step::Entries(report) => compare_entries(view, &report, &mut answer),
            Step::Done(done) => {
                assert!(done.sequence >= view.next_sequence);
                view.full_reports += 1;
            }
        }
        Ok(Response::new(answer))
    }

    async fn incremental_block_report(
        &self,
        request: Request<wire::IncrementalBlockReportRequest>,
    ) -> Result<Response<wire::IncrementalBlockReportResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let node = node_id_field("node_id", &request.node_id)?;
        let view = state.nodes.entry(node).or_default();
        assert!(request.events.len() <= 1000);
        let known = view.journal_id.map(|id| to_bytes(id.as_bytes())) == Some(request.journal_id);
        let gap = request.events[0].sequence > view.next_sequence;
        if view.registered && known && !gap {
            for event in request.events {
                let event = JournalEvent::try_from(event).unwrap();
                if event.sequence.0 == view.next_sequence {
                    apply(view, event);
                }
            }
        }
        Ok(Response::new(wire::IncrementalBlockReportResponse {
            unregistered: !view.registered || !known,
            next_sequence: view.next_sequence,
        }))
    }

    async fn set_node_admin(
        &self,
        _: Request<wire::SetNodeAdminRequest>,
    ) -> Result<Response<wire::SetNodeAdminResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn set_safe_mode(
        &self,
        _: Request<wire::SetSafeModeRequest>,
    ) -> Result<Response<wire::SetSafeModeResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn report_bad_replica(
        &self,
        request: Request<wire::ReportBadReplicaRequest>,
    ) -> Result<Response<wire::ReportBadReplicaResponse>, Status> {
        let request = request.into_inner();
        let node = node_id_field("node_id", &request.node_id)?;
        let hash = hash_field("hash", &request.hash)?;
        let mut state = self.state();
        let view = state.nodes.entry(node).or_default();
        view.bad_replicas.insert(hash);
        Ok(Response::new(wire::ReportBadReplicaResponse {}))
    }

    async fn write_file(
        &self,
        _: Request<wire::WriteFileRequest>,
    ) -> Result<Response<wire::WriteFileResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn renew_writes(
        &self,
        _: Request<wire::RenewWritesRequest>,
    ) -> Result<Response<wire::RenewWritesResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn commit_files(
        &self,
        _: Request<wire::CommitFilesRequest>,
    ) -> Result<Response<wire::CommitFilesResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn abandon_writes(
        &self,
        _: Request<wire::AbandonWritesRequest>,
    ) -> Result<Response<wire::AbandonWritesResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn read_file(
        &self,
        _: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::StreamInfo>, Status> {
        Err(not_for_datanodes())
    }

    async fn locate_files(
        &self,
        _: Request<wire::LocateFilesRequest>,
    ) -> Result<Response<wire::LocateFilesResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn hold_locations(
        &self,
        _: Request<wire::HoldLocationsRequest>,
    ) -> Result<Response<wire::HoldLocationsResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn delete_file(
        &self,
        _: Request<wire::DeleteFileRequest>,
    ) -> Result<Response<wire::DeleteFileResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn list_files(
        &self,
        _: Request<wire::ListFilesRequest>,
    ) -> Result<Response<wire::ListFilesResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn list_nodes(
        &self,
        _: Request<wire::ListNodesRequest>,
    ) -> Result<Response<wire::ListNodesResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn info(
        &self,
        _: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        Err(not_for_datanodes())
    }

    async fn dump(
        &self,
        _: Request<wire::DumpRequest>,
    ) -> Result<Response<Self::DumpStream>, Status> {
        Err(not_for_datanodes())
    }
}

fn not_for_datanodes() -> Status {
    Status::unimplemented("a datanode never calls this")
}
