//! [`NameNode`]: the namenode's calls in domain types, each with its deadline and its retries.

use bytes::Bytes;
use richardstore_proto::wire::event_log_client::EventLogClient;
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::{self, MAX_MESSAGE_BYTES, WireError};
use richardstore_proto::{
    Allocation, ContentHash, ErrorCode, FileInfo, FileLocations, Generation, Held, Hold,
    LocatedFile, NodeId, StoreError,
};
use richardstore_runtime::{Channel, Channels};

use crate::error::ClientError;
use crate::events::EventPosition;
use crate::retry::{INTERACTIVE, ONCE, PATIENT, Retry};
use crate::status::{ClusterInfo, FilePage, NodeAdminStatus, NodeStatus, SafeModeStatus};
use crate::wishes::{NodeWish, SafeModeWish};

/// Entries of one page of a listing at most, and allocations of one answer.
const MAX_PAGE: usize = 10_000;

/// Connection to the namenode. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NameNode {
    address: String,
    channels: Channels,
}

/// What an upload asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllocationWish {
    /// Bytes, where known.
    pub(crate) size_hint: Option<u64>,
    /// Replicas wanted; `None` is the namenode's default.
    pub(crate) replication: Option<u32>,
    /// The hash the bytes are said to have.
    pub(crate) declared_hash: Option<ContentHash>,
    /// Nodes that just failed.
    pub(crate) excluded: Vec<NodeId>,
}

/// What an upload got.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// The generation and its chain.
    pub(crate) allocation: Allocation,
    /// Fewer acknowledged replicas than this are no success.
    pub(crate) min_replication: usize,
    /// Milliseconds until the allocation expires.
    pub(crate) expires_in_ms: u64,
}

impl Granted {
    /// Whether there are as many nodes as a commit needs.
    pub(crate) fn has_targets(&self) -> bool {
        self.allocation.targets.len() >= self.min_replication
    }
}

/// An allocation, or the file that is there already.
#[derive(Debug, Clone)]
pub(crate) enum Allocated {
    /// Write them.
    New(Vec<Granted>),
    /// The declared hash is stored already.
    Existing(FileLocations),
}

/// A file that is on disks, and who said so.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) file: FileInfo,
    pub(crate) nodes: Vec<NodeId>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    /// `false`: the file was there already.
    pub(crate) created: bool,
    /// Replicas it has now.
    pub(crate) replicas: u32,
    /// When it was first committed, milliseconds since the Unix epoch.
    pub(crate) created_ms: u64,
}

impl Commit {
    fn request(&self) -> wire::FileCommit {
        wire::FileCommit {
            file: Some(self.file.into()),
            nodes: ids(&self.nodes),
        }
    }
}

impl NameNode {
    pub(crate) fn new(address: String, channels: Channels) -> Self {
        Self { address, channels }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `count` allocations for writes that wish the same, or the file that is there already.
    pub(crate) async fn allocate(
        &self,
        wish: &AllocationWish,
        count: usize,
    ) -> Result<Allocated, ClientError> {
        let request = wire::WriteFileRequest {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            size_hint: wish.size_hint.unwrap_or(0),
            replication: wish.replication.unwrap_or(0),
            declared_hash: wish
                .declared_hash
                .map(|hash| wire::to_bytes(hash.as_bytes()))
                .unwrap_or_default(),
            excluded_nodes: ids(&wish.excluded),
            ..Default::default()
        };
        let response = self.write_file(request).await?;
        if let Some(existing) = response.existing {
            let existing = FileLocations::try_from(existing);
            return Ok(Allocated::Existing(
                existing.map_err(self.malformed("WriteFile"))?,
            ));
        }
        let min_replication = usize::try_from(response.min_replication);
        let min_replication = min_replication.unwrap_or(usize::MAX).max(1);
        let granted = response.allocations.into_iter().map(|allocation| {
            Ok(Granted {
                allocation: Allocation::try_from(allocation)?,
                min_replication,
                expires_in_ms: response.expires_in_ms,
            })
        });
        let granted: Vec<Granted> = granted
            .collect::<Result<_, WireError>>()
            .map_err(self.malformed("WriteFile"))?;
        if granted.len() != count {
            return Err(self.malformed("WriteFile")(WireError::Value("allocations")));
        }
        Ok(Allocated::New(granted))
    }

    /// Further targets for a write under way that the nodes in `acknowledged` have on disk.
    pub(crate) async fn replacements(
        &self,
        file: &FileInfo,
        wanted: usize,
        excluded: &[NodeId],
        acknowledged: &[NodeId],
    ) -> Result<Allocation, ClientError> {
        let request = wire::WriteFileRequest {
            count: 1,
            size_hint: file.size,
            excluded_nodes: ids(excluded),
            generation: file.generation.0,
            targets_wanted: u32::try_from(wanted).unwrap_or(u32::MAX),
            acknowledged_nodes: ids(acknowledged),
            ..Default::default()
        };
        let response = self.write_file(request).await?;
        self.first_allocation(response.allocations)
    }

    /// Keeps allocations alive. Returns whether the namenode still knows them all.
    pub(crate) async fn renew(&self, generation: Generation) -> Result<bool, ClientError> {
        let response = self
            .call(ONCE, "RenewWrites", |mut client, _| async move {
                let generations = vec![generation.0];
                client
                    .renew_writes(wire::RenewWritesRequest { generations })
                    .await
            })
            .await?;
        Ok(response.unknown.is_empty())
    }

    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, ClientError> {
        let files = vec![commit.request()];
        // A reply that got lost is no harm: the same generation commits to the same answer again (I10).
        let response = self
            .call(PATIENT, "CommitFiles", |mut client, _| {
                let files = files.clone();
                async move {
                    let mut response = client
                        .commit_files(wire::CommitFilesRequest { files })
                        .await?;
                    unavailable_as_status(response.get_mut())?;
                    Ok(response)
                }
            })
            .await?;
        let result = response.results.into_iter().next();
        let result = result.ok_or_else(|| self.no_result())?;
        self.committed(result)
    }

    /// Each on its own: one that is refused does not hold up the others. One that could not be committed now
    /// ([`ErrorCode::Unavailable`]) is not tried again here.
    pub(crate) async fn commit_all(
        &self,
        commits: Vec<Commit>,
    ) -> Vec<Result<Committed, ClientError>> {
        let files: Vec<_> = commits.iter().map(Commit::request).collect();
        let response = self
            .call(PATIENT, "CommitFiles", |mut client, _| {
                let files = files.clone();
                async move {
                    client
                        .commit_files(wire::CommitFilesRequest { files })
                        .await
                }
            })
            .await;
        match response {
            Ok(response) => {
                let results = response.results.into_iter().map(Some);
                let results = results.chain(std::iter::repeat_with(|| None));
                let results = results.take(commits.len()).map(|result| {
                    let result = result.ok_or_else(|| self.no_result())?;
                    self.committed(result)
                });
                results.collect()
            }
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn committed(&self, result: wire::CommitResult) -> Result<Committed, ClientError> {
        match result.error_code {
            0 => Ok(Committed {
                created: result.created,
                replicas: result.replicas,
                created_ms: result.created_ms,
            }),
            number => Err(self.failed("CommitFiles")(StoreError::new(
                ErrorCode::from_number(number),
                result.error,
            ))),
        }
    }

    fn no_result(&self) -> ClientError {
        self.malformed("CommitFiles")(WireError::Missing("results"))
    }

    pub(crate) async fn abandon(&self, generations: &[Generation]) -> Result<(), ClientError> {
        let numbers: Vec<u64> = generations.iter().map(|generation| generation.0).collect();
        self.call(PATIENT, "AbandonWrites", |mut client, _| {
            let generations = numbers.clone();
            async move {
                client
                    .abandon_writes(wire::AbandonWritesRequest { generations })
                    .await
            }
        })
        .await?;
        Ok(())
    }

    pub(crate) async fn locate(&self, hash: &ContentHash) -> Result<LocatedFile, ClientError> {
        let hash = wire::to_bytes(hash.as_bytes());
        let response = self
            .call(INTERACTIVE, "ReadFile", |mut client, _| {
                let hash = hash.clone();
                async move { client.read_file(wire::ReadFileRequest { hash }).await }
            })
            .await?;
        LocatedFile::try_from(response).map_err(self.malformed("ReadFile"))
    }

    /// Each on its own, from one snapshot that the namenode takes after it was asked.
    pub(crate) async fn locate_all(
        &self,
        hashes: Vec<ContentHash>,
    ) -> Vec<Result<LocatedFile, ClientError>> {
        const OPERATION: &str = "LocateFiles";
        if let [hash] = &hashes[..] {
            return vec![self.locate(hash).await];
        }
        let wanted: Vec<Bytes> = hashes
            .iter()
            .map(|hash| wire::to_bytes(hash.as_bytes()))
            .collect();
        let response = self
            .call(INTERACTIVE, OPERATION, |mut client, _| {
                let hashes = wanted.clone();
                async move {
                    client
                        .locate_files(wire::LocateFilesRequest { hashes })
                        .await
                }
            })
            .await;
        match response {
            Ok(response) if response.files.len() == hashes.len() => {
                let located = response
                    .files
                    .into_iter()
                    .map(|located| self.located(located));
                located.collect()
            }
            Ok(_) => {
                let error = self.malformed(OPERATION)(WireError::Missing("files"));
                hashes.iter().map(|_| Err(error.clone())).collect()
            }
            Err(error) => hashes.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn located(&self, located: wire::LocatedFile) -> Result<LocatedFile, ClientError> {
        match (located.error_code, located.file) {
            (0, Some(file)) => LocatedFile::try_from(file).map_err(self.malformed("LocateFiles")),
            (0, None) => Err(self.malformed("LocateFiles")(WireError::Missing("file"))),
            (number, _) => Err(self.failed("LocateFiles")(StoreError::new(
                ErrorCode::from_number(number),
                located.error,
            ))),
        }
    }

    /// Tells what was forgotten, and waits for what else is to be.
    pub(crate) async fn hold_locations(&self, hold: Hold) -> Result<Held, ClientError> {
        let response = self
            .call(ONCE, "HoldLocations", |mut client, _| async move {
                client
                    .hold_locations(wire::HoldLocationsRequest::from(hold))
                    .await
            })
            .await?;
        Held::try_from(response).map_err(self.malformed("HoldLocations"))
    }

    /// Deletes. `true` where the file existed, and also where an earlier try of this same call got no answer: it may have
    /// been the one that removed the file.
    pub(crate) async fn delete(&self, hash: &ContentHash) -> Result<bool, ClientError> {
        let hash = wire::to_bytes(hash.as_bytes());
        let mut tries = 0;
        let response = self
            .call(INTERACTIVE, "DeleteFile", |mut client, tried| {
                tries = tried;
                let hash = hash.clone();
                async move { client.delete_file(wire::DeleteFileRequest { hash }).await }
            })
            .await?;
        Ok(response.existed || tries > 0)
    }

    pub(crate) async fn list(
        &self,
        after: Option<ContentHash>,
        prefix: &str,
        limit: u32,
    ) -> Result<FilePage, ClientError> {
        let request = wire::ListFilesRequest {
            after: after
                .map(|hash| wire::to_bytes(hash.as_bytes()))
                .unwrap_or_default(),
            limit,
            prefix: prefix.to_owned(),
        };
        let response = self
            .call(INTERACTIVE, "ListFiles", |mut client, _| {
                let request = request.clone();
                async move { client.list_files(request).await }
            })
            .await?;
        let files = wire::list_field("files", response.files, MAX_PAGE, FileLocations::try_from);
        Ok(FilePage {
            files: files.map_err(self.malformed("ListFiles"))?,
            more: response.more,
        })
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<NodeStatus>, ClientError> {
        let response = self
            .call(INTERACTIVE, "ListNodes", |mut client, _| async move {
                client.list_nodes(wire::ListNodesRequest {}).await
            })
            .await?;
        wire::list_field("nodes", response.nodes, MAX_PAGE, NodeStatus::try_from)
            .map_err(self.malformed("ListNodes"))
    }

    pub(crate) async fn info(&self) -> Result<ClusterInfo, ClientError> {
        let response = self
            .call(INTERACTIVE, "Info", |mut client, _| async move {
                client.info(wire::InfoRequest {}).await
            })
            .await?;
        ClusterInfo::try_from(response).map_err(self.malformed("Info"))
    }

    /// Idempotent, so that an answer that got lost is asked for again.
    pub(crate) async fn set_node_admin(
        &self,
        node: &str,
        wish: NodeWish,
    ) -> Result<NodeAdminStatus, ClientError> {
        let response = self
            .call(INTERACTIVE, "SetNodeAdmin", |mut client, _| {
                let request = wish.request(node);
                async move { client.set_node_admin(request).await }
            })
            .await?;
        NodeAdminStatus::try_from(response).map_err(self.malformed("SetNodeAdmin"))
    }

    pub(crate) async fn set_safe_mode(
        &self,
        wish: SafeModeWish,
    ) -> Result<SafeModeStatus, ClientError> {
        let action = wire::SafeModeAction::from(wish).into();
        let response = self
            .call(INTERACTIVE, "SetSafeMode", |mut client, _| async move {
                let request = wire::SetSafeModeRequest { action };
                client.set_safe_mode(request).await
            })
            .await?;
        Ok(SafeModeStatus {
            on: response.on,
            reason: response.reason,
            repair_rests: response.repair_rests,
        })
    }

    pub(crate) async fn dump(
        &self,
        table: &str,
    ) -> Result<tonic::Streaming<wire::DumpResponse>, ClientError> {
        self.call(INTERACTIVE, "Dump", |mut client, _| {
            let table = table.to_owned();
            async move { client.dump(wire::DumpRequest { table }).await }
        })
        .await
    }

    pub(crate) async fn follow(
        &self,
        after: Option<EventPosition>,
    ) -> Result<tonic::Streaming<wire::FollowResponse>, ClientError> {
        let operation = "Follow";
        let channel = self.channels.get(&self.address);
        let client = EventLogClient::new(channel.map_err(self.failed(operation))?);
        let answer = ONCE.run(|_| {
            let mut client = client.clone();
            let request: wire::FollowRequest = after.map(Into::into).unwrap_or_default();
            async move { client.follow(request).await }
        });
        answer
            .await
            .map(tonic::Response::into_inner)
            .map_err(self.failed(operation))
    }

    pub(crate) async fn report_bad_replica(
        &self,
        hash: &ContentHash,
        node: &NodeId,
        reason: &str,
    ) -> Result<(), ClientError> {
        let request = wire::ReportBadReplicaRequest {
            hash: wire::to_bytes(hash.as_bytes()),
            node_id: wire::to_bytes(node.as_bytes()),
            reason: reason.to_owned(),
        };
        self.call(INTERACTIVE, "ReportBadReplica", |mut client, _| {
            let request = request.clone();
            async move { client.report_bad_replica(request).await }
        })
        .await?;
        Ok(())
    }

    pub(crate) fn failed(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(StoreError) -> ClientError + '_ {
        move |answer| ClientError::Namenode {
            address: self.address.clone(),
            operation,
            answer,
        }
    }

    async fn write_file(
        &self,
        request: wire::WriteFileRequest,
    ) -> Result<wire::WriteFileResponse, ClientError> {
        self.call(INTERACTIVE, "WriteFile", |mut client, _| {
            let request = request.clone();
            async move { client.write_file(request).await }
        })
        .await
    }

    async fn call<T, F, Fut>(
        &self,
        retry: Retry,
        operation: &'static str,
        mut call: F,
    ) -> Result<T, ClientError>
    where
        F: FnMut(NameNodeClient<Channel>, u32) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let channel = self.channel().map_err(self.failed(operation))?;
        let client = NameNodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        retry
            .run(|tried| call(client.clone(), tried))
            .await
            .map(tonic::Response::into_inner)
            .map_err(self.failed(operation))
    }

    pub(crate) fn channel(&self) -> Result<Channel, StoreError> {
        self.channels.get(&self.address)
    }

    fn first_allocation(&self, list: Vec<wire::Allocation>) -> Result<Allocation, ClientError> {
        let first = list
            .into_iter()
            .next()
            .ok_or(WireError::Missing("allocations"));
        first
            .and_then(Allocation::try_from)
            .map_err(self.malformed("WriteFile"))
    }

    pub(crate) fn malformed(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(WireError) -> ClientError + '_ {
        move |problem| ClientError::Malformed {
            peer: format!("namenode {}", self.address),
            operation,
            problem,
        }
    }
}

/// A commit that could not be done now, told in the result of one file, is retried like a namenode that is away.
fn unavailable_as_status(response: &mut wire::CommitFilesResponse) -> Result<(), tonic::Status> {
    match response.results.first_mut() {
        Some(result) if result.error_code == ErrorCode::Unavailable.number() => {
            let message = std::mem::take(&mut result.error);
            Err(StoreError::new(ErrorCode::Unavailable, message).into())
        }
        _ => Ok(()),
    }
}

fn ids(nodes: &[NodeId]) -> Vec<Bytes> {
    nodes
        .iter()
        .map(|node| wire::to_bytes(node.as_bytes()))
        .collect()
}
