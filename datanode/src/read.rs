//! [`open_read`]: the stream that answers a read.
//!
//! A read that cannot be completed ends with an error, never as if it were whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::Either;
use futures_util::{Stream, StreamExt, stream};
use richardstore_proto::wire::{
    self, hash_field, read_file_response_part::Part, request_id_field, to_bytes,
};
use richardstore_proto::{ErrorCode, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::metrics::count;
use crate::node::Node;
use crate::read_ahead::{Batch, ReadAhead};

/// Chunks between the disk and the socket.
const QUEUED_PARTS: usize = 2;
/// An answer of so many bytes leaves at once: it needs no place that a slow reader could hold, no more than any
/// other answer does.
const AT_ONCE_BYTES: usize = 64 << 10;
/// A reader that takes nothing for this long is cut, since it holds one of a limited number of places.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

type Answer = Result<wire::ReadFileResponsePart, Status>;

/// Begins a read and returns its stream: first what the file is, then its bytes.
///
/// # Errors
/// [`ErrorCode::NotFound`], [`ErrorCode::Corrupt`] and [`ErrorCode::RangeNotSatisfiable`] before anything is sent.
pub(crate) async fn open_read(
    node: &Arc<Node>,
    request: wire::ReadReplicaRequest,
) -> Result<impl Stream<Item = Answer> + Send + use<>, StoreError> {
    let hash = hash_field("hash", &request.hash)?;
    let room = node.admit_read()?;
    let id = request_id_field(request.request_id);
    tracing::debug!(id, %hash, offset = request.offset, "a read begins");
    let length = (request.length > 0).then_some(request.length);
    let (source, first) = ReadAhead::open(node, hash, request.offset, length).await?;
    let bytes: usize = first.iter().map(bytes::Bytes::len).sum();
    if source.has_ended() && bytes <= AT_ONCE_BYTES {
        count(&node.metrics.sent_bytes, bytes);
        let info = Part::Info(stream_info(node, &source));
        let parts = std::iter::once(info).chain(first.into_iter().map(Part::Chunk));
        return Ok(Either::Left(stream::iter(
            parts.map(|part| Ok(message(part))),
        )));
    }
    let (parts, queue) = mpsc::channel(QUEUED_PARTS);
    let whole = Arc::new(AtomicBool::new(false));
    let outgoing = Outgoing {
        node: node.clone(),
        parts,
        whole: whole.clone(),
        _room: room,
    };
    node.tasks.spawn(outgoing.run(source, first));
    // The queue ends the same way after the last chunk and after a reader that was too slow; only the flag tells them
    // apart.
    let end = stream::once(async move {
        if whole.load(Ordering::SeqCst) {
            None
        } else {
            Some(Err(StoreError::new(
                ErrorCode::Unavailable,
                "the read was cut short",
            )
            .into()))
        }
    });
    let rest = ReceiverStream::new(queue).chain(end.filter_map(std::future::ready));
    Ok(Either::Right(rest))
}

/// One read on its way out.
struct Outgoing {
    node: Arc<Node>,
    parts: mpsc::Sender<Answer>,
    whole: Arc<AtomicBool>,
    _room: OwnedSemaphorePermit,
}

/// The reader is gone or too slow: nobody to tell.
struct Cut;

impl Outgoing {
    async fn run(self, source: ReadAhead, first: Batch) {
        tokio::select! {
            biased;
            () = self.node.cut.cancelled() => {}
            _ = self.send_all(source, first) => {}
        }
    }

    async fn send_all(&self, mut source: ReadAhead, first: Batch) -> Result<(), Cut> {
        self.send(Ok(Part::Info(stream_info(&self.node, &source))))
            .await?;
        let mut batch = first;
        loop {
            let sending = async {
                for chunk in batch {
                    count(&self.node.metrics.sent_bytes, chunk.len());
                    self.send(Ok(Part::Chunk(chunk))).await?;
                }
                Ok(())
            };
            let (sent, next) = tokio::join!(sending, source.next(&self.node));
            sent?;
            match next {
                Ok(Some(more)) => batch = more,
                Ok(None) => {
                    self.whole.store(true, Ordering::SeqCst);
                    return Ok(());
                }
                Err(error) => return self.send(Err(error)).await,
            }
        }
    }

    async fn send(&self, part: Result<Part, StoreError>) -> Result<(), Cut> {
        let answer = part.map(message).map_err(Status::from);
        match tokio::time::timeout(IDLE_LIMIT, self.parts.send(answer)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Cut),
        }
    }
}

fn message(part: Part) -> wire::ReadFileResponsePart {
    wire::ReadFileResponsePart { part: Some(part) }
}

fn stream_info(node: &Node, source: &ReadAhead) -> wire::StreamInfo {
    let meta = source.meta();
    wire::StreamInfo {
        file: Some(wire::FileInfo {
            hash: to_bytes(meta.hash.as_bytes()),
            size: source.size(),
            blake3_root: to_bytes(meta.blake3_root.as_bytes()),
            generation: meta.generation.0,
            // What only the namenode knows.
            replication: 0,
            created_ms: 0,
        }),
        nodes: vec![node.info(meta.generation).into()],
        ..Default::default()
    }
}
