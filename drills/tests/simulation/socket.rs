//! [`Socket`]: a connection of a simulated host, which goes when its host is killed or loses an answer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use crate::host::{Host, Line};

/// One end of a connection.
pub struct Socket {
    line: Line,
    /// On the side that asks.
    asks: Option<Arc<Host>>,
}

impl Socket {
    /// The end of who accepted `stream`.
    pub fn accepted(stream: TcpStream, host: &Host) -> Self {
        Self {
            line: host.line(stream),
            asks: None,
        }
    }

    /// The end of who opened `stream`.
    pub fn opened(stream: TcpStream, host: Arc<Host>) -> Self {
        Self {
            line: host.line(stream),
            asks: Some(host),
        }
    }

    fn on<T>(
        &self,
        act: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.as_mut() {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.on(|stream| stream.poll_read(context, buffer)))?;
        let lost = buffer.filled().len() > before
            && self
                .asks
                .as_ref()
                .is_some_and(|host| host.loses_this_answer());
        if lost {
            buffer.set_filled(before);
            drop(
                self.line
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.on(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.on(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.on(|stream| stream.poll_shutdown(context))
    }
}
