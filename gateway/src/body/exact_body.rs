//! [`ExactBody`]: a response of a length that was promised. It breaks off with an error, and with it the connection,
//! rather than end as if it were whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use richardstore_client::ClientError;

/// What the stream did instead of delivering what was promised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    /// It failed.
    #[error(transparent)]
    Failed(#[from] ClientError),
    /// It ended early.
    #[error("{0} bytes are missing at the end")]
    Short(u64),
    /// It went on.
    #[error("more bytes came than the file has")]
    Long,
}

/// A first chunk that was awaited, and the rest of the stream.
///
/// The last chunk leaves only after the stream has ended well: a check that the sender makes at the very end can then
/// still break the response off.
#[derive(Debug)]
pub(crate) struct ExactBody<S> {
    first: Option<Bytes>,
    rest: S,
    last: Option<Bytes>,
    /// Promised and not handed out yet.
    left: u64,
}

impl<S> ExactBody<S> {
    /// A body of `length` bytes, beginning with `first`.
    pub(crate) fn new(first: Option<Bytes>, rest: S, length: u64) -> Self {
        Self {
            first,
            rest,
            last: None,
            left: length,
        }
    }

    /// What to hand out now that `bytes` came; `None`: they are the last ones and wait for the end.
    fn accept(&mut self, bytes: Bytes) -> Result<Option<Bytes>, BrokenBody> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.last.is_some() || length > self.left {
            return Err(BrokenBody::Long);
        }
        if length == self.left {
            self.last = Some(bytes);
            return Ok(None);
        }
        self.left -= length;
        Ok(Some(bytes))
    }

    fn end(&mut self) -> Option<Result<Bytes, BrokenBody>> {
        match self.last.take() {
            Some(last) => {
                self.left = 0;
                Some(Ok(last))
            }
            None if self.left > 0 => Some(Err(BrokenBody::Short(self.left))),
            None => None,
        }
    }
}

impl<S> Body for ExactBody<S>
where
    S: Stream<Item = Result<Bytes, ClientError>> + Unpin,
{
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        loop {
            let next = match this.first.take() {
                Some(first) => Some(Ok(first)),
                None => ready!(Pin::new(&mut this.rest).poll_next(cx)),
            };
            let out = match next {
                Some(Ok(bytes)) => match this.accept(bytes) {
                    Ok(None) => continue,
                    Ok(Some(bytes)) => Some(Ok(bytes)),
                    Err(error) => Some(Err(error)),
                },
                Some(Err(error)) => Some(Err(error.into())),
                None => this.end(),
            };
            return Poll::Ready(out.map(|result| result.map(Frame::data)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;

    async fn collect(
        chunks: Vec<Result<Bytes, ClientError>>,
        length: u64,
    ) -> Result<Bytes, BrokenBody> {
        let body = ExactBody::new(
            Some(Bytes::from_static(b"12")),
            stream::iter(chunks),
            length,
        );
        body.collect().await.map(|collected| collected.to_bytes())
    }

    #[tokio::test]
    async fn the_promised_length_is_delivered() {
        let whole = collect(vec![Ok(Bytes::from_static(b"345"))], 5).await;
        assert_eq!(whole.unwrap(), "12345");
    }

    #[tokio::test]
    async fn i05_a_short_a_long_and_a_failing_stream_are_errors() {
        assert!(matches!(
            collect(vec![], 5).await,
            Err(BrokenBody::Short(3))
        ));
        let long = collect(vec![Ok(Bytes::from_static(b"3456"))], 5).await;
        assert!(matches!(long, Err(BrokenBody::Long)));
        let failing = collect(vec![Err(ClientError::Internal("x".into()))], 5).await;
        assert!(matches!(failing, Err(BrokenBody::Failed(_))));
    }

    #[tokio::test]
    async fn i05_a_check_that_fails_after_the_last_byte_still_breaks_the_response() {
        let chunks = vec![
            Ok(Bytes::from_static(b"345")),
            Err(ClientError::Internal("wrong hash".into())),
        ];
        assert!(matches!(
            collect(chunks, 5).await,
            Err(BrokenBody::Failed(_))
        ));
    }
}
