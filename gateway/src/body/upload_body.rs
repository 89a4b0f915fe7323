//! [`UploadBody`]: the bytes of a request as they arrive. It ends with an error, never with `None`, when the sender went
//! away, is too slow, or sends more than the limit; so nothing cut is ever taken for whole (I2).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as _;
use richardstore_client::SourceError;
use richardstore_proto::ErrorCode;
use sync_wrapper::SyncWrapper;
use tokio::time::{Instant, Sleep};

use super::pace::{Pace, PaceLimits};

/// The stream.
#[derive(Debug)]
pub(crate) struct UploadBody {
    /// Only ever touched by whoever polls this stream; the wrapper says so to the compiler.
    data: SyncWrapper<BodyDataStream>,
    limit: u64,
    received: u64,
    announced: Option<u64>,
    pace: Pace,
    /// Set while the sender is waited for: since when.
    waiting_since: Option<Instant>,
    patience: Pin<Box<Sleep>>,
    over: bool,
}

impl UploadBody {
    /// Takes the body of a request.
    ///
    /// # Errors
    /// [`ErrorCode::PayloadTooLarge`] where the announced length is over `limit` bytes already: not one byte is read then.
    pub(crate) fn new(body: Body, limit: u64, pace: PaceLimits) -> Result<Self, SourceError> {
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        Ok(Self {
            data: SyncWrapper::new(body.into_data_stream()),
            limit,
            received: 0,
            announced,
            pace: Pace::new(pace),
            waiting_since: None,
            patience: Box::pin(tokio::time::sleep(Duration::ZERO)),
            over: false,
        })
    }

    /// Bytes that will come, where the request said so.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    fn accept(&mut self, bytes: &Bytes) -> Result<(), SourceError> {
        let waited = self
            .waiting_since
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(length);
        if self.received > self.limit {
            return Err(too_large(self.limit));
        }
        self.pace.received(length, waited).map_err(|_| too_slow())
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<SourceError> {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let deadline = now + self.pace.patience();
            self.patience.as_mut().reset(deadline);
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(too_slow())
    }
}

impl Stream for UploadBody {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let item = match Pin::new(this.data.get_mut()).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => this.accept(&bytes).map(|()| Some(bytes)),
            Poll::Ready(Some(Err(error))) => Err(SourceError::new(
                ErrorCode::InvalidArgument,
                format!("the body ended before it was complete: {error}"),
            )),
            Poll::Ready(None) => Ok(None),
            Poll::Pending => Err(ready!(this.poll_patience(cx))),
        };
        this.over = !matches!(item, Ok(Some(_)));
        Poll::Ready(item.transpose())
    }
}

fn too_large(limit: u64) -> SourceError {
    SourceError::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is larger than {limit} bytes, the limit of this gateway"),
    )
}

fn too_slow() -> SourceError {
    SourceError::new(
        ErrorCode::RequestTimeout,
        "the body came too slowly, or stopped coming",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};

    const PACE: PaceLimits = PaceLimits {
        progress: Duration::from_secs(5),
        window: Duration::from_secs(10),
        min_bytes_per_second: 100,
    };

    fn body(chunks: Vec<Result<&'static [u8], std::io::Error>>) -> Body {
        Body::from_stream(stream::iter(chunks))
    }

    async fn codes(mut upload: UploadBody) -> (usize, Option<ErrorCode>) {
        let mut bytes = 0;
        while let Some(item) = upload.next().await {
            match item {
                Ok(chunk) => bytes += chunk.len(),
                Err(error) => {
                    assert!(upload.next().await.is_none());
                    return (bytes, Some(error.code));
                }
            }
        }
        (bytes, None)
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_passes() {
        let upload = UploadBody::new(body(vec![Ok(b"1234"), Ok(b"5678")]), 8, PACE).unwrap();
        assert_eq!(codes(upload).await, (8, None));
    }

    #[tokio::test]
    async fn one_byte_more_is_too_large() {
        let upload = UploadBody::new(body(vec![Ok(b"1234"), Ok(b"56789")]), 8, PACE).unwrap();
        assert_eq!(codes(upload).await, (4, Some(ErrorCode::PayloadTooLarge)));
        let announced = UploadBody::new(Body::from("123456789"), 8, PACE);
        assert_eq!(announced.unwrap_err().code, ErrorCode::PayloadTooLarge);
    }

    #[tokio::test]
    async fn i02_a_body_that_breaks_off_is_an_error_and_no_end() {
        let upload = UploadBody::new(
            body(vec![
                Ok(b"1234"),
                Err(std::io::ErrorKind::ConnectionReset.into()),
            ]),
            8,
            PACE,
        );
        let end = codes(upload.unwrap()).await;
        assert_eq!(end, (4, Some(ErrorCode::InvalidArgument)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_too_slow() {
        let silent = stream::iter([Ok::<_, std::io::Error>("1234")]).chain(stream::pending());
        let upload = UploadBody::new(Body::from_stream(silent), 8, PACE).unwrap();
        assert_eq!(codes(upload).await, (4, Some(ErrorCode::RequestTimeout)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_too_slow_and_a_slow_transfer_that_moves_is_not() {
        for (size, expected) in [(1, Some(ErrorCode::RequestTimeout)), (400, None)] {
            let drops = stream::iter(0..20).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok::<_, std::io::Error>(vec![0u8; size])
            });
            let upload = UploadBody::new(Body::from_stream(drops), 1 << 20, PACE).unwrap();
            assert_eq!(codes(upload).await.1, expected, "{size} bytes each time");
        }
    }
}
