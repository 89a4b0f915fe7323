//! [`Dial`], [`Listen`] and [`Channels`]: byte streams to and from other roles. The gRPC connections over them are opened on
//! first use, one per address, and kept.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use richardstore_proto::{ErrorCode, StoreError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Endpoint;

use crate::Channel;

/// Peers a process talks to at most; past it the pool starts anew, which costs reconnects and nothing else.
const MAX_CHANNELS: usize = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that vanished without a reset is noticed within interval plus timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 flow-control windows, in bytes. One stream alone must fill a fast local link; all streams of a connection
/// together stay bounded by the second figure.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of an HTTP/2 frame that a peer may send: a message of 256 KiB with what is around it. With the 16 KiB that are usual
/// each message was sixteen frames, each with its own turn through the connection's tasks.
pub(crate) const MAX_FRAME_BYTES: u32 = (256 << 10) + 1024;

/// A connected byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

type DialFuture = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// Opens a byte stream to `host:port`. The seam where a simulation puts its own network.
pub type Dial = Arc<dyn Fn(String) -> DialFuture + Send + Sync>;

/// The byte streams that peers open to a bound address. Dropping it gives the address back.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Box<dyn ByteStream>>> + Send>>;

type ListenFuture = Pin<Box<dyn Future<Output = io::Result<(SocketAddr, Incoming)>> + Send>>;

/// Binds `host:port`, where port 0 lets the network choose, and tells the real address. The other half of the seam that
/// [`Dial`] is.
pub type Listen = Arc<dyn Fn(String) -> ListenFuture + Send + Sync>;

/// Listens over TCP, without Nagle's delay as [`tcp_dial`].
pub fn tcp_listen() -> Listen {
    Arc::new(|address| {
        Box::pin(async move {
            let listener = TcpListener::bind(&address).await?;
            let address = listener.local_addr()?;
            let incoming = TcpListenerStream::new(listener).map(|stream| {
                let stream = stream?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn ByteStream>)
            });
            Ok((address, Box::pin(incoming) as Incoming))
        })
    })
}

/// Dials over TCP, without Nagle's delay (it would stall small messages by 40 ms).
pub fn tcp_dial() -> Dial {
    Arc::new(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    })
}

/// The gRPC connections of one process. Cheap to clone.
#[derive(Clone)]
pub struct Channels {
    dial: Dial,
    open: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl Channels {
    /// A pool that opens connections by `dial`.
    pub fn new(dial: Dial) -> Self {
        Self {
            dial,
            open: Arc::default(),
        }
    }

    /// The connection to `address` (`host:port`). It connects on first use and again after a break.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] where the address is no `host:port`.
    pub fn get(&self, address: &str) -> Result<Channel, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.connect_lazily(address)?;
        if open.len() >= MAX_CHANNELS {
            open.clear();
        }
        open.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Drops the pooled connection to `address`, so that the next use dials anew. For a peer that stopped answering.
    pub fn forget(&self, address: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(address);
    }

    fn connect_lazily(&self, address: &str) -> Result<Channel, StoreError> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            StoreError::new(
                ErrorCode::InvalidArgument,
                format!("{address:?} is no host:port: {error}"),
            )
        })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES);
        let dial = self.dial.clone();
        let target = address.to_owned();
        let connector = tower::service_fn(move |_: http::Uri| {
            let stream = dial(target.clone());
            async move {
                match tokio::time::timeout(CONNECT_TIMEOUT, stream).await {
                    Ok(stream) => stream.map(TokioIo::new),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        });
        Ok(endpoint.connect_with_connector_lazy(connector).into())
    }
}
