//! [`NamenodeLink`]: calls to the namenode, each within a deadline.

use std::future::Future;
use std::time::Duration;

use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::name_node_recovery_client::NameNodeRecoveryClient;
use richardstore_proto::{ErrorCode, StoreError, wire};
use richardstore_runtime::{Channel, Channels};
use tokio::time::timeout;
use tonic::{Response, Status};

/// For one call, all of which are small. A report page is applied in one transaction.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The way to the namenode.
pub(crate) struct NamenodeLink {
    address: String,
    channels: Channels,
}

impl NamenodeLink {
    /// The way to the namenode at `address` (`host:port`).
    pub(crate) fn new(address: String, channels: Channels) -> Self {
        Self { address, channels }
    }

    /// Introduces this datanode.
    pub(crate) async fn register(
        &self,
        request: wire::RegisterRequest,
    ) -> Result<wire::RegisterResponse, StoreError> {
        let mut client = self.client()?;
        self.bounded(client.register(request)).await
    }

    /// Shows that this datanode is alive, and fetches commands.
    pub(crate) async fn heartbeat(
        &self,
        request: wire::HeartbeatRequest,
    ) -> Result<wire::HeartbeatResponse, StoreError> {
        let mut client = self.client()?;
        self.bounded(client.heartbeat(request)).await
    }

    /// One step of a full report.
    pub(crate) async fn block_report(
        &self,
        request: wire::BlockReportRequest,
    ) -> Result<wire::BlockReportResponse, StoreError> {
        let mut client = self.client()?;
        self.bounded(client.block_report(request)).await
    }

    /// The next events of the journal.
    pub(crate) async fn incremental_block_report(
        &self,
        request: wire::IncrementalBlockReportRequest,
    ) -> Result<wire::IncrementalBlockReportResponse, StoreError> {
        let mut client = self.client()?;
        self.bounded(client.incremental_block_report(request)).await
    }

    /// Tells which deletes are remembered.
    pub(crate) async fn recall_deletes(
        &self,
        request: wire::RecallDeletesRequest,
    ) -> Result<wire::RecallDeletesResponse, StoreError> {
        let mut client = NameNodeRecoveryClient::new(self.channels.get(&self.address)?);
        self.bounded(client.recall_deletes(request)).await
    }

    /// Says that a replica holds wrong bytes.
    pub(crate) async fn report_bad_replica(
        &self,
        request: wire::ReportBadReplicaRequest,
    ) -> Result<(), StoreError> {
        let mut client = self.client()?;
        self.bounded(client.report_bad_replica(request)).await?;
        Ok(())
    }

    fn client(&self) -> Result<NameNodeClient<Channel>, StoreError> {
        let channel = self.channels.get(&self.address)?;
        Ok(NameNodeClient::new(channel)
            .max_decoding_message_size(wire::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(wire::MAX_MESSAGE_BYTES))
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        match timeout(CALL_LIMIT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => {
                self.channels.forget(&self.address);
                Err(StoreError::new(
                    ErrorCode::Unavailable,
                    format!(
                        "the namenode at {} did not answer within {} s",
                        self.address,
                        CALL_LIMIT.as_secs()
                    ),
                ))
            }
        }
    }
}
