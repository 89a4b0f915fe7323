//! [`ObservedBody`]: a response body that tells what became of it: how long it took and whether it was delivered whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

/// Told once, when the body is dropped: `true` when every byte was handed out.
pub(crate) type BodyEnd = Box<dyn FnOnce(bool) + Send>;

/// The body.
pub(crate) struct ObservedBody {
    inner: Body,
    whole: bool,
    end: Option<BodyEnd>,
}

impl ObservedBody {
    /// Observes `inner`.
    pub(crate) fn new(inner: Body, end: BodyEnd) -> Self {
        Self {
            whole: false,
            inner,
            end: Some(end),
        }
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if frame.is_none() {
            self.whole = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        // Hyper does not poll again for the end of a body whose last byte it has.
        let whole = self.whole || self.inner.is_end_stream();
        if let Some(end) = self.end.take() {
            end(whole);
        }
    }
}
