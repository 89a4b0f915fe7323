//! [`ReadAhead`]: a replica's verified bytes, read away from the async threads while the ones before are being sent.

use bytes::Bytes;
use richardstore_proto::{ContentHash, StoreError};
use richardstore_store::{ReplicaMeta, VerifiedReader};

use crate::metrics::count;
use crate::node::Node;
use crate::pipeline::offload_failed;
use crate::volume::VolumeError;

/// Chunks, of up to 256 KiB each, that are read in one go. Twice as many are in memory: one batch going out, one coming.
const BATCH_CHUNKS: usize = 2;

/// Bytes of a replica, all of them verified.
pub(crate) type Batch = Vec<Bytes>;

/// A replica that is being read.
pub(crate) struct ReadAhead {
    meta: ReplicaMeta,
    size: u64,
    // `None` once the end was reached.
    reader: Option<VerifiedReader>,
}

impl ReadAhead {
    /// Opens the replica and reads its first batch, in one step: a small file needs no other.
    pub(crate) async fn open(
        node: &Node,
        hash: ContentHash,
        offset: u64,
        length: Option<u64>,
    ) -> Result<(Self, Batch), StoreError> {
        let volume = node.volume.clone();
        let opened = node.environment.offload.run(move || {
            let mut reader = volume.read(&hash, offset, length)?;
            let (meta, size) = (*reader.meta(), reader.size());
            let (batch, ended) = read_batch(&mut reader)?;
            let reader = (!ended).then_some(reader);
            Ok::<_, VolumeError>((Self { meta, size, reader }, batch))
        });
        let opened = opened.await.map_err(offload_failed)?;
        opened.map_err(|error| noted(node, hash, error))
    }

    /// What is being read.
    pub(crate) fn meta(&self) -> &ReplicaMeta {
        &self.meta
    }

    /// Bytes of the whole file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether no batch follows.
    pub(crate) fn has_ended(&self) -> bool {
        self.reader.is_none()
    }

    /// The next batch. `None` at the end.
    ///
    /// # Errors
    /// [`richardstore_proto::ErrorCode::Corrupt`] where bytes are wrong; the namenode is told, and none of them are
    /// handed out.
    pub(crate) async fn next(&mut self, node: &Node) -> Result<Option<Batch>, StoreError> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let read = node.environment.offload.run(move || {
            let (batch, ended) = read_batch(&mut reader)?;
            Ok::<_, VolumeError>((batch, (!ended).then_some(reader)))
        });
        let read = read.await.map_err(offload_failed)?;
        let (batch, reader) = read.map_err(|error| noted(node, self.meta.hash, error))?;
        self.reader = reader;
        Ok(Some(batch))
    }
}

fn read_batch(reader: &mut VerifiedReader) -> Result<(Batch, bool), VolumeError> {
    let mut batch = Batch::with_capacity(BATCH_CHUNKS);
    while batch.len() < BATCH_CHUNKS {
        match reader.next_chunk()? {
            Some(chunk) => batch.push(chunk.into()),
            None => return Ok((batch, true)),
        }
    }
    Ok((batch, false))
}

/// `error` for who reads; damage is also told to the namenode.
pub(crate) fn noted(node: &Node, hash: ContentHash, error: VolumeError) -> StoreError {
    if error.is_damage() {
        count(&node.metrics.bad_replicas, 1);
        node.bad_replicas.found(hash, error.to_string());
    }
    error.into()
}
