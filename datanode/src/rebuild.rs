//! The loop that puts the index up again whenever it was lost (I9). Reads and writes go on from the directory meanwhile.

use std::sync::Arc;

use crate::backoff::Backoff;
use crate::node::Node;
use crate::pipeline::offload_failed;
use crate::volume::RebuildEnd;

/// Rebuilds the index when that is wanted, until the datanode stops.
pub(crate) async fn rebuild_index(node: Arc<Node>) {
    let stopping = node.tasks.stopping();
    let mut backoff = Backoff::new(node.backoff_seed());
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            () = node.volume.rebuild_wanted() => {}
        }
        while let Err(error) = rebuild_once(&node).await {
            tracing::warn!(%error, "the index could not be rebuilt");
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
        backoff.reset();
    }
}

async fn rebuild_once(node: &Arc<Node>) -> Result<(), richardstore_proto::StoreError> {
    let volume = node.volume.clone();
    let stopping = node.tasks.stopping();
    let end = node
        .environment
        .offload
        .run(move || volume.rebuild(&stopping))
        .await
        .map_err(offload_failed)??;
    match end {
        RebuildEnd::Complete { replicas } => {
            tracing::info!(replicas, "the index is complete");
            node.full_report_wanted.notify_one();
        }
        RebuildEnd::Stopped => {}
    }
    Ok(())
}
