//! [`Connection`]: one caller's way to the store, by HTTP or natively, kept open between calls.

use std::convert::Infallible;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use richardstore_client::{Client, ClientConfig, GetOptions, PutOptions, SourceError};
use richardstore_proto::ContentHash;
use richardstore_runtime::Environment;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Body = BoxBody<Bytes, Infallible>;

/// Where a store is.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// `host:port` of the gateway.
    pub gateway: String,
    /// `host:port` of the namenode.
    pub namenode: String,
}

/// One caller.
pub enum Connection {
    /// A keep-alive connection to the gateway.
    Http(HttpConnection),
    /// The native client, whose connections its clones share.
    Native(Client),
}

/// One HTTP/1.1 connection.
pub struct HttpConnection {
    authority: String,
    sender: Option<SendRequest<Body>>,
}

#[derive(Deserialize)]
struct Stored {
    hash: String,
}

impl Connection {
    /// `count` callers of the store at `addresses`.
    pub fn several(addresses: &Addresses, native: bool, count: usize) -> Vec<Self> {
        if native {
            let config = ClientConfig::new(addresses.namenode.clone());
            let client = Client::new(config, Environment::system());
            return (0..count).map(|_| Self::Native(client.clone())).collect();
        }
        let http = |_| {
            Self::Http(HttpConnection {
                authority: addresses.gateway.clone(),
                sender: None,
            })
        };
        (0..count).map(http).collect()
    }

    /// Stores a content and returns its hash.
    pub async fn put(&mut self, chunks: Vec<Bytes>) -> Result<ContentHash> {
        let size: usize = chunks.iter().map(Bytes::len).sum();
        match self {
            Self::Http(http) => {
                let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk)));
                let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
                let answer = http.call(Method::POST, "/files", size, body).await?;
                let body = answer.into_body().collect().await?.to_bytes();
                let stored: Stored = serde_json::from_slice(&body)
                    .with_context(|| String::from_utf8_lossy(&body).into_owned())?;
                stored.hash.parse().context("the answer has no hash")
            }
            Self::Native(client) => {
                let options = PutOptions {
                    size_hint: Some(size as u64),
                    ..PutOptions::default()
                };
                let source = stream::iter(chunks.into_iter().map(Ok::<_, SourceError>));
                Ok(client.put(source, options).await?.file.hash)
            }
        }
    }

    /// Reads a file to its end and returns its size.
    pub async fn get(&mut self, hash: &ContentHash) -> Result<u64> {
        let mut size = 0;
        match self {
            Self::Http(http) => {
                let path = format!("/files/{hash}");
                let answer = http.call(Method::GET, &path, 0, empty()).await?;
                let mut body = answer.into_body();
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        size += data.len() as u64;
                    }
                }
            }
            Self::Native(client) => {
                let mut bytes = client.get(hash, 0, None, GetOptions::default()).await?;
                while let Some(chunk) = bytes.next().await {
                    size += chunk?.len() as u64;
                }
            }
        }
        Ok(size)
    }

    /// Deletes a file.
    pub async fn delete(&mut self, hash: &ContentHash) -> Result<()> {
        match self {
            Self::Http(http) => {
                let path = format!("/files/{hash}");
                let answer = http.call(Method::DELETE, &path, 0, empty()).await?;
                answer.into_body().collect().await?;
            }
            Self::Native(client) => ensure!(client.delete(hash).await?, "{hash} was not there"),
        }
        Ok(())
    }
}

impl HttpConnection {
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        length: usize,
        body: Body,
    ) -> Result<hyper::Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority);
        if length > 0 {
            request = request.header("content-length", length);
        }
        let sender = self.sender().await?;
        let answer = sender.send_request(request.body(body)?).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(answer),
            other => {
                let body = answer.into_body().collect().await?.to_bytes();
                bail!("{other}: {}", String::from_utf8_lossy(&body))
            }
        }
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Body>> {
        let mut kept = self.sender.take();
        let usable = match &mut kept {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        let open = match kept.filter(|_| usable) {
            Some(open) => open,
            None => {
                let socket = connect(&self.authority).await?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        Ok(self.sender.insert(open))
    }
}

/// Offers a file that is there already, the way curl does: the headers alone, and the body only if the store asks for it.
/// Fails where it does.
pub async fn offer_known(gateway: &str, hash: &ContentHash, size: usize) -> Result<()> {
    let mut socket = connect(gateway).await?;
    let head = format!(
        "PUT /files/{hash} HTTP/1.1\r\nhost: {gateway}\r\ncontent-length: {size}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer == "HTTP/1.1 200", "the answer began with {answer:?}");
    Ok(())
}

async fn connect(authority: &str) -> Result<TcpStream> {
    let socket = TcpStream::connect(authority).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn empty() -> Body {
    Empty::new().boxed()
}
