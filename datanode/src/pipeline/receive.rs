//! [`receive`]: one node's part in a pipeline write.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::Stream;
use richardstore_proto::wire;
use richardstore_proto::{
    ClusterId, DataNodeInfo, ErrorCode, Generation, NodeFailure, PipelineResult, StoreError,
    WriteTrailer,
};
use tonic::Status;
use tracing::Instrument;

use super::header::WriteHeader;
use super::incoming::{IncomingWrite, Step};
use super::sender::PipelineSender;
use super::stage::WriteStage;
use crate::metrics::count;
use crate::node::Node;

/// Takes one write in, forwards each chunk as it arrives, publishes it here, and says which nodes have the file.
///
/// # Errors
/// When nobody has it: a stream that was cut, a mismatch ([`ErrorCode::HashMismatch`]), or this node's own failure with
/// no other node behind it that succeeded.
pub(crate) async fn receive<S>(node: &Arc<Node>, parts: S) -> Result<PipelineResult, StoreError>
where
    S: Stream<Item = Result<wire::WriteFileRequestPart, Status>> + Unpin,
{
    let mut incoming = IncomingWrite::new(parts);
    let header = incoming.header().await?;
    check(node, header.cluster_id, &header.chain).await?;
    let span =
        tracing::debug_span!("write", id = header.request_id, generation = %header.generation);
    let taken = take_in(node, incoming, header)
        .instrument(span.clone())
        .await;
    tell(&span, &taken);
    taken
}

async fn take_in<S>(
    node: &Arc<Node>,
    mut incoming: IncomingWrite<S>,
    header: WriteHeader,
) -> Result<PipelineResult, StoreError>
where
    S: Stream<Item = Result<wire::WriteFileRequestPart, Status>> + Unpin,
{
    let (generation, is_upload) = (header.generation, !header.copy);
    let mut write = Write {
        here: Ok(WriteStage::new(node, header.size_hint)),
        behind: PipelineSender::open(&node.environment.channels, header),
    };
    let trailer = loop {
        match incoming.step().await? {
            Step::Chunk(chunk) => {
                count(&node.metrics.received_bytes, chunk.len());
                if is_upload {
                    node.uploads.note();
                }
                write.push(chunk).await?;
            }
            Step::Trailer(trailer) => break trailer,
        }
    };
    write.finish(node, trailer, generation).await
}

/// Says in the log how a write has ended.
pub(super) fn tell(span: &tracing::Span, ended: &Result<PipelineResult, StoreError>) {
    match ended {
        Ok(result) => tracing::debug!(
            parent: span,
            acknowledged = result.acknowledged.len(),
            failed = ?result.failed,
            "a write has ended"
        ),
        Err(error) => {
            tracing::info!(parent: span, code = ?error.code, %error, "a write was not taken")
        }
    }
}

/// Whether a write that goes on to `chain` may be taken here.
pub(super) async fn check(
    node: &Node,
    cluster_id: ClusterId,
    chain: &[DataNodeInfo],
) -> Result<(), StoreError> {
    node.membership.check_cluster(cluster_id).await?;
    let mut met = BTreeSet::from([node.membership.node_id()]);
    match chain.iter().find(|next| !met.insert(next.node_id)) {
        Some(twice) => Err(StoreError::new(
            ErrorCode::InvalidArgument,
            format!("datanode {} is twice in the chain", twice.node_id),
        )),
        None => Ok(()),
    }
}

/// A write with its two sides, either of which may fail without the other.
struct Write {
    here: Result<WriteStage, StoreError>,
    behind: Option<PipelineSender>,
}

impl Write {
    async fn push(&mut self, chunk: bytes::Bytes) -> Result<(), StoreError> {
        if let Some(behind) = &mut self.behind {
            behind.send(chunk.clone()).await;
        }
        if let Ok(stage) = &mut self.here
            && let Err(error) = stage.push(chunk).await
        {
            self.here = Err(error);
        }
        let behind_alive = self.behind.as_ref().is_some_and(PipelineSender::is_alive);
        match &self.here {
            // Nobody is left to keep the bytes: say so now, and not after the rest of them.
            Err(error) if !behind_alive => Err(error.clone()),
            _ => Ok(()),
        }
    }

    async fn finish(
        self,
        node: &Node,
        trailer: WriteTrailer,
        generation: Generation,
    ) -> Result<PipelineResult, StoreError> {
        let here = async {
            match self.here {
                Ok(stage) => stage.finish(trailer, generation).await,
                Err(error) => Err(error),
            }
        };
        let behind = async {
            match self.behind {
                Some(sender) => sender.finish(trailer).await,
                None => PipelineResult::default(),
            }
        };
        let (here, behind) = tokio::join!(here, behind);
        merge(node, here.map(|_| ()), behind)
    }
}

/// What became of a write here and behind. An error where nobody has it.
pub(super) fn merge(
    node: &Node,
    here: Result<(), StoreError>,
    mut behind: PipelineResult,
) -> Result<PipelineResult, StoreError> {
    let own = node.membership.node_id();
    match here {
        Ok(()) => behind.acknowledged.insert(0, own),
        Err(error) if behind.acknowledged.is_empty() => return Err(error),
        Err(error) => behind.failed.insert(
            0,
            NodeFailure {
                node_id: own,
                code: error.code,
                message: error.message,
            },
        ),
    }
    Ok(behind)
}
