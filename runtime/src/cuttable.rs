//! [`Cuttable`]: a byte stream that can be cut from outside, so that a peer that reads nothing cannot hold up a shutdown, and
//! that is cut by itself where the peer does not say what it speaks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::connections::Place;

/// What HTTP/2 begins with, in bytes. From there on keep-alive watches the peer.
const PREFACE_BYTES: usize = 24;
/// How long that may take.
const PREFACE_LIMIT: Duration = Duration::from_secs(10);

/// A byte stream whose reads and writes fail once its place is cut, and whose first bytes have a deadline.
pub(crate) struct Cuttable<S> {
    stream: S,
    place: Place,
    preface: Option<Preface>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    in_one_piece: bool,
}

/// The first bytes, while they are awaited.
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Cuttable<S> {
    pub(crate) fn new(stream: S, place: Place) -> Self {
        Self {
            stream,
            preface: Some(Preface {
                missing: PREFACE_BYTES,
                deadline: Box::pin(tokio::time::sleep(PREFACE_LIMIT)),
            }),
            cut: Box::pin(place.cut().clone().cancelled_owned()),
            is_cut: false,
            in_one_piece: false,
            place,
        }
    }

    /// Has what is written come in one piece. h2 then copies data of up to 1 KiB behind their header, and what many calls answer
    /// leaves in one write; otherwise each of more than 256 bytes leaves by itself.
    pub(crate) fn in_one_piece(self) -> Self {
        Self {
            in_one_piece: true,
            ..self
        }
    }

    /// Registers the task to be woken by the cut, and fails after it.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.is_cut {
            self.is_cut = self.cut.as_mut().poll(context).is_ready();
        }
        if self.is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cuttable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let this = &mut *self;
        if let Some(preface) = &mut this.preface {
            let came = buffer.filled().len() - before;
            preface.missing = preface.missing.saturating_sub(came);
            if preface.missing == 0 {
                this.preface = None;
                this.place.greeted();
            } else if preface.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cuttable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        !self.in_one_piece && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

// No service here asks who is connected, and not every network could say.
impl<S> Connected for Cuttable<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use crate::connections::Connections;

    #[tokio::test(start_paused = true)]
    async fn i11_a_peer_that_does_not_say_what_it_speaks_is_cut() {
        use tokio::io::AsyncWriteExt;
        let all = CancellationToken::new();
        let connections = Connections::new(1);
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut stream = Cuttable::new(stream, connections.place(&all).await);
        peer.write_all(b"PRI * HTTP").await.unwrap();
        let read = async { while stream.read_u8().await.is_ok() {} };
        tokio::time::timeout(PREFACE_LIMIT * 2, read).await.unwrap();
        drop(stream);

        let (mut peer, stream) = tokio::io::duplex(64);
        let mut stream = Cuttable::new(stream, connections.place(&all).await);
        peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let silent = tokio::time::timeout(PREFACE_LIMIT * 2, stream.read_u8()).await;
        assert!(silent.is_err(), "from here on keep-alive decides");
    }

    #[tokio::test]
    async fn a_stream_in_one_piece_offers_no_writes_of_several() {
        let all = CancellationToken::new();
        let connections = Connections::new(2);
        for in_one_piece in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
            let stream = Cuttable::new(stream.unwrap(), connections.place(&all).await);
            let stream = match in_one_piece {
                true => stream.in_one_piece(),
                false => stream,
            };
            assert_eq!(stream.is_write_vectored(), !in_one_piece);
        }
    }

    #[tokio::test]
    async fn a_cut_ends_a_read_that_nobody_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpStream::connect(listener.local_addr().unwrap());
        let (silent, accepted) = tokio::join!(silent, listener.accept());
        let cut = CancellationToken::new();
        let place = Connections::new(1).place(&cut).await;
        let mut stream = Cuttable::new(accepted.unwrap().0, place);
        let reading = tokio::spawn(async move { stream.read_u8().await });
        cut.cancel();
        let ended = reading.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(silent);
    }
}
