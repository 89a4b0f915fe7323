//! [`receive_whole`]: one node's part in writing small files that arrive together, each as a whole.
//!
//! Each file has its own end: what is wrong with one, here or behind, is said of that one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use richardstore_proto::wire::{self, data_node_client::DataNodeClient};
use richardstore_proto::{
    DataNodeInfo, ErrorCode, PipelineResult, StoreError, WholeFile, WholeFiles, WholeResults,
};
use richardstore_runtime::{Channels, answer_limit, own_limit};

use super::header::WriteHeader;
use super::receive::{check, merge, tell};
use super::sender::{PipelineSender, settle, silent};
use super::small_files::SmallFile;
use crate::metrics::count;
use crate::node::Node;

/// Nodes that files are forwarded to at the same time: each has a message of its own in memory.
const FORWARDED_AT_ONCE: usize = 4;

/// Publishes the files of `request` here, forwards them, and says of each which nodes have it.
///
/// # Errors
/// Where none of them can be taken: they are another cluster's, or go in a circle.
pub(crate) async fn receive_whole(
    node: &Arc<Node>,
    request: wire::WriteFilesRequest,
) -> Result<WholeResults, StoreError> {
    let whole = WholeFiles::try_from(request)?;
    check(node, whole.cluster_id, &whole.chain).await?;
    if !whole.copies {
        node.uploads.note();
    }
    for file in &whole.files {
        count(&node.metrics.received_bytes, file.data.len());
    }
    let here = whole.files.iter().map(|file| publish(node, file));
    let behind = forward(&node.environment.channels, &whole);
    let (here, behind) = tokio::join!(join_all(here), behind);
    let ends = whole.files.iter().zip(here).zip(behind);
    let results = ends.map(|((file, here), behind)| {
        let result = merge(node, here, behind);
        let span =
            tracing::debug_span!("write", id = file.request_id, generation = %file.generation);
        tell(&span, &result);
        result
    });
    Ok(WholeResults(results.collect()))
}

/// Publishes one file here. One that takes too long may still come to be there: nobody counts on it then, and a report tells.
async fn publish(node: &Node, file: &WholeFile) -> Result<(), StoreError> {
    let published = node.small_files.publish(SmallFile {
        chunks: vec![file.data.clone()],
        trailer: file.trailer,
        generation: file.generation,
    });
    let limit = own_limit();
    match tokio::time::timeout(limit, published).await {
        Ok(published) => published.map(|_| ()),
        Err(_) => Err(silent(limit)),
    }
}

/// Has each node of the chain take the files, and says of each file who of them has it. All at the same time, and not one from the
/// other as with a stream: a small file is there before its message would have been passed on, and a node that hangs keeps it
/// from nobody else.
pub(super) async fn forward(channels: &Channels, whole: &WholeFiles) -> Vec<PipelineResult> {
    // Who is in front waits as long for them as for so many nodes one behind the other.
    let limit = answer_limit(whole.chain.len().min(FORWARDED_AT_ONCE), whole.bytes());
    let mut results = vec![PipelineResult::default(); whole.files.len()];
    for nodes in whole.chain.chunks(FORWARDED_AT_ONCE) {
        let sent = nodes.iter().map(|node| send(channels, node, whole, limit));
        for answers in join_all(sent).await {
            for (result, answer) in results.iter_mut().zip(answers) {
                result.acknowledged.extend(answer.acknowledged);
                result.failed.extend(answer.failed);
            }
        }
    }
    results
}

/// Has one node take the files.
async fn send(
    channels: &Channels,
    node: &DataNodeInfo,
    whole: &WholeFiles,
    limit: Duration,
) -> Vec<PipelineResult> {
    let alone = WholeFiles {
        chain: Vec::new(),
        ..whole.clone()
    };
    let sent = async {
        let channel = channels.get(&node.address)?;
        let mut client = DataNodeClient::new(channel);
        let answer = client.write_files(wire::WriteFilesRequest::from(alone));
        let answer = tokio::time::timeout(limit, answer).await;
        answer.map_err(|_| silent(limit))
    };
    let answer = match sent.await {
        Ok(Ok(answer)) => WholeResults::try_from(answer.into_inner()).map_err(StoreError::from),
        // An older datanode, in the middle of an upgrade.
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {
            let files = whole.files.iter();
            return join_all(files.map(|file| send_stream(channels, node, whole, file))).await;
        }
        Ok(Err(status)) => Err(of_node(node, status.into())),
        Err(error) => Err(of_node(node, error)),
    };
    let each = |place: usize| match &answer {
        Ok(WholeResults(results)) => results.get(place).cloned().unwrap_or_else(|| {
            let message = "nothing was said about this file";
            Err(StoreError::new(ErrorCode::Internal, message))
        }),
        Err(error) => Err(error.clone()),
    };
    let settled =
        (0..whole.files.len()).map(|place| settle(std::slice::from_ref(node), each(place)));
    settled.collect()
}

/// `error` of a call. Named, since who reads of two nodes the same words takes the second for one that was only cut off by the first.
fn of_node(node: &DataNodeInfo, error: StoreError) -> StoreError {
    StoreError::new(
        error.code,
        format!("datanode {}: {}", node.node_id, error.message),
    )
}

/// Sends one file by itself.
async fn send_stream(
    channels: &Channels,
    node: &DataNodeInfo,
    whole: &WholeFiles,
    file: &WholeFile,
) -> PipelineResult {
    let header = WriteHeader {
        generation: file.generation,
        chain: vec![node.clone()],
        size_hint: file.trailer.size,
        cluster_id: whole.cluster_id,
        request_id: file.request_id.clone(),
        copy: whole.copies,
    };
    match PipelineSender::open(channels, header) {
        Some(mut sender) => {
            sender.send(file.data.clone()).await;
            sender.finish(file.trailer).await
        }
        None => PipelineResult::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{ClusterId, Generation, NamenodeEpoch, WriteTrailer};
    use richardstore_runtime::ManualClock;
    use richardstore_store::ContentHasher;

    use crate::fixture::start;

    const CLUSTER: ClusterId = ClusterId::new([1; 16]);

    fn request(copies: bool) -> wire::WriteFilesRequest {
        let digest = ContentHasher::new().finish();
        let file = WholeFile {
            generation: Generation(1),
            request_id: "test".to_owned(),
            data: bytes::Bytes::new(),
            trailer: WriteTrailer {
                hash: digest.hash,
                blake3_root: digest.blake3_root,
                size: 0,
            },
        };
        let whole = WholeFiles {
            chain: Vec::new(),
            cluster_id: CLUSTER,
            files: vec![file],
            copies,
        };
        whole.into()
    }

    #[tokio::test]
    async fn copies_are_no_uploads_for_which_others_step_back() {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), &ManualClock::at(1));
        let offload = node.environment.offload;
        let met = node.membership.meet(offload, CLUSTER, NamenodeEpoch(1));
        met.await.unwrap();
        for is_copy in [true, false] {
            let WholeResults(results) = receive_whole(&node, request(is_copy)).await.unwrap();
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            assert_eq!(node.uploads.any(), !is_copy);
        }
    }
}
