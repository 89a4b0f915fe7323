//! The gRPC listening side: binding a port, and the limits every server here has.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::connections::Connections;
use crate::cuttable::Cuttable;
use crate::network::{
    CONNECTION_WINDOW_BYTES, Incoming, Listen, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES, tcp_listen,
};

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams of one connection that may be open at once.
const MAX_STREAMS: u32 = 1024;
/// Metadata of one request, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Resets a peer may have pending before the connection is closed: bounds what a flood of them can cost.
const MAX_PENDING_RESETS: usize = 64;

/// Connections of one server. A role has one to each of its peers, and a few more while they come and go.
const MAX_CONNECTIONS: usize = 4096;

/// Pause after a failed accept. The usual reason is that the process has no file descriptor left, and then the next one fails at
/// once, too: tonic goes on at once, which would take a whole core for as long as that lasts.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections get to end by themselves at shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Why a server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port could not be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was asked for.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Serving broke.
    #[error("serving gRPC failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A bound port, so that a role knows its address before it serves.
pub struct BoundServer {
    incoming: Incoming,
    address: SocketAddr,
    small_answers: bool,
}

impl BoundServer {
    /// Binds `address` (`host:port`, port 0 lets the network choose) by `listen`.
    ///
    /// # Errors
    /// [`ServeError::Bind`] naming the address.
    pub async fn bind(listen: &Listen, address: &str) -> Result<Self, ServeError> {
        match listen(address.to_owned()).await {
            Ok((address, incoming)) => Ok(Self {
                incoming,
                address,
                small_answers: false,
            }),
            Err(source) => Err(ServeError::Bind {
                address: address.to_owned(),
                source,
            }),
        }
    }

    /// The address with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For a service whose answers are small and many: those of up to 1 KiB leave together. Larger ones take a write more each.
    #[must_use]
    pub fn for_small_answers(self) -> Self {
        Self {
            small_answers: true,
            ..self
        }
    }

    /// The streams of peers, for a server that does not speak gRPC.
    pub(crate) fn into_incoming(self) -> Incoming {
        self.incoming
    }
}

/// Binds `address` over TCP, for who has no [`Environment`](crate::Environment).
///
/// # Errors
/// [`ServeError::Bind`] naming the address.
pub async fn bind(address: &str) -> Result<BoundServer, ServeError> {
    BoundServer::bind(&tcp_listen(), address).await
}

/// A gRPC server with the limits and windows that every role here uses.
pub fn grpc_server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
}

/// Serves `router` on `bound` until `stop` is cancelled and the calls under way have ended. Connections that are still open
/// two seconds after that are cut: a peer that reads nothing must not keep a role from ending.
///
/// # Errors
/// [`ServeError::Serve`] when the listener breaks.
pub async fn serve_grpc(
    bound: BoundServer,
    router: Router,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let cut = CancellationToken::new();
    let (connections, all) = (Connections::new(MAX_CONNECTIONS), cut.clone());
    let small_answers = bound.small_answers;
    let incoming = paced(bound.incoming).then(move |stream| {
        let (connections, all) = (connections.clone(), all.clone());
        async move {
            let stream = stream?;
            let place = connections.place(&all).await;
            let stream = Cuttable::new(stream, place);
            Ok::<_, io::Error>(match small_answers {
                true => stream.in_one_piece(),
                false => stream,
            })
        }
    });
    let serving = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let cutting = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
        cut.cancel();
        std::future::pending::<()>().await
    };
    tokio::select! {
        biased;
        served = serving => Ok(served?),
        () = cutting => Ok(()),
    }
}

/// `accepted` with a pause after each error.
fn paced<T>(accepted: impl Stream<Item = io::Result<T>>) -> impl Stream<Item = io::Result<T>> {
    accepted.then(|stream| async {
        if let Err(error) = &stream {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        stream
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn accepting_pauses_after_an_error_and_only_then() {
        let full = || Err(io::Error::other("too many open files"));
        let accepted = paced(tokio_stream::iter([Ok(1), full(), full(), Ok(2)]));
        let mut accepted = std::pin::pin!(accepted);
        let start = Instant::now();
        let mut seen = Vec::new();
        while let Some(stream) = accepted.next().await {
            seen.push(stream.ok());
        }
        assert_eq!(seen, [Some(1), None, None, Some(2)]);
        assert_eq!(start.elapsed(), ACCEPT_PAUSE * 2);
    }
}
