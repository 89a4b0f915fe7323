//! [`PipelineWrite`]: one stream of bytes to the head of a chain of datanodes.
//!
//! A stream that is dropped before [`PipelineWrite::finish`] has sent no trailer, and without one no node publishes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use richardstore_proto::wire::data_node_client::DataNodeClient;
use richardstore_proto::wire::write_file_request_part::Part;
use richardstore_proto::wire::{self, MAX_MESSAGE_BYTES};
use richardstore_proto::{
    ClusterId, DataNodeInfo, ErrorCode, FileInfo, Generation, PipelineResult, StoreError,
    WriteTrailer,
};
use richardstore_runtime::Channels;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Messages that wait for the connection. Two keep it busy; more would only be memory.
const QUEUED_MESSAGES: usize = 2;
/// Slowest rate, in bytes a second, at which a node is expected to sync or copy a whole file.
const SLOWEST_BYTES_PER_SECOND: u64 = 8 << 20;
const LONGEST_SYNC: Duration = Duration::from_secs(60);

type Answer = Result<tonic::Response<wire::WriteFileResult>, tonic::Status>;

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
        let mut client = connect(channels, head)?;
        let (parts, queue) = mpsc::channel(QUEUED_MESSAGES);
        let mut stream = Self {
            parts,
            answer: Box::pin(async move { client.write_file(ReceiverStream::new(queue)).await }),
            progress_timeout,
        };
        stream.send_part(Part::Header(header(rest, write))).await?;
        Ok(stream)
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
        let Self { parts, answer, .. } = self;
        drop(parts);
        result_within(answer, longest_whole_file(trailer.size)).await
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
        }),
        cluster_id: write.cluster_id.to_string(),
        request_id: write.request_id.clone(),
    };
    result_within(client.copy_file(request), longest_whole_file(file.size)).await
}

fn connect(
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
        }),
        size_hint: write.size_hint.unwrap_or(0),
        cluster_id: write.cluster_id.to_string(),
        request_id: write.request_id.clone(),
    }
}

async fn result_within(
    answer: impl Future<Output = Answer>,
    limit: Duration,
) -> Result<PipelineResult, StoreError> {
    let answer = tokio::time::timeout(limit, answer).await.map_err(|_| {
        StoreError::new(
            ErrorCode::Unavailable,
            format!("no answer within {} s", limit.as_secs()),
        )
    })?;
    Ok(PipelineResult::try_from(answer?.into_inner())?)
}

fn early(answer: Answer) -> StoreError {
    match answer {
        Err(status) => status.into(),
        Ok(_) => StoreError::new(ErrorCode::Internal, "answered before the end of the file"),
    }
}

/// A whole file may have to reach the disk between the question and the answer; a node that vanished is noticed by
/// keep-alive long before this.
fn longest_whole_file(size: u64) -> Duration {
    LONGEST_SYNC + Duration::from_secs(size / SLOWEST_BYTES_PER_SECOND)
}
