//! [`Wire`]: everything that hosts say to each other, frame by frame, with its time. Two runs of a seed that agree in this
//! agree in all that a role could have done differently.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every client of HTTP/2 says first.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;

/// The lines of one run, if it keeps them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Wire(Option<Arc<Mutex<Vec<String>>>>);

impl Wire {
    /// One that keeps its lines.
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// Takes all lines.
    pub fn take(&self) -> Vec<String> {
        let lines = self.0.as_ref().map(|lines| {
            std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner))
        });
        lines.unwrap_or_default()
    }

    /// `stream` of `host` to `peer`, overheard.
    pub fn tap<S>(&self, host: &str, peer: &str, stream: S) -> Tapped<S> {
        let direction = |name: String, opening| Direction {
            wire: self.clone(),
            name,
            skip: opening,
            pending: Vec::new(),
        };
        Tapped {
            stream,
            said: direction(format!("{host} to {peer}"), PREFACE_BYTES),
            heard: direction(format!("{peer} to {host}"), 0),
        }
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(format!("{at} {}", line()));
        }
    }
}

/// A byte stream whose frames are noted.
pub struct Tapped<S> {
    stream: S,
    said: Direction,
    heard: Direction,
}

struct Direction {
    wire: Wire,
    name: String,
    skip: usize,
    pending: Vec<u8>,
}

impl Direction {
    fn pass(&mut self, mut bytes: &[u8]) {
        if self.wire.0.is_none() {
            return;
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        self.pending.extend_from_slice(bytes);
        while let Some(length) = frame_length(&self.pending) {
            let rest = self.pending.split_off(length);
            let frame = std::mem::replace(&mut self.pending, rest);
            self.wire
                .note(|| format!("{}: {}", self.name, describe(&frame)));
        }
    }
}

/// How long the first frame in `bytes` is, if all of it is there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..FRAME_HEADER_BYTES)?;
    let payload =
        usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
    let length = FRAME_HEADER_BYTES + payload;
    (bytes.len() >= length).then_some(length)
}

fn describe(frame: &[u8]) -> String {
    let (header, payload) = frame.split_at(FRAME_HEADER_BYTES);
    let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
    let kind = header[3];
    let digest = blake3::hash(payload).to_hex();
    let length = payload.len();
    format!("frame {kind} of stream {stream}, {length} bytes {digest:.8}")
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.heard.pass(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.said.pass(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
