//! [`read_whole`]: small files that are wanted together, each read and verified as a whole.
//!
//! Each has its own end: one that is damaged or absent says nothing of the others.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use richardstore_proto::{
    ErrorCode, FileInfo, MAX_WHOLE_BYTES, StoreError, WantedFile, WantedFiles, WholeRead,
    WholeReads,
};

use crate::metrics::count;
use crate::node::Node;
use crate::pipeline::offload_failed;
use crate::read_ahead::noted;
use crate::volume::{Volume, VolumeError};

/// Files of one message that are read at the same time, where more wait for the disk. In memory are all of them.
const MOST_LANES: usize = 8;

/// Reads the files of `wanted`.
///
/// # Errors
/// Where there is no room for a read, or the datanode is stopping.
pub(crate) async fn read_whole(
    node: &Arc<Node>,
    wanted: WantedFiles,
) -> Result<WholeReads, StoreError> {
    let _room = node.admit_read()?;
    for file in &wanted.0 {
        tracing::debug!(id = file.request_id, hash = %file.hash, "a read begins");
    }
    let lanes = wanted.0.chunks(wanted.0.len().div_ceil(MOST_LANES));
    let reads = join_all(lanes.map(|files| read_lane(node, files.to_vec()))).await;
    let reads = WholeReads(reads.into_iter().flatten().collect());
    let sent = reads.0.iter().flatten().map(|read| read.data.len()).sum();
    count(&node.metrics.sent_bytes, sent);
    Ok(reads)
}

/// Reads files one after the other, in one step.
async fn read_lane(node: &Arc<Node>, files: Vec<WantedFile>) -> Vec<Result<WholeRead, StoreError>> {
    let volume = node.volume.clone();
    let hashes: Vec<_> = files.iter().map(|file| file.hash).collect();
    let work = move || hashes.iter().map(|hash| read(&volume, hash)).collect();
    let reads: Vec<_> = match node.environment.offload.run(work).await {
        Ok(reads) => reads,
        Err(error) => return vec![Err(offload_failed(error)); files.len()],
    };
    let ends = reads
        .into_iter()
        .zip(&files)
        .map(|(read, file)| match read {
            Ok(Some(read)) => Ok(read),
            Ok(None) => Err(StoreError::new(
                ErrorCode::InvalidArgument,
                format!("{} has more than {MAX_WHOLE_BYTES} bytes", file.hash),
            )),
            Err(error) => Err(noted(node, file.hash, error)),
        });
    ends.collect()
}

/// `None`: it is too large.
fn read(
    volume: &Volume,
    hash: &richardstore_proto::ContentHash,
) -> Result<Option<WholeRead>, VolumeError> {
    let mut reader = volume.read(hash, 0, None)?;
    if reader.size() > MAX_WHOLE_BYTES as u64 {
        return Ok(None);
    }
    let mut data = Bytes::new();
    while let Some(chunk) = reader.next_chunk()? {
        data = match data.is_empty() {
            true => chunk.into(),
            false => [&data[..], &chunk[..]].concat().into(),
        };
    }
    let meta = reader.meta();
    Ok(Some(WholeRead {
        file: FileInfo {
            hash: meta.hash,
            size: reader.size(),
            blake3_root: meta.blake3_root,
            generation: meta.generation,
            // What only the namenode knows.
            replication: 0,
            created_ms: 0,
        },
        data,
    }))
}
