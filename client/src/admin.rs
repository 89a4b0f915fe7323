//! What operators ask: [`ClusterReport`], [`WhyReport`], [`CheckPart`] of the namenode, and a scrub of datanodes.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use richardstore_proto::wire::data_node_admin_client::DataNodeAdminClient;
use richardstore_proto::wire::name_node_admin_client::NameNodeAdminClient;
use richardstore_proto::wire::{self, MAX_MESSAGE_BYTES};
use richardstore_proto::{ContentHash, ErrorCode, FileLocations, StoreError, WireError};
use richardstore_runtime::Channel;
use serde::Serialize;

use crate::client::Client;
use crate::error::ClientError;
use crate::namenode::NameNode;
use crate::retry::{INTERACTIVE, Retry};
use crate::status::{ClusterInfo, FileStatus, NodeStatus, as_text};

/// Datanodes, or sentences, in one answer at most.
const MAX_LIST: usize = 10_000;
/// For a datanode that has nothing to do for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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

/// The totals of a check of all files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CheckTotals {
    /// Files looked at.
    pub files: u64,
    /// Their bytes, each file once.
    pub bytes: u64,
    /// As they should be.
    pub healthy: u64,
    /// Nobody who holds them is there.
    pub missing: u64,
    /// With a replica that was reported as bad.
    pub damaged: u64,
    /// Too few replicas count.
    pub under_replicated: u64,
    /// More than wanted count.
    pub over_replicated: u64,
    /// In fewer racks than there could be.
    pub misplaced: u64,
    /// Deletes that some datanode has not confirmed.
    pub unconfirmed_deletes: u64,
    /// Replicas that datanodes count more than the namenode does: on their way to be reported, or to be removed.
    pub orphaned_replicas: u64,
    /// Replicas that are newer than the namenode's database.
    pub foreign_replicas: u64,
}

/// A file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// As in [`WhyReport::state`].
    pub state: String,
    /// In one sentence.
    pub summary: String,
    /// The file.
    #[serde(flatten)]
    pub file: FileStatus,
}

/// What repair has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairAnswer {
    /// Why nothing is ordered now; empty where it is.
    pub halted: String,
    /// Files of which copies were being made when it was asked.
    pub copying: u64,
    /// Files that waited for their turn then.
    pub waiting: u64,
}

/// A part of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPart {
    /// What was found since the last part.
    pub findings: Vec<CheckFinding>,
    /// So far.
    pub totals: CheckTotals,
    /// Nothing follows.
    pub done: bool,
}

impl Client {
    /// Looks at every file. The stream ends behind the part that is `done`; without one it was cut.
    ///
    /// # Errors
    /// The namenode is away. An item that is an error ends the stream.
    pub async fn check(
        &self,
    ) -> Result<impl Stream<Item = Result<CheckPart, ClientError>> + Send + use<>, ClientError>
    {
        let stream = self
            .shared
            .namenode
            .admin(INTERACTIVE, "Check", |mut client| async move {
                client.check(wire::CheckRequest {}).await
            })
            .await?;
        let namenode = self.shared.namenode.clone();
        Ok(stream.map(move |part| {
            let part = part.map_err(|status| namenode.failed("Check")(status.into()))?;
            CheckPart::try_from(part).map_err(namenode.malformed("Check"))
        }))
    }

    /// Has repair look at everything again now, and try again at once what failed.
    ///
    /// # Errors
    /// The namenode is away.
    pub async fn repair_now(&self) -> Result<RepairAnswer, ClientError> {
        let response = self
            .shared
            .namenode
            .admin(INTERACTIVE, "RepairNow", |mut client| async move {
                client.repair_now(wire::RepairNowRequest {}).await
            })
            .await?;
        Ok(RepairAnswer {
            halted: response.halted,
            copying: response.copying,
            waiting: response.waiting,
        })
    }

    /// Has a datanode read all its replicas again now. `false`: its scrub is switched off.
    ///
    /// # Errors
    /// The datanode is away.
    pub async fn scrub_now(&self, address: &str) -> Result<bool, StoreError> {
        let mut datanode = self.datanode_admin(address)?;
        let answer =
            tokio::time::timeout(ANSWER_LIMIT, datanode.scrub_now(wire::ScrubNowRequest {}));
        let answer = answer.await.map_err(|_| {
            StoreError::new(ErrorCode::RequestTimeout, "the datanode does not answer")
        })?;
        Ok(answer?.into_inner().running)
    }

    pub(crate) fn datanode_admin(
        &self,
        address: &str,
    ) -> Result<DataNodeAdminClient<Channel>, StoreError> {
        let channel = self.shared.environment.channels.get(address)?;
        Ok(DataNodeAdminClient::new(channel))
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

impl TryFrom<wire::CheckPart> for CheckPart {
    type Error = WireError;

    fn try_from(part: wire::CheckPart) -> Result<Self, WireError> {
        let totals = part.totals.ok_or(WireError::Missing("totals"))?;
        let finding = |finding: wire::CheckFinding| -> Result<CheckFinding, WireError> {
            let file = finding.file.ok_or(WireError::Missing("file"))?;
            Ok(CheckFinding {
                state: finding.state,
                summary: finding.summary,
                file: FileStatus::from(&FileLocations::try_from(file)?),
            })
        };
        Ok(Self {
            findings: wire::list_field("findings", part.findings, MAX_LIST, finding)?,
            totals: CheckTotals {
                files: totals.files,
                bytes: totals.bytes,
                healthy: totals.healthy,
                missing: totals.missing,
                damaged: totals.damaged,
                under_replicated: totals.under_replicated,
                over_replicated: totals.over_replicated,
                misplaced: totals.misplaced,
                unconfirmed_deletes: totals.unconfirmed_deletes,
                orphaned_replicas: totals.orphaned_replicas,
                foreign_replicas: totals.foreign_replicas,
            },
            done: part.done,
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
