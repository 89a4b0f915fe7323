//! [`MessageBody`]: a stream of messages as the body of a request or of an answer. The bytes of a chunk are sent as they are; all
//! else is small and gathered.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use richardstore_proto::wire::{self, read_file_response_part, write_file_request_part};
use tonic::Status;

use super::{HEADER_BYTES, Side};

/// Chunks from this length on are frames of their own. Copying a shorter one is cheaper than a frame.
const APART_BYTES: usize = 16 << 10;
/// So much is gathered before it is sent, and one message more.
const GATHERED_BYTES: usize = 32 << 10;

/// A message of a stream, which may be a chunk of a file and nothing else.
pub(super) trait Part: prost::Message {
    /// The number of the field that a chunk is in.
    const CHUNK_FIELD: u32;

    /// The chunk, if it is one.
    fn chunk(&self) -> Option<&Bytes>;
}

impl Part for wire::WriteFileRequestPart {
    const CHUNK_FIELD: u32 = 2;

    fn chunk(&self) -> Option<&Bytes> {
        match &self.part {
            Some(write_file_request_part::Part::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

impl Part for wire::ReadFileResponsePart {
    const CHUNK_FIELD: u32 = 2;

    fn chunk(&self) -> Option<&Bytes> {
        match &self.part {
            Some(read_file_response_part::Part::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

/// The one message of a call without a stream.
impl Part for wire::WriteFileResult {
    const CHUNK_FIELD: u32 = 0;

    fn chunk(&self) -> Option<&Bytes> {
        None
    }
}

/// The same.
impl Part for wire::ReadReplicaRequest {
    const CHUNK_FIELD: u32 = 0;

    fn chunk(&self) -> Option<&Bytes> {
        None
    }
}

/// A body over a stream of messages.
pub(super) struct MessageBody<S> {
    // `None` once it has ended.
    messages: Option<S>,
    side: Side,
    gathered: BytesMut,
    chunk: Option<Bytes>,
    end: Option<Status>,
}

impl<S, T> MessageBody<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: Part,
{
    pub(super) fn new(messages: S, side: Side) -> Self {
        Self {
            messages: Some(messages),
            side,
            gathered: BytesMut::new(),
            chunk: None,
            end: None,
        }
    }

    /// Takes messages until there is something to send. `Ready` with nothing gathered: the stream has ended.
    fn gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(messages) = &mut self.messages {
            match Pin::new(messages).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Err(status) = self.put(&message) {
                        self.end_with(status);
                    }
                    if self.chunk.is_some() || self.gathered.len() >= GATHERED_BYTES {
                        break;
                    }
                }
                Poll::Ready(Some(Err(status))) => self.end_with(status),
                Poll::Ready(None) => self.end_with(Status::ok("")),
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }

    fn put(&mut self, message: &T) -> Result<(), Status> {
        match message.chunk() {
            Some(chunk) if chunk.len() >= APART_BYTES => {
                let length = chunk.len() as u64;
                let around = key_len(T::CHUNK_FIELD) + encoded_len_varint(length);
                self.put_header(around + chunk.len())?;
                encode_key(
                    T::CHUNK_FIELD,
                    WireType::LengthDelimited,
                    &mut self.gathered,
                );
                encode_varint(length, &mut self.gathered);
                self.chunk = Some(chunk.clone());
                Ok(())
            }
            _ => {
                self.put_header(message.encoded_len())?;
                message
                    .encode(&mut self.gathered)
                    .map_err(|error| Status::internal(error.to_string()))
            }
        }
    }

    fn put_header(&mut self, length: usize) -> Result<(), Status> {
        let length = u32::try_from(length)
            .map_err(|_| Status::out_of_range(format!("a message of {length} bytes")))?;
        self.gathered.reserve(HEADER_BYTES);
        self.gathered.put_u8(0);
        self.gathered.put_u32(length);
        Ok(())
    }

    fn end_with(&mut self, status: Status) {
        self.messages = None;
        self.end = Some(status);
    }

    fn last_frame(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let status = self.end.take()?;
        match self.side {
            Side::Server => {
                let mut trailers = HeaderMap::new();
                let added = status.add_header(&mut trailers);
                Some(added.map(|()| Frame::trailers(trailers)))
            }
            Side::Client if status.code() == tonic::Code::Ok => None,
            Side::Client => Some(Err(status)),
        }
    }
}

impl<S, T> Body for MessageBody<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: Part,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(chunk) = this.chunk.take() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if this.gather(context).is_pending() {
            return Poll::Pending;
        }
        if this.gathered.is_empty() {
            return Poll::Ready(this.last_frame());
        }
        let gathered = this.gathered.split().freeze();
        Poll::Ready(Some(Ok(Frame::data(gathered))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use richardstore_proto::wire::ReadFileResponsePart;
    use richardstore_proto::wire::read_file_response_part::Part as ReadPart;

    fn chunk(length: usize) -> ReadFileResponsePart {
        let part = Some(ReadPart::Chunk(vec![7; length].into()));
        ReadFileResponsePart { part }
    }

    async fn frames(
        messages: Vec<Result<ReadFileResponsePart, Status>>,
        side: Side,
    ) -> Vec<Result<Frame<Bytes>, Status>> {
        let mut body = MessageBody::new(stream::iter(messages), side);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            let failed = frame.is_err();
            frames.push(frame);
            if failed {
                break;
            }
        }
        frames
    }

    fn data(frame: &Result<Frame<Bytes>, Status>) -> &Bytes {
        frame.as_ref().unwrap().data_ref().unwrap()
    }

    #[tokio::test]
    async fn a_long_chunk_is_sent_from_where_it_is_and_short_ones_together() {
        let long = chunk(APART_BYTES);
        let messages = vec![
            Ok(chunk(10)),
            Ok(long.clone()),
            Ok(chunk(10)),
            Ok(chunk(10)),
        ];
        let frames = frames(messages, Side::Client).await;
        assert_eq!(frames.len(), 3);
        let sent = data(&frames[1]);
        assert_eq!(sent.as_ptr(), long.chunk().unwrap().as_ptr());
        // Together with the header of the long one, and two of them together.
        assert!(data(&frames[0]).len() < 30 && data(&frames[2]).len() < 50);
    }

    #[tokio::test]
    async fn the_bytes_are_those_of_the_usual_encoding() {
        for length in [
            0,
            1,
            127,
            128,
            APART_BYTES - 1,
            APART_BYTES,
            3 * APART_BYTES,
        ] {
            let message = chunk(length);
            let encoded = prost::Message::encode_to_vec(&message);
            let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
            let expected = [&[0], &length[..], &encoded].concat();
            let frames = frames(vec![Ok(message)], Side::Client).await;
            let sent: Vec<u8> = frames.iter().flat_map(data).copied().collect();
            assert!(sent == expected);
        }
    }

    #[tokio::test]
    async fn a_server_says_at_the_end_how_it_went_and_a_client_breaks_off() {
        let failing = || vec![Ok(chunk(1)), Err(Status::data_loss("bad"))];
        let served = frames(failing(), Side::Server).await;
        assert_eq!(served.len(), 2);
        let trailers = served[1].as_ref().unwrap().trailers_ref().unwrap();
        let said = Status::from_header_map(trailers).unwrap();
        assert_eq!(
            (said.code(), said.message()),
            (tonic::Code::DataLoss, "bad")
        );

        let sent = frames(failing(), Side::Client).await;
        assert_eq!(sent[1].as_ref().unwrap_err().code(), tonic::Code::DataLoss);

        let well = frames(vec![Ok(chunk(1))], Side::Server).await;
        let trailers = well[1].as_ref().unwrap().trailers_ref().unwrap();
        assert_eq!(
            Status::from_header_map(trailers).unwrap().code(),
            tonic::Code::Ok
        );
    }
}
