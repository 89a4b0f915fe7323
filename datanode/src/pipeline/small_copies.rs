//! [`SmallCopies`]: small replicas on their way from this node to others, several in a message.
//!
//! What goes down one chain while a message for it is under way goes together in the next one, as small uploads do: a stream for
//! each would cost more than the file. Another chain waits for none of it.

use richardstore_proto::{
    ClusterId, DataNodeInfo, ErrorCode, MAX_WHOLE_FILES, NodeId, PipelineResult, StoreError,
    WholeFile, WholeFiles,
};
use richardstore_runtime::{Channels, KeyedCalls, Tasks};

use super::sender::settle;
use super::whole::forward;

/// What copies that go in one message have in common. Nodes with their addresses: one that comes back with another address is
/// reached there.
type Chain = (ClusterId, Vec<(NodeId, String)>);

/// A replica whose bytes are all here, and who gets it.
#[derive(Clone)]
pub(crate) struct SmallCopy {
    pub(crate) chain: Vec<DataNodeInfo>,
    pub(crate) cluster_id: ClusterId,
    pub(crate) file: WholeFile,
}

/// The small copies of one datanode.
pub(crate) struct SmallCopies {
    calls: KeyedCalls<Chain, SmallCopy, PipelineResult>,
}

impl SmallCopies {
    /// Copies over `channels`.
    pub(crate) fn new(tasks: &Tasks, channels: &Channels) -> Self {
        let channels = channels.clone();
        let calls = KeyedCalls::new(tasks, MAX_WHOLE_FILES, move |copies: Vec<SmallCopy>| {
            let channels = channels.clone();
            Box::pin(async move {
                let whole = WholeFiles {
                    chain: copies[0].chain.clone(),
                    cluster_id: copies[0].cluster_id,
                    files: copies.into_iter().map(|copy| copy.file).collect(),
                    copies: true,
                };
                forward(&channels, &whole).await
            })
        });
        Self { calls }
    }

    /// Sends a copy down its chain. Returns who of the chain has it.
    pub(crate) async fn send(&self, copy: SmallCopy) -> PipelineResult {
        let nodes = copy.chain.iter();
        let nodes = nodes.map(|node| (node.node_id, node.address.clone()));
        let key: Chain = (copy.cluster_id, nodes.collect());
        let chain = copy.chain.clone();
        let answer = self.calls.answer(key, copy).await;
        let cut_off = || StoreError::new(ErrorCode::Unavailable, "the call was cut off");
        answer.unwrap_or_else(|| settle(&chain, Err(cut_off())))
    }
}
