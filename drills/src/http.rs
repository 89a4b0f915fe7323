//! [`Http`]: a small HTTP/1.1 client that streams both ways and verifies what it reads.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::Content;
use crate::content::hex;

/// No drill waits longer than this for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

type Body = BoxBody<Bytes, Infallible>;

/// Talks to one gateway, one connection per request: a connection that a kill broke is nobody else's.
#[derive(Debug, Clone)]
pub struct Http {
    authority: String,
}

/// An answer, with its body in memory.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

impl Http {
    /// Talks to the gateway at `url` (`http://host:port`).
    pub fn new(url: &str) -> Self {
        let authority = url.trim_start_matches("http://").trim_end_matches('/');
        Self {
            authority: authority.to_owned(),
        }
    }

    /// `host:port` of the gateway.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A request without a body.
    ///
    /// # Errors
    /// When the connection breaks or no answer comes in time.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        self.collect(method, path, headers, Empty::new().boxed())
            .await
    }

    /// A GET.
    ///
    /// # Errors
    /// As [`Http::call`].
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.call(Method::GET, path, &[]).await
    }

    /// A request with these bytes.
    ///
    /// # Errors
    /// As [`Http::call`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response> {
        self.collect(method, path, headers, Full::new(body).boxed())
            .await
    }

    /// Streams `content` to `POST /files` and returns the hash in the answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not 201.
    pub async fn upload(&self, content: Content) -> Result<String> {
        let frames = stream::iter(content.chunks().map(|chunk| Ok(Frame::data(chunk))));
        let length = content.size.to_string();
        let body = BodyExt::boxed(StreamBody::new(frames));
        let response = self
            .collect(Method::POST, "/files", &[("content-length", &length)], body)
            .await?;
        if response.status != StatusCode::CREATED {
            bail!("upload: {} {:?}", response.status, response.body);
        }
        let answer = response.json()?;
        let hash = answer["hash"].as_str().context("no hash in the answer")?;
        Ok(hash.to_owned())
    }

    /// Uploads with `POST /upload`, the way a browser or `curl -F` does.
    ///
    /// # Errors
    /// As [`Http::call`].
    pub async fn upload_form(&self, bytes: &[u8]) -> Result<Response> {
        let mut body = b"--drill\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n".to_vec();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n--drill--\r\n");
        let form = [("content-type", "multipart/form-data; boundary=drill")];
        self.send(Method::POST, "/upload", &form, body.into()).await
    }

    /// Streams a download and says whether its bytes are the content's; `None` when the answer is 404.
    ///
    /// # Errors
    /// When the answer is another one, or ends before its length.
    pub async fn download_matches(&self, hash: &str, content: Content) -> Result<Option<bool>> {
        let path = format!("/files/{hash}");
        let reading = async {
            let response = self
                .start(Method::GET, &path, &[], Empty::new().boxed())
                .await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                other => bail!("download of {hash}: {other}"),
            }
            let mut body = response.into_body();
            let (mut hasher, mut size) = (Sha256::new(), 0);
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.context("the download broke off")?.into_data() {
                    hasher.update(&data);
                    size += data.len() as u64;
                }
            }
            Ok(Some(
                size == content.size && hex(&hasher.finalize()) == hash,
            ))
        };
        reading.await
    }

    async fn collect(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response> {
        let answer = async {
            let response = self.start(method, path, headers, body).await?;
            let (head, body) = response.into_parts();
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body: body.collect().await?.to_bytes(),
            })
        };
        tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .with_context(|| format!("no answer to {path} within {ANSWER_LIMIT:?}"))?
    }

    async fn start(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<hyper::Response<Incoming>> {
        let socket = TcpStream::connect(&self.authority).await?;
        socket.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(sender.send_request(request.body(body)?).await?)
    }
}
