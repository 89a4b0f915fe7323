//! Nodes of a chain that failed: which they are, and how others take their places.

use bytes::Bytes;
use futures_util::Stream;
use richardstore_proto::{DataNodeInfo, ErrorCode, FileInfo, NodeId, PipelineResult};

use super::pipeline::copy_file;
use super::{Upload, Written};
use crate::error::SourceError;
use crate::namenode::Granted;

/// Nodes that are asked to make the copies that a chain did not.
const MAX_COPY_SOURCES: usize = 2;

impl<S> Upload<'_, S>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
{
    /// Asks for as many other nodes as failed, and has a node that holds the file copy it there. That it does not work is
    /// no failure of the upload as long as `min_replication` is reached: repair makes the rest.
    pub(super) async fn replace_failed(
        &self,
        granted: &Granted,
        written: &Written,
        file: &FileInfo,
        holders: &mut Vec<DataNodeInfo>,
    ) {
        let chain = &granted.allocation.targets;
        let excluded = not_again(chain, &written.result);
        let missing = chain.len() - holders.len();
        let namenode = &self.shared.namenode;
        let acknowledged: Vec<NodeId> = holders.iter().map(|node| node.node_id).collect();
        let found = namenode.replacements(file, missing, &excluded, &acknowledged);
        let targets = match found.await {
            Ok(allocation) if !allocation.targets.is_empty() => allocation.targets,
            Ok(_) => return,
            Err(error) => {
                tracing::info!(hash = %file.hash, missing, %error, "no replacement for a failed datanode");
                return;
            }
        };
        let channels = &self.shared.environment.channels;
        for source in holders.clone().iter().take(MAX_COPY_SOURCES) {
            match copy_file(channels, source, *file, &targets, &written.write).await {
                Ok(result) => {
                    holders.extend(acknowledged_of(&targets, &result));
                    return;
                }
                Err(error) => {
                    tracing::warn!(hash = %file.hash, node = %source.name, %error, "a copy to a replacement failed");
                }
            }
        }
    }
}

/// The nodes of `chain` that acknowledged: a node that was not asked has nothing to say.
pub(super) fn acknowledged_of(
    chain: &[DataNodeInfo],
    result: &PipelineResult,
) -> Vec<DataNodeInfo> {
    chain
        .iter()
        .filter(|node| result.acknowledged.contains(&node.node_id))
        .cloned()
        .collect()
}

/// The nodes of `chain` that have the file or failed. Not those behind one that failed of which nothing else is known than
/// of that one: they were only cut off, and are as good as any other.
fn not_again(chain: &[DataNodeInfo], result: &PipelineResult) -> Vec<NodeId> {
    let mut in_front = None;
    let mut excluded = Vec::with_capacity(chain.len());
    for node in chain {
        let mut failed = result.failed.iter();
        let failure = failed.find(|failure| failure.node_id == node.node_id);
        let said = failure.map(|failure| (failure.code, &failure.message));
        if said.is_none() || said != in_front {
            excluded.push(node.node_id);
        }
        in_front = said;
    }
    excluded
}

/// Whether room is all that those lacked who failed.
pub(super) fn are_full(result: &PipelineResult) -> bool {
    let mut codes = result.failed.iter().map(|failure| failure.code);
    !result.failed.is_empty() && codes.all(|code| code == ErrorCode::StorageFull)
}

pub(super) fn failures(chain: &[DataNodeInfo], result: &PipelineResult) -> String {
    let name = |id: &NodeId| {
        let known = chain.iter().find(|node| node.node_id == *id);
        known.map_or_else(|| id.to_string(), |node| node.name.clone())
    };
    let list: Vec<String> = result
        .failed
        .iter()
        .map(|failure| format!("{}: {}", name(&failure.node_id), failure.message))
        .collect();
    match list.is_empty() {
        true => "the others did not answer".to_owned(),
        false => list.join("; "),
    }
}
