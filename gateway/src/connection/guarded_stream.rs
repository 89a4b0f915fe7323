//! [`GuardedStream`]: an accepted socket that counts its bytes, gives up on a peer that stops reading, and speaks JSON where
//! hyper answers by itself (a request that is no HTTP, headers beyond every limit).

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use richardstore_proto::ErrorCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::activity::Activity;
use crate::api_error::ApiError;
use crate::metrics::Metrics;

/// The socket.
#[derive(Debug)]
pub(crate) struct GuardedStream<S> {
    inner: S,
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
    stall_limit: Duration,
    stall: Pin<Box<Sleep>>,
    stalled: bool,
    /// Being sent in place of an answer of hyper's own.
    substitute: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardedStream<S> {
    /// Guards `inner`; a write that makes no progress for `stall_limit` fails.
    pub(crate) fn new(
        inner: S,
        activity: Arc<Activity>,
        metrics: Arc<Metrics>,
        stall_limit: Duration,
    ) -> Self {
        Self {
            inner,
            activity,
            metrics,
            stall_limit,
            stall: Box::pin(tokio::time::sleep(Duration::ZERO)),
            stalled: false,
            substitute: None,
        }
    }

    /// The socket itself.
    pub(crate) fn into_inner(self) -> S {
        self.inner
    }

    fn poll_guarded_write(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.substitute.is_none() && !self.activity.is_busy() {
            self.substitute = buffers.first().and_then(|head| json_instead_of(head));
        }
        while let Some(answer) = &mut self.substitute {
            if answer.is_empty() {
                self.substitute = None;
                // To hyper it looks as if its own words had been sent.
                return Poll::Ready(Ok(buffers.iter().map(|buffer| buffer.len()).sum()));
            }
            let answer = answer.clone();
            let written = ready!(self.poll_inner(cx, &[IoSlice::new(&answer)]))?;
            if let Some(answer) = &mut self.substitute {
                answer.advance(written);
            }
        }
        self.poll_inner(cx, buffers)
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write_vectored(cx, buffers) {
            Poll::Ready(result) => {
                self.stalled = false;
                if let Ok(written) = &result {
                    let written = u64::try_from(*written).unwrap_or(u64::MAX);
                    self.metrics
                        .sent_bytes
                        .fetch_add(written, Ordering::Relaxed);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                if !self.stalled {
                    self.stalled = true;
                    self.stall.as_mut().reset(Instant::now() + self.stall_limit);
                }
                ready!(self.stall.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

/// The JSON response in place of an error that hyper states without a body.
fn json_instead_of(head: &[u8]) -> Option<Bytes> {
    let status = head.strip_prefix(b"HTTP/1.1 4").and(head.get(9..12))?;
    let status = StatusCode::from_bytes(status).ok()?;
    let error = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiError::new(
            ErrorCode::HeadersTooLarge,
            "the request's headers are too large",
        ),
        StatusCode::URI_TOO_LONG => ApiError::invalid("the request's path is too long"),
        _ => ApiError::invalid("the request cannot be read as HTTP/1.1"),
    };
    let json = error.to_json();
    let length = json.len();
    Some(Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{json}"
    )))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = u64::try_from(buffer.filled().len() - before).unwrap_or(u64::MAX);
        self.metrics
            .received_bytes
            .fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_guarded_write(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_guarded_write(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        // Hyper flushes the socket only after everything it had was written to it.
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn guarded(stream: tokio::io::DuplexStream) -> GuardedStream<tokio::io::DuplexStream> {
        let limit = Duration::from_secs(5);
        GuardedStream::new(stream, Activity::new(), Arc::default(), limit)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let error = guarded(near).write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_served() {
        let (near, mut far) = tokio::io::duplex(16);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            let mut buffer = [0; 16];
            while let Ok(read @ 1..) = far.read(&mut buffer).await {
                all.extend_from_slice(&buffer[..read]);
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            all
        });
        guarded(near).write_all(&[7; 100]).await.unwrap();
        assert_eq!(reader.await.unwrap(), [7; 100]);
    }

    #[tokio::test]
    async fn an_answer_of_hypers_own_becomes_json() {
        let (near, mut far) = tokio::io::duplex(4096);
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        let mut stream = guarded(near);
        stream.write_all(own).await.unwrap();
        drop(stream);
        let mut sent = String::new();
        far.read_to_string(&mut sent).await.unwrap();
        assert!(
            sent.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            "{sent}"
        );
        assert!(sent.ends_with("\"code\":\"headers_too_large\"}"), "{sent}");
    }

    #[tokio::test]
    async fn an_answer_of_a_handler_stays_as_it_is() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut stream = guarded(near);
        let request = stream.activity.clone().begin();
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
            .await
            .unwrap();
        drop(request);
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
            .await
            .unwrap();
        drop(stream);
        let mut sent = String::new();
        far.read_to_string(&mut sent).await.unwrap();
        assert_eq!(sent, "HTTP/1.1 404 Not Found\r\n\r\n".repeat(2));
    }
}
