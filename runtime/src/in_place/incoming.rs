//! [`requests`] and [`answers`]: the messages of a body, each decoded from the bytes as they came.
//!
//! tonic's [`Streaming`] is what the code of services is written for, and it knows how a stream ends; but it puts all bytes
//! into one buffer first. So it is given a body in which each message is replaced by an empty one, and a decoder that takes
//! the real one from beside it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::StatusCode;
use http_body::{Body, Frame};
use richardstore_proto::wire::MAX_MESSAGE_BYTES;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic::{Status, Streaming};

use super::segments::Segments;
use super::{HEADER_BYTES, Side};

/// The header of an empty message.
const STAND_IN: &[u8] = &[0; HEADER_BYTES];
/// All that [`Streaming`] has to keep are stand-ins.
const BUFFER_BYTES: usize = 64;

/// The messages of a request.
pub(super) fn requests<T>(body: tonic::body::Body) -> Streaming<T>
where
    T: prost::Message + Default + 'static,
{
    let (body, decoder) = unframed(body, Side::Client);
    Streaming::new_request(decoder, body, None, None)
}

/// The messages of an answer that began with `status`.
pub(super) fn answers<T>(body: tonic::body::Body, status: StatusCode) -> Streaming<T>
where
    T: prost::Message + Default + 'static,
{
    let (body, decoder) = unframed(body, Side::Server);
    Streaming::new_response(decoder, body, status, None, None)
}

/// An answer that has no messages.
pub(super) fn no_answers<T>(body: tonic::body::Body) -> Streaming<T>
where
    T: prost::Message + Default + 'static,
{
    let (body, decoder) = unframed(body, Side::Server);
    Streaming::new_empty(decoder, body)
}

/// Messages that were decoded and whose stand-in is on its way: one at a time, as [`Streaming`] reads.
type Beside<T> = Arc<Mutex<VecDeque<T>>>;

fn unframed<T>(body: tonic::body::Body, sender: Side) -> (Unframed<T>, TakeBeside<T>) {
    let beside = Beside::default();
    let unframed = Unframed {
        body,
        sender,
        segments: Segments::default(),
        wanted: None,
        beside: beside.clone(),
    };
    (unframed, TakeBeside(beside))
}

struct Unframed<T> {
    body: tonic::body::Body,
    sender: Side,
    segments: Segments,
    /// Length of the message whose header was read.
    wanted: Option<usize>,
    beside: Beside<T>,
}

impl<T: prost::Message + Default> Unframed<T> {
    /// The next message, if it is here as a whole.
    fn decode(&mut self) -> Result<Option<T>, Status> {
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            None if self.segments.remaining() < HEADER_BYTES => return Ok(None),
            None => {
                let wanted = header(&mut self.segments)?;
                *self.wanted.insert(wanted)
            }
        };
        if self.segments.remaining() < wanted {
            return Ok(None);
        }
        self.wanted = None;
        T::decode((&mut self.segments).take(wanted))
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn is_within_a_message(&self) -> bool {
        self.wanted.is_some() || self.segments.has_remaining()
    }

    /// Whether `trailers` tell why the stream stopped within a message. That all went well does not. [`Status`] is not asked:
    /// it panics over details that are no base64.
    fn says_why(&self, trailers: &Frame<Bytes>) -> bool {
        let code = trailers
            .trailers_ref()
            .and_then(|all| all.get(Status::GRPC_STATUS));
        self.sender == Side::Server && code.is_some_and(|code| code != "0")
    }
}

fn header(segments: &mut Segments) -> Result<usize, Status> {
    if segments.get_u8() != 0 {
        return Err(Status::unimplemented("messages are not compressed here"));
    }
    let length = segments.get_u32();
    match usize::try_from(length) {
        Ok(length) if length <= MAX_MESSAGE_BYTES => Ok(length),
        _ => Err(Status::out_of_range(format!(
            "a message of {length} bytes, where {MAX_MESSAGE_BYTES} are the limit"
        ))),
    }
}

impl<T: prost::Message + Default> Body for Unframed<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            match this.decode() {
                Ok(Some(message)) => {
                    let mut beside = this.beside.lock().unwrap_or_else(PoisonError::into_inner);
                    beside.push_back(message);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(STAND_IN)))));
                }
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None if this.is_within_a_message() => return Poll::Ready(Some(Err(broken_off()))),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(piece) => this.segments.push(piece),
                Err(trailers) if this.is_within_a_message() && !this.says_why(&trailers) => {
                    return Poll::Ready(Some(Err(broken_off())));
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }
}

fn broken_off() -> Status {
    Status::internal("the stream ended within a message")
}

/// Takes the message that a stand-in stands for.
struct TakeBeside<T>(Beside<T>);

impl<T: Send + 'static> Decoder for TakeBeside<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, _stand_in: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let mut beside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(beside.pop_front())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use richardstore_proto::wire::WriteFileRequestPart;
    use richardstore_proto::wire::write_file_request_part::Part;
    use tonic::Code;

    use crate::in_place::outgoing::MessageBody;

    type Piece = Result<Frame<Bytes>, Status>;

    fn body(pieces: Vec<Piece>) -> tonic::body::Body {
        tonic::body::Body::new(StreamBody::new(stream::iter(pieces)))
    }

    fn data(bytes: impl Into<Bytes>) -> Piece {
        Ok(Frame::data(bytes.into()))
    }

    fn trailers(status: &Status) -> Piece {
        let mut trailers = http::HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Ok(Frame::trailers(trailers))
    }

    fn messages() -> Vec<WriteFileRequestPart> {
        let header = Part::Header(richardstore_proto::wire::WriteHeader {
            request_id: "a request".to_owned(),
            ..Default::default()
        });
        let chunk = |length: usize| {
            let bytes: Vec<u8> = (0..length).map(|index| index.to_le_bytes()[0]).collect();
            Part::Chunk(bytes.into())
        };
        [header, chunk(20_000), chunk(0), chunk(300), chunk(40_000)]
            .map(|part| WriteFileRequestPart { part: Some(part) })
            .into()
    }

    async fn framed(messages: Vec<WriteFileRequestPart>) -> Bytes {
        let sent = stream::iter(messages.into_iter().map(Ok));
        let sent = MessageBody::new(sent, Side::Client).collect().await;
        sent.unwrap().to_bytes()
    }

    async fn all(mut stream: Streaming<WriteFileRequestPart>) -> Vec<WriteFileRequestPart> {
        let mut all = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            all.push(message);
        }
        all
    }

    /// How a stream of these pieces ends.
    async fn end(pieces: Vec<Piece>) -> Status {
        let mut stream: Streaming<WriteFileRequestPart> = answers(body(pieces), StatusCode::OK);
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    #[tokio::test]
    async fn messages_arrive_wherever_the_network_cuts_them() {
        let bytes = framed(messages()).await;
        for length in [1, 2, 4, 5, 6, 999, 16_384, bytes.len()] {
            let pieces = bytes.chunks(length).map(Bytes::copy_from_slice).map(data);
            let came = all(requests(body(pieces.collect()))).await;
            assert!(came == messages(), "in pieces of {length}");
        }
    }

    #[tokio::test]
    async fn a_chunk_is_a_part_of_the_frame_that_it_came_in() {
        let bytes = framed(messages()).await;
        let inside = bytes.as_ptr_range();
        for message in all(requests(body(vec![data(bytes.clone())]))).await {
            if let Some(Part::Chunk(chunk)) = message.part
                && !chunk.is_empty()
            {
                assert!(inside.contains(&chunk.as_ptr()));
            }
        }
    }

    #[tokio::test]
    async fn i05_a_stream_that_ends_within_a_message_is_not_whole() {
        let bytes = framed(messages()).await;
        let well = Status::ok("");
        assert_eq!(
            end(vec![data(bytes.clone()), trailers(&well)]).await.code(),
            Code::Ok
        );
        for length in [1, 5, 6, bytes.len() - 1] {
            let part = || data(bytes.slice(..length));
            assert_eq!(
                end(vec![part(), trailers(&well)]).await.code(),
                Code::Internal
            );
            assert_eq!(end(vec![part()]).await.code(), Code::Internal);
            let reason = Status::data_loss("bad");
            assert_eq!(
                end(vec![part(), trailers(&reason)]).await.code(),
                Code::DataLoss
            );
        }
        assert_ne!(
            end(vec![data(bytes)]).await.code(),
            Code::Ok,
            "without trailers"
        );
    }

    #[tokio::test]
    async fn trailers_of_a_request_excuse_nothing_and_panic_nowhere() {
        let bytes = framed(messages()).await;
        let mut odd = http::HeaderMap::new();
        odd.insert("grpc-status", http::HeaderValue::from_static("13"));
        odd.insert(
            "grpc-status-details-bin",
            http::HeaderValue::from_static("!"),
        );
        let pieces = vec![data(bytes.slice(..9)), Ok(Frame::trailers(odd))];
        let mut stream: Streaming<WriteFileRequestPart> = requests(body(pieces));
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }

    #[tokio::test]
    async fn i11_what_claims_to_be_too_long_is_refused_by_its_header() {
        let too_long = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
        let header = [&[0], &too_long[..]].concat();
        assert_eq!(end(vec![data(header)]).await.code(), Code::OutOfRange);
        let compressed = vec![1, 0, 0, 0, 0];
        assert_eq!(
            end(vec![data(compressed)]).await.code(),
            Code::Unimplemented
        );
        let nonsense = vec![0, 0, 0, 0, 1, 0xff];
        assert_eq!(end(vec![data(nonsense)]).await.code(), Code::Internal);
    }
}
