//! [`copy`]: a replica of this node sent to others, as a pipeline write.

use std::sync::Arc;

use richardstore_proto::{
    ContentHash, DataNodeInfo, ErrorCode, Generation, PipelineResult, StoreError, WriteTrailer,
};

use crate::node::Node;
use crate::pipeline::{PipelineSender, WriteHeader};
use crate::read_ahead::ReadAhead;

/// What to copy where.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) hash: ContentHash,
    /// What the copies carry; 0 takes that of the replica here.
    pub(crate) generation: Generation,
    pub(crate) chain: Vec<DataNodeInfo>,
    pub(crate) request_id: String,
}

/// Copies a replica to a chain and says which of its nodes have it.
///
/// # Errors
/// [`ErrorCode::NotFound`] and [`ErrorCode::Corrupt`] of the replica here. Failures of the chain are in the result.
pub(crate) async fn copy(node: &Arc<Node>, request: Copy) -> Result<PipelineResult, StoreError> {
    let _room = node.admit_read()?;
    let (mut source, mut batch) = ReadAhead::open(node, request.hash, 0, None).await?;
    let meta = *source.meta();
    let header = WriteHeader {
        generation: match request.generation {
            Generation(0) => meta.generation,
            asked => asked,
        },
        chain: request.chain,
        size_hint: meta.size,
        cluster_id: node.membership.identity().cluster_id.ok_or_else(|| {
            StoreError::new(
                ErrorCode::Unavailable,
                "this datanode has not joined a cluster yet",
            )
        })?,
        request_id: request.request_id,
        copy: true,
    };
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
    let trailer = WriteTrailer {
        hash: meta.hash,
        blake3_root: meta.blake3_root,
        size: meta.size,
    };
    Ok(sender.finish(trailer).await)
}
