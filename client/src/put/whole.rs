//! [`WholeWrites`]: small files of all uploads of one client on their way to datanodes, several in a call.
//!
//! What goes down one chain while a call for it is under way goes together in the next one. The namenode gives what asks
//! together one chain for that reason. Another chain waits for none of it, though it may begin at the same node: what is behind
//! that node may hang.

use bytes::Bytes;
use futures_util::future::join_all;
use richardstore_proto::wire;
use richardstore_proto::{
    ClusterId, DataNodeInfo, ErrorCode, MAX_WHOLE_FILES, NodeId, PipelineResult, StoreError,
    WholeFile, WholeFiles, WholeResults, WriteTrailer,
};
use richardstore_runtime::{Channels, KeyedCalls, Tasks, answer_limit};

use super::pipeline::{WriteDescription, connect, silent, write_whole};

type Result = std::result::Result<PipelineResult, StoreError>;

/// A file whose bytes are all here, and its chain.
#[derive(Clone)]
pub(crate) struct WholeWrite {
    pub(crate) head: DataNodeInfo,
    pub(crate) rest: Vec<DataNodeInfo>,
    pub(crate) write: WriteDescription,
    pub(crate) data: Bytes,
    pub(crate) trailer: WriteTrailer,
}

/// What files that go in one message have in common. Nodes with their addresses: one that comes back with another address is
/// reached there.
type Chain = (ClusterId, Vec<(NodeId, String)>);

/// The small files of one client.
pub(crate) struct WholeWrites {
    calls: KeyedCalls<Chain, WholeWrite, Result>,
}

impl WholeWrites {
    pub(crate) fn new(channels: &Channels, tasks: &Tasks) -> Self {
        let channels = channels.clone();
        let calls = KeyedCalls::new(tasks, MAX_WHOLE_FILES, move |writes| {
            let channels = channels.clone();
            Box::pin(async move { write_together(&channels, writes).await })
        });
        Self { calls }
    }

    /// Sends a file down its chain. Returns who of the chain has it.
    ///
    /// # Errors
    /// What the head said, or that it took too long.
    pub(crate) async fn write(&self, write: WholeWrite) -> Result {
        let nodes = std::iter::once(&write.head).chain(&write.rest);
        let nodes = nodes.map(|node| (node.node_id, node.address.clone()));
        let chain: Chain = (write.write.cluster_id, nodes.collect());
        let answer = self.calls.answer(chain, write).await;
        answer.unwrap_or_else(|| {
            Err(StoreError::new(
                ErrorCode::Unavailable,
                "the call was cut off",
            ))
        })
    }
}

/// Files of one chain.
async fn write_together(channels: &Channels, writes: Vec<WholeWrite>) -> Vec<Result> {
    let (head, rest) = (&writes[0].head, &writes[0].rest);
    let whole = WholeFiles {
        chain: rest.clone(),
        cluster_id: writes[0].write.cluster_id,
        files: writes.iter().map(WholeFile::from).collect(),
        copies: false,
    };
    let limit = answer_limit(1 + rest.len(), whole.bytes());
    let sent = async {
        let mut client = connect(channels, head)?;
        let answer = client.write_files(wire::WriteFilesRequest::from(whole));
        let answer = tokio::time::timeout(limit, answer).await;
        answer.map_err(|_| silent(limit))
    };
    let answer = match sent.await {
        Ok(Ok(answer)) => WholeResults::try_from(answer.into_inner()).map_err(StoreError::from),
        // An older datanode, in the middle of an upgrade.
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {
            let alone = writes.into_iter().map(|write| write_alone(channels, write));
            return join_all(alone).await;
        }
        Ok(Err(status)) => Err(status.into()),
        Err(error) => Err(error),
    };
    match answer {
        Ok(WholeResults(results)) if results.len() == writes.len() => results,
        Ok(_) => {
            let error = StoreError::new(ErrorCode::Internal, "not one answer for each file");
            vec![Err(error); writes.len()]
        }
        Err(error) => vec![Err(error); writes.len()],
    }
}

async fn write_alone(channels: &Channels, write: WholeWrite) -> Result {
    let chain = (&write.head, &write.rest[..]);
    write_whole(channels, chain, &write.write, write.data, write.trailer).await
}

impl From<&WholeWrite> for WholeFile {
    fn from(write: &WholeWrite) -> Self {
        Self {
            generation: write.write.generation,
            request_id: write.write.request_id.clone(),
            data: write.data.clone(),
            trailer: write.trailer,
        }
    }
}
