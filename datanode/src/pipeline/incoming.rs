//! [`IncomingWrite`]: the messages of one write in their only valid order, each within a deadline.
//!
//! A stream that ends without a trailer is an error like one that breaks: only a trailer makes a write whole (I2).

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use richardstore_proto::wire::{self, write_file_request_part::Part};
use richardstore_proto::{ErrorCode, StoreError, WriteTrailer};
use tonic::Status;

use super::header::WriteHeader;

/// A sender that sends nothing for this long is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// What follows a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes of the file.
    Chunk(Bytes),
    /// The end.
    Trailer(WriteTrailer),
}

/// One write as it arrives.
pub(crate) struct IncomingWrite<S> {
    parts: S,
}

impl<S> IncomingWrite<S>
where
    S: Stream<Item = Result<wire::WriteFileRequestPart, Status>> + Unpin,
{
    /// A write whose messages come from `parts`.
    pub(crate) fn new(parts: S) -> Self {
        Self { parts }
    }

    /// The header, which has to come first.
    pub(crate) async fn header(&mut self) -> Result<WriteHeader, StoreError> {
        match self.part().await? {
            Part::Header(header) => Ok(header.try_into()?),
            Part::Chunk(_) | Part::Trailer(_) => Err(out_of_order("a write begins with a header")),
        }
    }

    /// The next chunk, or the trailer.
    pub(crate) async fn step(&mut self) -> Result<Step, StoreError> {
        match self.part().await? {
            Part::Chunk(chunk) => Ok(Step::Chunk(chunk)),
            Part::Trailer(trailer) => Ok(Step::Trailer(trailer.try_into()?)),
            Part::Header(_) => Err(out_of_order("a write has one header")),
        }
    }

    async fn part(&mut self) -> Result<Part, StoreError> {
        let part = tokio::time::timeout(IDLE_LIMIT, self.parts.next())
            .await
            .map_err(|_| {
                StoreError::new(
                    ErrorCode::RequestTimeout,
                    format!(
                        "nothing of the write arrived for {} s",
                        IDLE_LIMIT.as_secs()
                    ),
                )
            })?;
        match part {
            Some(Ok(part)) => part
                .part
                .ok_or_else(|| out_of_order("a message of the write is empty")),
            Some(Err(status)) => Err(status.into()),
            None => Err(StoreError::new(
                ErrorCode::Unavailable,
                "the write ended without its trailer",
            )),
        }
    }
}

fn out_of_order(what: &str) -> StoreError {
    StoreError::new(ErrorCode::InvalidArgument, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use richardstore_proto::{Blake3Root, ContentHash};

    fn incoming(
        parts: Vec<Part>,
    ) -> IncomingWrite<impl Stream<Item = Result<wire::WriteFileRequestPart, Status>> + Unpin> {
        IncomingWrite::new(stream::iter(
            parts
                .into_iter()
                .map(|part| Ok(wire::WriteFileRequestPart { part: Some(part) })),
        ))
    }

    fn trailer() -> WriteTrailer {
        WriteTrailer {
            hash: ContentHash::EMPTY,
            blake3_root: Blake3Root::new([0; 32]),
            size: 0,
        }
    }

    #[tokio::test]
    async fn i02_an_end_without_a_trailer_is_an_error() {
        let mut write = incoming(vec![Part::Chunk(Bytes::from_static(b"x"))]);
        assert_eq!(
            write.step().await.unwrap(),
            Step::Chunk(Bytes::from_static(b"x"))
        );
        let error = write.step().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
    }

    #[tokio::test]
    async fn messages_out_of_order_are_refused() {
        let mut write = incoming(vec![
            Part::Trailer(trailer().into()),
            Part::Header(wire::WriteHeader::default()),
        ]);
        let error = write.header().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let error = write.step().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_falls_silent_is_given_up() {
        let mut write = IncomingWrite::new(stream::pending());
        let error = write.step().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RequestTimeout);
    }
}
