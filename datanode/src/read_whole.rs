//! [`read_whole`]: small files that are wanted together, each read and verified as a whole.
//!
//! Each has its own end: one that is damaged or absent says nothing of the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use richardstore_proto::{
    ErrorCode, FileInfo, MAX_WANTED_BYTES, StoreError, WantedFile, WantedFiles, WholeRead,
    WholeReads,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::count;
use crate::node::Node;
use crate::pipeline::offload_failed;
use crate::read_ahead::noted;
use crate::volume::{Volume, VolumeError};

/// Files of one message that are read at the same time, where more wait for the disk.
const MOST_LANES: usize = 4;
/// A file that takes longer is answered for as if it could not be read: the others are not to wait for it.
const LANE_LIMIT: Duration = Duration::from_secs(2);

/// Reads the files of `wanted`.
///
/// # Errors
/// Where there is no room for a read, or the datanode is stopping.
pub(crate) async fn read_whole(
    node: &Arc<Node>,
    wanted: WantedFiles,
) -> Result<WholeReads, StoreError> {
    let lanes = wanted.0.chunks(wanted.0.len().div_ceil(MOST_LANES));
    let room = Arc::new(node.admit_reads(lanes.len())?);
    for file in &wanted.0 {
        tracing::debug!(id = file.request_id, hash = %file.hash, "a read begins");
    }
    let reads = lanes.map(|files| read_lane(node, files.to_vec(), room.clone()));
    let reads = join_all(reads).await.into_iter().flatten();
    let reads = WholeReads(reads.collect());
    let sent = reads.0.iter().flatten().map(|read| read.data.len()).sum();
    count(&node.metrics.sent_bytes, sent);
    Ok(reads)
}

/// Reads files one after the other, in one step. It has its room until it has ended, whoever still waits for it.
async fn read_lane(
    node: &Arc<Node>,
    files: Vec<WantedFile>,
    room: Arc<OwnedSemaphorePermit>,
) -> Vec<Result<WholeRead, StoreError>> {
    let volume = node.volume.clone();
    let hashes: Vec<_> = files.iter().map(|file| file.hash).collect();
    let work = move || {
        let _room = room;
        hashes.iter().map(|hash| read(&volume, hash)).collect()
    };
    let reads = tokio::time::timeout(LANE_LIMIT, node.environment.offload.run(work));
    let reads: Vec<_> = match reads.await {
        Ok(Ok(reads)) => reads,
        Ok(Err(error)) => return vec![Err(offload_failed(error)); files.len()],
        Err(_) => {
            let message = format!("the disk took longer than {} s", LANE_LIMIT.as_secs());
            return vec![Err(StoreError::new(ErrorCode::Unavailable, message)); files.len()];
        }
    };
    let ends = reads
        .into_iter()
        .zip(&files)
        .map(|(read, file)| match read {
            Ok(Some(read)) => Ok(read),
            Ok(None) => Err(StoreError::new(
                ErrorCode::InvalidArgument,
                format!("{} has more than {MAX_WANTED_BYTES} bytes", file.hash),
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
    if reader.size() > MAX_WANTED_BYTES as u64 {
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
