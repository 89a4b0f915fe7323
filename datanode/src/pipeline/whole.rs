//! [`receive_whole`]: one node's part in writing small files that arrive together, each as a whole.
//!
//! Each file has its own end: what is wrong with one, here or behind, is said of that one.

use std::sync::Arc;

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

/// Publishes the files of `request` here, forwards them, and says of each which nodes have it.
///
/// # Errors
/// Where none of them can be taken: they are another cluster's, or go in a circle.
pub(crate) async fn receive_whole(
    node: &Arc<Node>,
    request: wire::WriteFilesRequest,
) -> Result<WholeResults, StoreError> {
    let whole = WholeFiles::try_from(request)?;
    check(node, whole.cluster_id, &whole.chain)?;
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
    let sent = whole.chain.iter().map(|node| send(channels, node, whole));
    let mut results = vec![PipelineResult::default(); whole.files.len()];
    for answers in join_all(sent).await {
        for (result, answer) in results.iter_mut().zip(answers) {
            result.acknowledged.extend(answer.acknowledged);
            result.failed.extend(answer.failed);
        }
    }
    results
}

/// Has one node take the files.
async fn send(channels: &Channels, node: &DataNodeInfo, whole: &WholeFiles) -> Vec<PipelineResult> {
    let alone = WholeFiles {
        chain: Vec::new(),
        ..whole.clone()
    };
    let limit = answer_limit(1, whole.bytes());
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
            return join_all(files.map(|file| stream(channels, node, whole, file))).await;
        }
        Ok(Err(status)) => Err(status.into()),
        Err(error) => Err(error),
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

/// Sends one file by itself.
async fn stream(
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
