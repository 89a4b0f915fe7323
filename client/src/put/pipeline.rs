//! [`PipelineWrite`]: one stream of bytes to the head of a chain of datanodes.
//!
//! A stream that is dropped before [`PipelineWrite::finish`] has sent no trailer, and without one no node publishes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use richardstore_proto::wire::data_node_client::DataNodeClient;
use richardstore_proto::wire::write_file_request_part::Part;
use richardstore_proto::wire::{self, MAX_MESSAGE_BYTES};
use richardstore_proto::{
    ClusterId, DataNodeInfo, ErrorCode, FileInfo, Generation, PipelineResult, StoreError,
    WriteTrailer,
};
use richardstore_runtime::Channel;
use richardstore_runtime::in_place::write_file;
use richardstore_runtime::{Channels, answer_limit, progress_limit};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Messages that wait for the connection. Two keep it busy; more would only be memory.
const QUEUED_MESSAGES: usize = 2;

type Answer = Result<wire::WriteFileResult, tonic::Status>;

/// What every stream of one upload says in its header.
#[derive(Debug, Clone)]
pub(crate) struct WriteDescription {
    pub(crate) generation: Generation,
    pub(crate) size_hint: Option<u64>,
    pub(crate) replication: Option<u32>,
    pub(crate) cluster_id: ClusterId,
    pub(crate) request_id: String,
}

/// A stream under way.
pub(crate) struct PipelineWrite {
    parts: mpsc::Sender<wire::WriteFileRequestPart>,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    /// The head and those behind it.
    nodes: usize,
    progress_timeout: Duration,
}

impl PipelineWrite {
    /// Opens the stream to `head`, which forwards to `rest`.
    ///
    /// # Errors
    /// What the head said, or that it took too long.
    pub(crate) async fn open(
        channels: &Channels,
        head: &DataNodeInfo,
        rest: &[DataNodeInfo],
        write: &WriteDescription,
        progress_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let (parts, queue) = mpsc::channel(QUEUED_MESSAGES);
        let channel = channels.get(&head.address)?;
        let answer = Box::pin(write_file(channel, ReceiverStream::new(queue)));
        let mut stream = Self::over(parts, answer, 1 + rest.len(), progress_timeout);
        stream.send_part(Part::Header(header(rest, write))).await?;
        Ok(stream)
    }

    /// `progress_timeout` grows with a chain whose nodes need longer than that to find the one of them that is stuck.
    fn over(
        parts: mpsc::Sender<wire::WriteFileRequestPart>,
        answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
        nodes: usize,
        progress_timeout: Duration,
    ) -> Self {
        Self {
            parts,
            answer,
            nodes,
            progress_timeout: progress_timeout.max(progress_limit(nodes)),
        }
    }

    /// Sends bytes, waiting while the chain is slower than the source.
    ///
    /// # Errors
    /// What the head said, or that it took nothing for too long.
    pub(crate) async fn send(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.send_part(Part::Chunk(chunk)).await
    }

    /// Ends the stream: every node compares what it has with `trailer` and publishes it. Returns who did.
    ///
    /// # Errors
    /// What the head said. Then it is not known which nodes published.
    pub(crate) async fn finish(
        mut self,
        trailer: WriteTrailer,
    ) -> Result<PipelineResult, StoreError> {
        self.send_part(Part::Trailer(trailer.into())).await?;
        let Self {
            parts,
            answer,
            nodes,
            ..
        } = self;
        drop(parts);
        result_within(answer, answer_limit(nodes, trailer.size)).await
    }

    async fn send_part(&mut self, part: Part) -> Result<(), StoreError> {
        // The answer is waited for beside the queue: it drives the call, and a head that fails says so before the end.
        let permit = tokio::select! {
            biased;
            answer = &mut self.answer => return Err(early(answer)),
            permit = self.parts.reserve() => permit,
            () = tokio::time::sleep(self.progress_timeout) => {
                return Err(StoreError::new(
                    ErrorCode::Unavailable,
                    format!("took no byte for {} ms", self.progress_timeout.as_millis()),
                ));
            }
        };
        let Ok(permit) = permit else {
            // The connection gave the queue up, so the answer says why.
            return Err(early(self.answer.as_mut().await));
        };
        permit.send(wire::WriteFileRequestPart { part: Some(part) });
        Ok(())
    }
}

/// Sends a file whose bytes are all here, in one message after the other without waiting in between. Returns who of the chain has
/// it.
///
/// # Errors
/// What the head said, or that it took too long.
pub(crate) async fn write_whole(
    channels: &Channels,
    chain: (&DataNodeInfo, &[DataNodeInfo]),
    write: &WriteDescription,
    data: Bytes,
    trailer: WriteTrailer,
) -> Result<PipelineResult, StoreError> {
    let (head, rest) = chain;
    let parts = [
        Part::Header(header(rest, write)),
        Part::Chunk(data),
        Part::Trailer(trailer.into()),
    ];
    let parts = parts.map(|part| wire::WriteFileRequestPart { part: Some(part) });
    let answer = write_file(channels.get(&head.address)?, stream::iter(parts));
    result_within(answer, answer_limit(1 + rest.len(), trailer.size)).await
}

/// Has `source`, which holds `file`, copy it to `targets`. Returns who of them has it.
///
/// # Errors
/// What `source` said, or that it took too long.
pub(crate) async fn copy_file(
    channels: &Channels,
    source: &DataNodeInfo,
    file: FileInfo,
    targets: &[DataNodeInfo],
    write: &WriteDescription,
) -> Result<PipelineResult, StoreError> {
    let mut client = connect(channels, source)?;
    let request = wire::CopyFileRequest {
        stream: Some(wire::StreamInfo {
            file: Some(file.into()),
            nodes: targets.iter().cloned().map(Into::into).collect(),
            ..Default::default()
        }),
        cluster_id: write.cluster_id.to_string(),
        request_id: write.request_id.clone(),
    };
    // The source, and the bytes twice: they are sent before they are synced.
    let limit = answer_limit(1 + targets.len(), file.size.saturating_mul(2));
    let answer = async move { Ok(client.copy_file(request).await?.into_inner()) };
    result_within(answer, limit).await
}

pub(super) fn connect(
    channels: &Channels,
    node: &DataNodeInfo,
) -> Result<DataNodeClient<Channel>, StoreError> {
    let channel = channels.get(&node.address)?;
    Ok(DataNodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

fn header(rest: &[DataNodeInfo], write: &WriteDescription) -> wire::WriteHeader {
    wire::WriteHeader {
        stream: Some(wire::StreamInfo {
            file: Some(wire::FileInfo {
                generation: write.generation.0,
                size: write.size_hint.unwrap_or(0),
                replication: write.replication.unwrap_or(0),
                ..Default::default()
            }),
            nodes: rest.iter().cloned().map(Into::into).collect(),
            ..Default::default()
        }),
        size_hint: write.size_hint.unwrap_or(0),
        cluster_id: write.cluster_id.to_string(),
        request_id: write.request_id.clone(),
        copy: false,
    }
}

async fn result_within(
    answer: impl Future<Output = Answer>,
    limit: Duration,
) -> Result<PipelineResult, StoreError> {
    let answer = tokio::time::timeout(limit, answer).await;
    let answer = answer.map_err(|_| silent(limit))?;
    Ok(PipelineResult::try_from(answer?)?)
}

pub(super) fn silent(limit: Duration) -> StoreError {
    StoreError::new(
        ErrorCode::Unavailable,
        format!("no answer within {} s", limit.as_secs()),
    )
}

fn early(answer: Answer) -> StoreError {
    match answer {
        Err(status) => status.into(),
        Ok(_) => StoreError::new(ErrorCode::Internal, "answered before the end of the file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    use richardstore_proto::{Blake3Root, ContentHash};

    type Queue = mpsc::Receiver<wire::WriteFileRequestPart>;

    /// A stream to a chain of `nodes`, the head of which says and takes nothing.
    fn stuck(nodes: usize) -> (PipelineWrite, Queue) {
        let (parts, queue) = mpsc::channel(QUEUED_MESSAGES);
        let answer = Box::pin(std::future::pending());
        let stream = PipelineWrite::over(parts, answer, nodes, Duration::from_secs(30));
        (stream, queue)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_gives_up_the_node_behind_it_before_the_client_gives_up_the_head() {
        let trailer = WriteTrailer {
            hash: ContentHash::EMPTY,
            blake3_root: Blake3Root::new([0; 32]),
            size: 1 << 30,
        };
        for nodes in 2..12 {
            let (stream, _queue) = stuck(nodes);
            let begun = Instant::now();
            stream.finish(trailer).await.unwrap_err();
            let head = answer_limit(nodes - 1, trailer.size);
            assert!(begun.elapsed() > head, "answer of {nodes} nodes");

            let (mut stream, _queue) = stuck(nodes);
            let begun = Instant::now();
            while stream.send(Bytes::from_static(b"x")).await.is_ok() {}
            let head = progress_limit(nodes - 1);
            assert!(begun.elapsed() > head, "progress of {nodes} nodes");
        }
    }
}
