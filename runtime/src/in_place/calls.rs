//! [`write_file`] and [`read_file`]: the two calls of a datanode that carry bytes, as the generated client would make them.

use std::future::poll_fn;

use futures_util::{Stream, StreamExt, stream};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Version};
use richardstore_proto::wire;
use tonic::{Code, Status, Streaming};
use tower::Service;

use super::Side;
use super::incoming::{answers, no_answers};
use super::outgoing::{MessageBody, Part};
use super::serve::{CONTENT_TYPE_GRPC, READ_FILE, WRITE_FILE};
use crate::Channel;

/// Writes the file that `parts` describe: one header, chunks, one trailer.
///
/// # Errors
/// What the datanode answers, or how the connection failed.
pub async fn write_file(
    channel: Channel,
    parts: impl Stream<Item = wire::WriteFileRequestPart> + Send + Unpin + 'static,
) -> Result<wire::WriteFileResult, Status> {
    let mut results: Streaming<wire::WriteFileResult> = call(channel, WRITE_FILE, parts).await?;
    let result = results.message().await?;
    let result = result.ok_or_else(|| Status::internal("the call ended without a result"))?;
    // Behind the result may be why it does not count.
    match results.message().await? {
        None => Ok(result),
        Some(_) => Err(Status::internal("the call ended with two results")),
    }
}

/// Reads a replica: one description, then chunks.
///
/// # Errors
/// What the datanode answers before it sends anything, or how the connection failed.
pub async fn read_file(
    channel: Channel,
    request: wire::ReadReplicaRequest,
) -> Result<Streaming<wire::ReadFileResponsePart>, Status> {
    call(channel, READ_FILE, stream::iter([request])).await
}

async fn call<A, T>(
    mut channel: Channel,
    path: &'static str,
    messages: impl Stream<Item = A> + Send + Unpin + 'static,
) -> Result<Streaming<T>, Status>
where
    A: Part + 'static,
    T: prost::Message + Default + 'static,
{
    let body = MessageBody::new(messages.map(Ok), Side::Client);
    let mut request = http::Request::new(tonic::body::Body::new(body));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);

    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(failed)?;
    let (head, body) = channel.call(request).await.map_err(failed)?.into_parts();
    match Status::from_header_map(&head.headers) {
        None => Ok(answers(body, head.status)),
        Some(status) if status.code() == Code::Ok => Ok(no_answers(body)),
        Some(status) => Err(status),
    }
}
