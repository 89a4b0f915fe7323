//! [`WriteStage`]: hashes and writes one replica away from the async threads.
//!
//! Chunks are gathered and handed over half a megabyte at a time, while the next ones arrive. A small file is handed over
//! once, as a whole; a stalled sender holds no thread; and in a simulation the same steps run in place.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use richardstore_proto::{ErrorCode, Generation, MAX_WHOLE_BYTES, StoreError, WriteTrailer};
use richardstore_runtime::{Offload, OffloadError};
use richardstore_store::{PreparedReplica, ReplicaMeta, ReplicaWriter};

use super::small_files::{SmallFile, SmallFiles};
use crate::node::Node;
use crate::volume::Volume;

/// Bytes that are gathered before they are handed over. As many are being written at the same time.
const HANDOVER_BYTES: usize = 512 << 10;

/// The steps of one write, each of which may block.
struct ReplicaSteps {
    volume: Arc<Volume>,
    size_hint: u64,
    // Made with the first step: creating a file blocks too.
    writer: Option<Box<ReplicaWriter>>,
}

impl ReplicaSteps {
    fn step(&mut self, chunks: &[Bytes]) -> Result<(), StoreError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty @ None => empty.insert(Box::new(self.volume.writer(self.size_hint)?)),
        };
        for chunk in chunks {
            writer.write(chunk)?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        rest: &[Bytes],
        trailer: &WriteTrailer,
        generation: Generation,
    ) -> Result<ReplicaMeta, StoreError> {
        self.step(rest)?;
        let writer = self.writer.take().expect("a step makes the writer");
        let prepared = compared(*writer, trailer)?;
        Ok(self.volume.publish(prepared, generation)?)
    }
}

/// The replica that `writer` holds, if it is what `trailer` says.
pub(super) fn compared(
    writer: ReplicaWriter,
    trailer: &WriteTrailer,
) -> Result<PreparedReplica, StoreError> {
    // Before the syncs of `finish`, since a short stream is the commonest mismatch.
    if writer.written() != trailer.size {
        return Err(StoreError::new(
            ErrorCode::HashMismatch,
            format!(
                "{}: {} bytes arrived of {}",
                trailer.hash,
                writer.written(),
                trailer.size
            ),
        ));
    }
    let prepared = writer.finish()?;
    if prepared.hash() != trailer.hash || prepared.blake3_root() != trailer.blake3_root {
        return Err(StoreError::new(
            ErrorCode::HashMismatch,
            format!(
                "the bytes that arrived are {}, not {}",
                prepared.hash(),
                trailer.hash
            ),
        ));
    }
    Ok(prepared)
}

type Handover = Pin<Box<dyn Future<Output = Result<ReplicaSteps, StoreError>> + Send>>;

enum State {
    Idle(ReplicaSteps),
    Busy(Handover),
    /// A step failed, or was cut off.
    Ended,
}

/// One replica being written. Dropped before the end, it leaves nothing.
pub(crate) struct WriteStage {
    offload: Offload,
    small_files: Arc<SmallFiles>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    state: State,
}

impl WriteStage {
    /// A replica of about `size_hint` bytes (0: unknown) on the volume of `node`.
    pub(crate) fn new(node: &Node, size_hint: u64) -> Self {
        Self {
            offload: node.environment.offload,
            small_files: node.small_files.clone(),
            gathered: Vec::new(),
            gathered_bytes: 0,
            state: State::Idle(ReplicaSteps {
                volume: node.volume.clone(),
                size_hint,
                writer: None,
            }),
        }
    }

    /// Takes a chunk. Waits while the disk is slower than the sender.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        // An empty chunk only says that the sender is alive. Gathered, they would never come to a hand-over (I11).
        if chunk.is_empty() {
            return Ok(());
        }
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_bytes < HANDOVER_BYTES {
            return Ok(());
        }
        let mut steps = self.idle().await?;
        let chunks = self.take_gathered();
        let offload = self.offload;
        let mut handover: Handover = Box::pin(async move {
            let done = offload.run(move || steps.step(&chunks).map(|()| steps));
            done.await.map_err(offload_failed)?
        });
        // One look starts the work; the answer is collected by the next hand-over.
        self.state = match (&mut handover).now_or_never() {
            None => State::Busy(handover),
            Some(Ok(steps)) => State::Idle(steps),
            Some(Err(error)) => return Err(error),
        };
        Ok(())
    }

    /// Compares what arrived with `trailer` and publishes it durably.
    ///
    /// # Errors
    /// [`ErrorCode::HashMismatch`] when they differ; nothing is published then.
    pub(crate) async fn finish(
        mut self,
        trailer: WriteTrailer,
        generation: Generation,
    ) -> Result<ReplicaMeta, StoreError> {
        let steps = self.idle().await?;
        let all = steps.writer.is_none() && self.gathered_bytes <= MAX_WHOLE_BYTES;
        let rest = self.take_gathered();
        if all {
            let file = SmallFile {
                chunks: rest,
                trailer,
                generation,
            };
            return self.small_files.publish(file).await;
        }
        let done = self
            .offload
            .run(move || steps.finish(&rest, &trailer, generation));
        done.await.map_err(offload_failed)?
    }

    async fn idle(&mut self) -> Result<ReplicaSteps, StoreError> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(steps) => Ok(steps),
            State::Busy(handover) => handover.await,
            State::Ended => Err(StoreError::new(
                ErrorCode::Internal,
                "this write has ended already",
            )),
        }
    }

    fn take_gathered(&mut self) -> Vec<Bytes> {
        self.gathered_bytes = 0;
        std::mem::take(&mut self.gathered)
    }
}

/// Blocking work that did not come back, as others see it.
pub(crate) fn offload_failed(error: OffloadError) -> StoreError {
    let code = match error {
        OffloadError::Panicked(_) => ErrorCode::Internal,
        OffloadError::Cancelled => ErrorCode::Unavailable,
    };
    StoreError::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_runtime::ManualClock;

    use crate::fixture::start;

    #[tokio::test]
    async fn i11_empty_chunks_take_no_memory() {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), &ManualClock::at(1));
        let mut stage = WriteStage::new(&node, 0);
        for _ in 0..1000 {
            stage.push(Bytes::new()).await.unwrap();
        }
        stage.push(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(stage.gathered, [Bytes::from_static(b"x")]);
    }
}
