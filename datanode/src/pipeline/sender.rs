//! [`PipelineSender`]: one write towards the rest of a chain, used for forwarding and for copies alike.
//!
//! A chain that fails never fails its sender: it is remembered as failed, for all of its nodes, and the rest go on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use richardstore_proto::wire::{self, write_file_request_part::Part};
use richardstore_proto::{
    DataNodeInfo, ErrorCode, MAX_WHOLE_BYTES, NodeFailure, NodeId, PipelineResult, StoreError,
    WriteTrailer,
};
use richardstore_runtime::in_place::write_file;
use richardstore_runtime::{Channels, answer_limit, progress_limit};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::header::WriteHeader;

/// Messages between here and the connection, which takes one ahead. With chunks of 256 KiB this is what waits for a slow node.
const QUEUED_PARTS: usize = 4;
/// The beginning of a write is held back up to here: what ends before it is sent as a whole, without a task
/// of its own.
const HELD_BYTES: usize = MAX_WHOLE_BYTES;
const HELD_PARTS: usize = 16;
/// How long to wait for the reason after a stream broke.
const REASON_LIMIT: Duration = Duration::from_secs(1);

type Answer = Result<wire::WriteFileResult, tonic::Status>;

/// A write under way to a chain of at least one node.
pub(crate) struct PipelineSender {
    chain: Vec<DataNodeInfo>,
    channels: Channels,
    state: State,
}

enum State {
    /// Not opened yet: a write that ends soon goes as a whole.
    Held(Held),
    Sending {
        parts: mpsc::Sender<wire::WriteFileRequestPart>,
        // Aborted with the sender, which resets the stream: a write that is cut here is cut all the way down.
        answer: AbortOnDropHandle<Answer>,
    },
    Failed(StoreError),
}

/// The beginning of a write, the header first.
struct Held {
    parts: Vec<wire::WriteFileRequestPart>,
    bytes: usize,
}

impl PipelineSender {
    /// Begins the write described by `header` towards its chain. `None` where that is empty.
    pub(crate) fn open(channels: &Channels, mut header: WriteHeader) -> Option<Self> {
        let chain = header.chain.clone();
        if chain.is_empty() {
            return None;
        }
        header.chain.remove(0);
        Some(Self {
            chain,
            channels: channels.clone(),
            state: State::Held(Held {
                parts: vec![part(Part::Header(header.into()))],
                bytes: 0,
            }),
        })
    }

    /// Whether bytes still go anywhere.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, State::Failed(_))
    }

    /// Forwards a chunk. Waits while the next node is slower than we are, up to its progress deadline.
    pub(crate) async fn send(&mut self, chunk: Bytes) {
        if let State::Held(held) = &mut self.state {
            // Empty ones only say that the sender is alive. Nobody waits there yet, and held they would pile up (I11).
            if chunk.is_empty() {
                return;
            }
            held.bytes += chunk.len();
            if held.bytes <= HELD_BYTES && held.parts.len() < HELD_PARTS {
                held.parts.push(part(Part::Chunk(chunk)));
                return;
            }
            self.begin().await;
        }
        self.send_part(Part::Chunk(chunk)).await;
    }

    /// Sends the trailer, waits for the answer, and says for every node of the chain whether it has the file.
    pub(crate) async fn finish(mut self, trailer: WriteTrailer) -> PipelineResult {
        let limit = answer_limit(self.chain.len(), trailer.size);
        if !matches!(self.state, State::Held(_)) {
            self.send_part(Part::Trailer(trailer.into())).await;
        }
        let answer = match self.state {
            State::Held(mut held) => {
                held.parts.push(part(Part::Trailer(trailer.into())));
                whole(&self.channels, &self.chain[0].address, held.parts, limit).await
            }
            State::Sending { parts, answer } => {
                drop(parts);
                answered(limit, answer).await
            }
            State::Failed(error) => Err(error),
        };
        settle(&self.chain, answer)
    }

    /// Opens the stream, and sends what was held.
    async fn begin(&mut self) {
        let channel = match self.channels.get(&self.chain[0].address) {
            Ok(channel) => channel,
            Err(error) => {
                self.state = State::Failed(error);
                return;
            }
        };
        let (parts, queue) = mpsc::channel(QUEUED_PARTS);
        let answer = tokio::spawn(write_file(channel, ReceiverStream::new(queue)));
        let sending = State::Sending {
            parts,
            answer: AbortOnDropHandle::new(answer),
        };
        if let State::Held(held) = std::mem::replace(&mut self.state, sending) {
            for part in held.parts {
                self.send_message(part).await;
            }
        }
    }

    async fn send_part(&mut self, message: Part) {
        self.send_message(part(message)).await;
    }

    async fn send_message(&mut self, message: wire::WriteFileRequestPart) {
        let State::Sending { parts, .. } = &self.state else {
            return;
        };
        let limit = progress_limit(self.chain.len());
        match timeout(limit, parts.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.fail_with_reason().await,
            Err(_) => {
                let next = &self.chain[0];
                self.channels.forget(&next.address);
                self.state = State::Failed(StoreError::new(
                    ErrorCode::RequestTimeout,
                    format!(
                        "datanode {} took no data for {} s",
                        next.node_id,
                        limit.as_secs()
                    ),
                ));
            }
        }
    }

    /// The other side ended the stream: its answer says why.
    async fn fail_with_reason(&mut self) {
        let broken = StoreError::new(ErrorCode::Unavailable, "the stream broke");
        let state = std::mem::replace(&mut self.state, State::Failed(broken));
        if let State::Sending { answer, .. } = state
            && let Err(error) = answered(REASON_LIMIT, answer).await
        {
            self.state = State::Failed(error);
        }
    }
}

/// Sends a write that is there as a whole, and waits for the answer.
async fn whole(
    channels: &Channels,
    address: &str,
    parts: Vec<wire::WriteFileRequestPart>,
    limit: Duration,
) -> Result<PipelineResult, StoreError> {
    let writing = write_file(channels.get(address)?, stream::iter(parts));
    match timeout(limit, writing).await {
        Ok(Ok(result)) => Ok(PipelineResult::try_from(result)?),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(silent(limit)),
    }
}

pub(super) fn silent(limit: Duration) -> StoreError {
    StoreError::new(
        ErrorCode::RequestTimeout,
        format!("no answer within {} s", limit.as_secs()),
    )
}

fn part(part: Part) -> wire::WriteFileRequestPart {
    wire::WriteFileRequestPart { part: Some(part) }
}

async fn answered(
    limit: Duration,
    answer: AbortOnDropHandle<Answer>,
) -> Result<PipelineResult, StoreError> {
    match timeout(limit, answer).await {
        Ok(Ok(Ok(result))) => Ok(PipelineResult::try_from(result)?),
        Ok(Ok(Err(status))) => Err(status.into()),
        Ok(Err(ended)) => Err(StoreError::new(
            ErrorCode::Internal,
            format!("sending ended early: {ended}"),
        )),
        Err(_) => Err(silent(limit)),
    }
}

/// The fate of each node of `chain`. Only nodes of the chain can acknowledge, and one that nobody mentions has failed:
/// a lost word must not become an acknowledgement (I1).
pub(super) fn settle(
    chain: &[DataNodeInfo],
    answer: Result<PipelineResult, StoreError>,
) -> PipelineResult {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return all_failed(chain.iter().map(|node| node.node_id), &error),
    };
    let mut settled = PipelineResult::default();
    for node in chain.iter().map(|node| node.node_id) {
        if answer.acknowledged.contains(&node) {
            settled.acknowledged.push(node);
        } else if let Some(failure) = answer.failed.iter().find(|failed| failed.node_id == node) {
            settled.failed.push(failure.clone());
        } else {
            settled.failed.push(NodeFailure {
                node_id: node,
                code: ErrorCode::Internal,
                message: "nothing was said about this node".to_owned(),
            });
        }
    }
    settled
}

fn all_failed(nodes: impl Iterator<Item = NodeId>, error: &StoreError) -> PipelineResult {
    PipelineResult {
        acknowledged: Vec::new(),
        failed: nodes
            .map(|node_id| NodeFailure {
                node_id,
                code: error.code,
                message: error.message.clone(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{Generation, NodeState};

    fn node(byte: u8) -> DataNodeInfo {
        DataNodeInfo {
            node_id: NodeId::new([byte; 16]),
            address: "127.0.0.1:1".to_owned(),
            state: NodeState::Live,
            name: String::new(),
            rack: String::new(),
            generation: Generation(0),
        }
    }

    #[test]
    fn i01_a_node_that_nobody_mentions_did_not_acknowledge() {
        let chain = [node(1), node(2), node(3)];
        let answer = PipelineResult {
            acknowledged: vec![NodeId::new([2; 16]), NodeId::new([9; 16])],
            failed: vec![NodeFailure {
                node_id: NodeId::new([3; 16]),
                code: ErrorCode::StorageFull,
                message: "full".to_owned(),
            }],
        };
        let settled = settle(&chain, Ok(answer));
        assert_eq!(settled.acknowledged, [NodeId::new([2; 16])]);
        let failed: Vec<_> = settled.failed.iter().map(|f| (f.node_id, f.code)).collect();
        assert_eq!(
            failed,
            [
                (NodeId::new([1; 16]), ErrorCode::Internal),
                (NodeId::new([3; 16]), ErrorCode::StorageFull)
            ]
        );
    }

    #[test]
    fn a_chain_that_fails_fails_for_all_of_its_nodes() {
        let error = StoreError::new(ErrorCode::Unavailable, "gone");
        let settled = settle(&[node(1), node(2)], Err(error));
        assert!(settled.acknowledged.is_empty());
        assert_eq!(settled.failed.len(), 2);
    }

    fn write_to(chain: Vec<DataNodeInfo>) -> WriteHeader {
        WriteHeader {
            generation: Generation(1),
            chain,
            size_hint: 0,
            cluster_id: richardstore_proto::ClusterId::new([1; 16]),
            request_id: String::new(),
            copy: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_takes_nothing_is_given_up_and_the_sender_goes_on() {
        let (peers, mut dialled) = mpsc::unbounded_channel();
        let channels = Channels::new(std::sync::Arc::new(move |_| {
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            let kept = peers.send(theirs);
            Box::pin(async move {
                assert!(kept.is_ok());
                Ok(Box::new(ours) as Box<_>)
            })
        }));
        let mut sender = PipelineSender::open(&channels, write_to(vec![node(1)])).unwrap();
        sender.send(Bytes::from(vec![0; 256 << 10])).await;
        let stuck = dialled.recv().await;
        for _ in 0..100 {
            sender.send(Bytes::from(vec![0; 256 << 10])).await;
        }
        assert!(!sender.is_alive());
        let trailer = WriteTrailer {
            hash: richardstore_proto::ContentHash::EMPTY,
            blake3_root: richardstore_proto::Blake3Root::new([0; 32]),
            size: 0,
        };
        let result = sender.finish(trailer).await;
        assert_eq!(result.failed[0].code, ErrorCode::RequestTimeout);
        drop(stuck);
    }

    #[tokio::test]
    async fn i11_a_write_that_is_held_back_takes_no_memory_for_signs_of_life() {
        let channels = Channels::new(richardstore_runtime::tcp_dial());
        let mut sender = PipelineSender::open(&channels, write_to(vec![node(1)])).unwrap();
        for _ in 0..1000 {
            sender.send(Bytes::new()).await;
        }
        assert!(matches!(&sender.state, State::Held(held) if held.parts.len() == 1));
    }

    /// How long a sender waits for the answer of a chain of `nodes` that never comes.
    async fn waits_for_answer(nodes: u8, trailer: WriteTrailer) -> Duration {
        let (parts, _queue) = mpsc::channel(QUEUED_PARTS);
        let sender = PipelineSender {
            chain: (1..=nodes).map(node).collect(),
            channels: Channels::new(richardstore_runtime::tcp_dial()),
            state: State::Sending {
                parts,
                answer: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
            },
        };
        let begun = tokio::time::Instant::now();
        let result = sender.finish(trailer).await;
        assert_eq!(result.failed.len(), usize::from(nodes));
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_in_front_of_a_hung_one_gives_up_first() {
        let trailer = WriteTrailer {
            hash: richardstore_proto::ContentHash::EMPTY,
            blake3_root: richardstore_proto::Blake3Root::new([0; 32]),
            size: 1 << 30,
        };
        let mut behind = Duration::ZERO;
        for nodes in 1..12 {
            let waited = waits_for_answer(nodes, trailer).await;
            assert!(waited > behind + Duration::from_secs(10), "{nodes} nodes");
            behind = waited;
        }
    }

    #[test]
    fn a_chain_without_nodes_needs_no_sender() {
        let channels = Channels::new(richardstore_runtime::tcp_dial());
        assert!(PipelineSender::open(&channels, write_to(Vec::new())).is_none());
    }
}
