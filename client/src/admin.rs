//! What operators ask of the namenode: [`ClusterReport`], [`WhyReport`].

use richardstore_proto::wire::name_node_admin_client::NameNodeAdminClient;
use richardstore_proto::wire::{self, MAX_MESSAGE_BYTES};
use richardstore_proto::{ContentHash, FileLocations, WireError};
use serde::Serialize;
use tonic::transport::Channel;

use crate::client::Client;
use crate::error::ClientError;
use crate::namenode::NameNode;
use crate::retry::{INTERACTIVE, Retry};
use crate::status::{ClusterInfo, FileStatus, NodeStatus, as_text};

/// Datanodes, or sentences, in one answer at most.
const MAX_LIST: usize = 10_000;

/// The cluster at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterReport {
    /// In figures.
    #[serde(flatten)]
    pub info: ClusterInfo,
    /// Nothing is copied or deleted.
    pub safe_mode: bool,
    /// Files with more replicas on record than wanted.
    pub over_replicated: u64,
    /// Reported replicas that the namenode's database is too old to judge; not 0 means that it is an old copy.
    pub foreign_replicas: u64,
    /// How repair is doing.
    pub repair: RepairFigures,
    /// Replicas on record by the state of their datanode.
    pub replicas: ReplicaCounts,
    /// The datanodes.
    pub nodes: Vec<NodeStatus>,
}

/// How repair is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RepairFigures {
    /// Files of which copies are being made.
    pub copying: u64,
    /// Files known to be short that wait for their turn.
    pub waiting: u64,
    /// At most so much is to be copied: what the datanodes that are dead or being emptied hold.
    pub bytes_to_copy: u64,
    /// At least so long it takes at the rate that repair may use.
    pub copy_seconds: u64,
}

/// Replicas on record by the state of their datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReplicaCounts {
    /// Heard from lately.
    pub live: u64,
    /// Late.
    pub stale: u64,
    /// Being emptied, or emptied.
    pub leaving: u64,
    /// Gone.
    pub dead: u64,
}

/// How one hash is doing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyReport {
    /// The hash.
    #[serde(serialize_with = "as_text")]
    pub hash: ContentHash,
    /// `healthy`, `under-replicated`, `over-replicated`, `misplaced`, `damaged`, `missing`, `deleted`, `uploading` or
    /// `unknown`.
    pub state: String,
    /// In one sentence.
    pub summary: String,
    /// The file, where there is one; its replicas in the order of [`WhyReport::replicas`].
    pub file: Option<FileStatus>,
    /// When it was deleted, milliseconds since the Unix epoch, as long as that is remembered.
    pub deleted_ms: Option<u64>,
    /// Where each replica is and how it is doing.
    pub replicas: Vec<String>,
    /// Why they are there.
    pub placement: Vec<String>,
    /// What was ordered and is not done.
    pub planned: Vec<String>,
    /// What is in the way.
    pub blocked: Vec<String>,
    /// When something is tried next.
    pub next: Vec<String>,
    /// What happened, oldest first.
    pub history: Vec<String>,
}

impl Client {
    /// The cluster at a glance.
    ///
    /// # Errors
    /// The namenode is away.
    pub async fn report(&self) -> Result<ClusterReport, ClientError> {
        let namenode = &self.shared.namenode;
        let response = namenode
            .admin(INTERACTIVE, "Report", |mut client| async move {
                client.report(wire::ReportRequest {}).await
            })
            .await?;
        ClusterReport::try_from(response).map_err(namenode.malformed("Report"))
    }

    /// How a hash is doing, and why: of any hash, also one that is not there.
    ///
    /// # Errors
    /// The namenode is away.
    pub async fn why(&self, hash: &ContentHash) -> Result<WhyReport, ClientError> {
        let namenode = &self.shared.namenode;
        let request = wire::WhyRequest {
            hash: wire::to_bytes(hash.as_bytes()),
        };
        let response = namenode
            .admin(INTERACTIVE, "Why", |mut client| {
                let request = request.clone();
                async move { client.why(request).await }
            })
            .await?;
        WhyReport::try_from(response).map_err(namenode.malformed("Why"))
    }
}

impl NameNode {
    pub(crate) async fn admin<T, F, Fut>(
        &self,
        retry: Retry,
        operation: &'static str,
        mut call: F,
    ) -> Result<T, ClientError>
    where
        F: FnMut(NameNodeAdminClient<Channel>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let channel = self.channel().map_err(self.failed(operation))?;
        let client = NameNodeAdminClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        retry
            .run(|_| call(client.clone()))
            .await
            .map(tonic::Response::into_inner)
            .map_err(self.failed(operation))
    }
}

impl TryFrom<wire::ReportResponse> for ClusterReport {
    type Error = WireError;

    fn try_from(report: wire::ReportResponse) -> Result<Self, WireError> {
        let info = report.info.ok_or(WireError::Missing("info"))?;
        Ok(Self {
            info: ClusterInfo::try_from(info)?,
            safe_mode: report.safe_mode,
            over_replicated: report.over_replicated,
            foreign_replicas: report.foreign_replicas,
            repair: RepairFigures {
                copying: report.copying,
                waiting: report.waiting,
                bytes_to_copy: report.bytes_to_copy,
                copy_seconds: report.copy_seconds,
            },
            replicas: ReplicaCounts {
                live: report.replicas_live,
                stale: report.replicas_stale,
                leaving: report.replicas_leaving,
                dead: report.replicas_dead,
            },
            nodes: wire::list_field("nodes", report.nodes, MAX_LIST, NodeStatus::try_from)?,
        })
    }
}

impl TryFrom<wire::WhyResponse> for WhyReport {
    type Error = WireError;

    fn try_from(why: wire::WhyResponse) -> Result<Self, WireError> {
        let lists = [
            &why.replicas,
            &why.placement,
            &why.planned,
            &why.blocked,
            &why.next,
            &why.history,
        ];
        if lists.iter().any(|list| list.len() > MAX_LIST) {
            return Err(WireError::Limit("sentences"));
        }
        let file = why.file.map(FileLocations::try_from).transpose()?;
        Ok(Self {
            hash: wire::hash_field("hash", &why.hash)?,
            state: why.state,
            summary: why.summary,
            file: file.as_ref().map(FileStatus::from),
            deleted_ms: (why.deleted_ms > 0).then_some(why.deleted_ms),
            replicas: why.replicas,
            placement: why.placement,
            planned: why.planned,
            blocked: why.blocked,
            next: why.next,
            history: why.history,
        })
    }
}
