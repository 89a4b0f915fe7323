//! [`Channel`]: a gRPC connection to one peer, whose requests end in the same frame as their last message.
//!
//! tonic tells that a request has ended only when it is asked for more, and the end then goes out in a frame of its own: a second
//! packet, for which the peer wakes up a second time, and before which no handler of a unary call begins.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::transport;
use tower::Service;

/// A connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Channel(transport::Channel);

impl Channel {
    /// The connection as tonic leaves it, to measure what that does by itself.
    pub fn bare(self) -> transport::Channel {
        self.0
    }
}

impl From<transport::Channel> for Channel {
    fn from(channel: transport::Channel) -> Self {
        Self(channel)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = <transport::Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0
            .call(request.map(|body| Body::new(LookingAhead::from(body))))
    }
}

/// A body that knows with its last frame that it is the last.
struct LookingAhead {
    body: Body,
    next: Option<Result<Frame<Bytes>, Status>>,
    ended: bool,
}

impl From<Body> for LookingAhead {
    fn from(body: Body) -> Self {
        Self {
            body,
            next: None,
            ended: false,
        }
    }
}

impl http_body::Body for LookingAhead {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let frame = match this.next.take() {
            Some(frame) => Some(frame),
            None => ready!(Pin::new(&mut this.body).poll_frame(context)),
        };
        match &frame {
            Some(Ok(_)) => match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(next)) => this.next = Some(next),
                Poll::Ready(None) => this.ended = true,
                // What wakes whoever waits for the next frame is arranged now.
                Poll::Pending => {}
            },
            Some(Err(_)) | None => this.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.next.is_none() && self.body.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt, stream};
    use http_body::Body as _;
    use http_body_util::{BodyExt, StreamBody};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    type Item = Result<Frame<Bytes>, Status>;

    fn looking_ahead(frames: Vec<Item>) -> LookingAhead {
        Body::new(StreamBody::new(stream::iter(frames))).into()
    }

    fn data(text: &'static str) -> Item {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn the_last_frame_is_known_as_the_last() {
        let mut body = looking_ahead(vec![data("a"), data("b"), data("c")]);
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            let bytes = frame.unwrap().into_data().unwrap();
            seen.push((bytes, body.is_end_stream()));
        }
        let expected = [("a", false), ("b", false), ("c", true)];
        assert_eq!(seen, expected.map(|(text, last)| (text.into(), last)));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_frame_does_not_wait_for_the_next_one() {
        let frames = stream::iter([data("a")]).chain(stream::pending());
        let mut body = LookingAhead::from(Body::new(StreamBody::new(frames)));
        assert!(body.frame().now_or_never().is_some());
        assert!(!body.is_end_stream());
        assert!(body.frame().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_error_comes_in_its_turn_and_nothing_after_it() {
        let mut body = looking_ahead(vec![data("a"), Err(Status::aborted("cut")), data("b")]);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(!body.is_end_stream());
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_empty_body_ends_at_once() {
        let mut body = looking_ahead(Vec::new());
        assert!(body.frame().await.is_none());
        assert!(body.is_end_stream());
    }

    /// Whether a request of one message has ended when the first frame of its body has come, as a server sees it.
    #[tokio::test]
    async fn on_the_wire_the_last_message_ends_the_request() {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (sender, mut ended) = tokio::sync::mpsc::channel(1);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let sender = sender.clone();
            async move {
                let mut body = request.into_body();
                body.frame().await.unwrap().unwrap();
                sender.send(body.is_end_stream()).await.unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(theirs), service));
        let mut ours = Some(TokioIo::new(ours));
        let connector = tower::service_fn(move |_: http::Uri| {
            let stream = ours.take().ok_or(std::io::ErrorKind::NotConnected.into());
            async move { stream as std::io::Result<_> }
        });
        let endpoint = transport::Endpoint::from_static("http://peer");
        let mut channel = Channel::from(endpoint.connect_with_connector(connector).await.unwrap());
        let frames = stream::iter([data("a message")]);
        let request = Request::new(Body::new(StreamBody::new(frames)));
        std::future::poll_fn(|context| channel.poll_ready(context))
            .await
            .unwrap();
        channel.call(request).await.unwrap();
        assert_eq!(ended.recv().await, Some(true));
    }
}
