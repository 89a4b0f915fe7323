//! [`accept_connections`]: the loop that takes connections, and the life of one.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use richardstore_runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::connections::{Connections, Place};
use super::guarded_stream::GuardedStream;
use crate::body::ObservedBody;
use crate::metrics::Metrics;

/// Headers over this are not even parsed to their end. The router refuses far smaller ones, in better words.
const MAX_PARSED_HEADER_BYTES: usize = 64 << 10;
/// Read and write buffer of one connection, in bytes. Bodies are read in pieces up to this size.
const MAX_BUFFER_BYTES: usize = 256 << 10;
/// Pause after a failed accept; the usual reason is that the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a sender is listened to whose request was answered before it was read: in all, and without a byte from it.
/// Closing at once would reset the connection, and the reset could overtake the answer. A sender that reads only after it
/// has sent everything is not rare; what it sends is thrown away, in time rather than in bytes (as in nginx, whose figures
/// these are), and a newcomer that needs the place ends it.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// Read at once from such a sender, in bytes.
const LINGER_BUFFER_BYTES: usize = 64 << 10;

type Socket = GuardedStream<TcpStream>;

/// What the connections of one gateway share.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// The table of open ones.
    pub(crate) connections: Connections,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// For the headers of a request, and between requests.
    pub(crate) header_timeout: Duration,
    /// For a write without progress.
    pub(crate) progress_timeout: Duration,
    /// Cancelled when connections have to end at once, whatever they do.
    pub(crate) abort: CancellationToken,
}

/// Accepts until `tasks` stop, and serves each connection as one of them.
pub(crate) async fn accept_connections(
    listener: TcpListener,
    router: Router,
    settings: ConnectionSettings,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream =
            match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
        let place = tokio::select! {
            () = stopping.cancelled() => return,
            place = settings.connections.place() => place,
        };
        settings
            .metrics
            .accepted_connections
            .fetch_add(1, Ordering::Relaxed);
        tasks.spawn(serve(
            stream,
            place,
            router.clone(),
            settings.clone(),
            stopping.clone(),
        ));
    }
}

/// Serves one connection to its end, and then gives its place back.
async fn serve(
    stream: TcpStream,
    place: Place,
    router: Router,
    settings: ConnectionSettings,
    stopping: CancellationToken,
) {
    let activity = place.activity().clone();
    let socket = GuardedStream::new(
        stream,
        activity.clone(),
        settings.metrics.clone(),
        settings.progress_timeout,
    );
    let requests = activity.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let guard = requests.begin();
        let answer = router.clone().oneshot(request.map(Body::new));
        Box::pin(async move {
            let response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| {
                // The connection is busy until the response was handed over to its last byte.
                ObservedBody::new(body, Box::new(move |_whole| drop(guard)))
            }))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(MAX_PARSED_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut draining = false;
    let end = loop {
        tokio::select! {
            // The socket comes back when the connection is done, so that it can be closed gently.
            end = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break end,
            () = settings.abort.cancelled() => return,
            () = activity.evicted().cancelled() => return,
            () = stopping.cancelled(), if !draining => {
                if !activity.is_busy() {
                    return;
                }
                draining = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let socket = connection.into_parts().io.into_inner();
    if let Err(error) = &end {
        tracing::debug!(%error, "a connection broke off");
        if error.is_user() || error.is_body_write_aborted() {
            // A response without a length (HTTP/1.0) ends with the connection: only a reset tells it from a whole one.
            if let Err(error) = socket.into_inner().set_zero_linger() {
                tracing::debug!(%error, "a broken response could not be reset");
            }
            return;
        }
    }
    tokio::select! {
        _ = tokio::time::timeout(LINGER, linger(socket)) => {}
        () = settings.abort.cancelled() => {}
        () = stopping.cancelled() => {}
        () = activity.evicted().cancelled() => {}
    }
}

/// Says that nothing more comes, and listens until the peer has said the same.
async fn linger(mut socket: Socket) -> io::Result<()> {
    socket.shutdown().await?;
    let mut discarded = vec![0; LINGER_BUFFER_BYTES];
    loop {
        match tokio::time::timeout(LINGER_SILENCE, socket.read(&mut discarded)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
}
