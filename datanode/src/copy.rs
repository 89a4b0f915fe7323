//! [`copy`]: a replica of this node sent to others, as a pipeline write.

use std::sync::Arc;

use richardstore_proto::{
    ContentHash, DataNodeInfo, Generation, MAX_WHOLE_BYTES, PipelineResult, StoreError, WholeFile,
    WriteTrailer,
};
use richardstore_store::ReplicaMeta;

use crate::node::Node;
use crate::pipeline::{PipelineSender, SmallCopy, WriteHeader};
use crate::read_ahead::{Batch, ReadAhead};

/// What to copy where.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) hash: ContentHash,
    /// What the copies carry; 0 takes that of the replica here.
    pub(crate) generation: Generation,
    pub(crate) chain: Vec<DataNodeInfo>,
    pub(crate) request_id: String,
}

/// Copies a replica to a chain and says which of its nodes have it. A small one goes with others that wait for the same chain.
///
/// # Errors
/// `NotFound` and `Corrupt` of the replica here. Failures of the chain are in the result.
pub(crate) async fn copy(node: &Arc<Node>, request: Copy) -> Result<PipelineResult, StoreError> {
    let _room = node.admit_read()?;
    let cluster_id = node.membership.cluster_id()?;
    let (source, mut batch) = ReadAhead::open(node, request.hash, 0, None).await?;
    let meta = *source.meta();
    let generation = match request.generation {
        Generation(0) => meta.generation,
        asked => asked,
    };
    // One that was copied in by hand may have no generation. Nobody takes it, and not what would be in one message with it either.
    let is_valid = generation != Generation(0);
    if is_valid && source.has_ended() && meta.size <= MAX_WHOLE_BYTES as u64 {
        let copy = SmallCopy {
            chain: request.chain,
            cluster_id,
            file: WholeFile {
                generation,
                request_id: request.request_id,
                // One chunk holds it, or none where it is empty.
                data: batch.pop().unwrap_or_default(),
                trailer: trailer(&meta),
            },
        };
        return Ok(node.small_copies.send(copy).await);
    }
    let header = WriteHeader {
        generation,
        chain: request.chain,
        size_hint: meta.size,
        cluster_id,
        request_id: request.request_id,
        copy: true,
    };
    stream(node, header, source, batch).await
}

/// Sends what is read while it is read.
async fn stream(
    node: &Node,
    header: WriteHeader,
    mut source: ReadAhead,
    mut batch: Batch,
) -> Result<PipelineResult, StoreError> {
    let Some(mut sender) = PipelineSender::open(&node.environment.channels, header) else {
        return Ok(PipelineResult::default());
    };
    loop {
        let sending = async {
            for chunk in batch {
                sender.send(chunk).await;
            }
        };
        // An error here drops the sender, which cuts the write: the targets keep nothing of a corrupt replica.
        let ((), next) = tokio::join!(sending, source.next(node));
        match next? {
            Some(more) if sender.is_alive() => batch = more,
            Some(_) | None => break,
        }
    }
    Ok(sender.finish(trailer(source.meta())).await)
}

fn trailer(meta: &ReplicaMeta) -> WriteTrailer {
    WriteTrailer {
        hash: meta.hash,
        blake3_root: meta.blake3_root,
        size: meta.size,
    }
}
