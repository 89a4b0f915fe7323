//! [`ServedInPlace`]: a datanode's service whose calls with bytes go around tonic's codec.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use richardstore_proto::wire;
use richardstore_proto::wire::data_node_server::{DataNode, DataNodeServer};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tower::Service;

use super::Side;
use super::incoming::requests;
use super::outgoing::MessageBody;

pub(super) const WRITE_FILE: &str = "/richardstore.v1.DataNode/WriteFile";
pub(super) const READ_FILE: &str = "/richardstore.v1.DataNode/ReadFile";
pub(super) const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The calls of `T`: two of them in place, the others by the generated server.
pub struct ServedInPlace<T> {
    calls: Arc<T>,
    others: DataNodeServer<T>,
}

impl<T: DataNode> ServedInPlace<T> {
    /// Serves `calls`. `limits` sets those of the other calls.
    pub fn new(
        calls: T,
        limits: impl FnOnce(DataNodeServer<T>) -> DataNodeServer<T>,
    ) -> ServedInPlace<T> {
        let calls = Arc::new(calls);
        let others = limits(DataNodeServer::from_arc(calls.clone()));
        Self { calls, others }
    }
}

impl<T> Clone for ServedInPlace<T> {
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
            others: self.others.clone(),
        }
    }
}

impl<T> NamedService for ServedInPlace<T> {
    const NAME: &'static str = <DataNodeServer<T> as NamedService>::NAME;
}

type Answer = http::Response<Body>;

impl<T: DataNode> Service<http::Request<Body>> for ServedInPlace<T> {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let calls = self.calls.clone();
        match request.uri().path() {
            WRITE_FILE => Box::pin(async move {
                let answer = write_file(calls.as_ref(), request).await;
                Ok(answer.unwrap_or_else(Status::into_http))
            }),
            READ_FILE => Box::pin(async move {
                let answer = read_file(calls.as_ref(), request).await;
                Ok(answer.unwrap_or_else(Status::into_http))
            }),
            _ => self.others.call(request),
        }
    }
}

async fn write_file<T: DataNode>(
    calls: &T,
    request: http::Request<Body>,
) -> Result<Answer, Status> {
    let request = Request::from_http(request.map(requests::<wire::WriteFileRequestPart>));
    let response = calls.write_file(request).await?;
    Ok(answer(response.map(|result| {
        Body::new(MessageBody::new(stream::iter([Ok(result)]), Side::Server))
    })))
}

async fn read_file<T: DataNode>(calls: &T, request: http::Request<Body>) -> Result<Answer, Status> {
    let (head, body) = request.into_parts();
    let asked = requests::<wire::ReadReplicaRequest>(body).message().await?;
    let asked = asked.ok_or_else(|| Status::internal("the call came without a request"))?;
    let request = Request::from_http(http::Request::from_parts(head, asked));
    let response = calls.read_file(request).await?;
    Ok(answer(response.map(|parts| {
        Body::new(MessageBody::new(Box::pin(parts), Side::Server))
    })))
}

fn answer(response: Response<Body>) -> Answer {
    let (metadata, body, extensions) = response.into_parts();
    let mut answer = http::Response::new(body);
    *answer.headers_mut() = metadata.into_headers();
    answer.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    *answer.extensions_mut() = extensions;
    answer
}
