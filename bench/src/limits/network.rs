//! Bare gRPC and bare HTTP over loopback, with the server's limits and windows, both ends in this process.

use std::time::Duration;

use anyhow::{Result, ensure};
use axum::routing::post;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use richardstore_runtime::{Channels, bind, grpc_server, serve_grpc, tcp_dial};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::bare_service::BareService;
use super::bare_service::wire::bare_client::BareClient;
use super::bare_service::wire::bare_server::BareServer;
use super::bare_service::wire::{Ask, Piece};
use crate::load::{Load, Timings, Worker};
use crate::process_meter::ProcessMeter;
use crate::row::Row;

pub(super) const UNARY: &str = "grpc: unary call x64";
pub(super) const DOWNLOAD: &str = "grpc: download stream x4";
pub(super) const UPLOAD: &str = "grpc: upload stream x3";
pub(super) const POST: &str = "http: POST 4 KiB x64";

const PIECE_BYTES: usize = 256 << 10;
const STREAM_BYTES: u64 = 64 << 20;

pub(super) struct Measured {
    pub(super) rows: Vec<Row>,
    pub(super) cpu_per_byte: f64,
}

pub(super) async fn measure(duration: Duration) -> Result<Measured> {
    let stop = CancellationToken::new();
    let bound = bind("127.0.0.1:0").await?;
    let address = bound.address().to_string();
    let router = grpc_server().add_service(BareServer::new(BareService));
    let serving = tokio::spawn(serve_grpc(bound, router, stop.clone()));
    let client = BareClient::new(Channels::new(tcp_dial()).get(&address)?.bare());
    let load = Load::closed(duration);
    let unary = load.run(of(64, || Unary(client.clone()))).await?;
    let meter = ProcessMeter::new(std::process::id());
    let before = meter.usage()?;
    let upload = load.run(of(3, || Upload(client.clone()))).await?;
    let used = meter.usage()?.since(before);
    let download = load.run(of(4, || Download(client.clone()))).await?;
    stop.cancel();
    serving.await??;
    Ok(Measured {
        cpu_per_byte: used.cpu_seconds / upload.bytes.max(1) as f64,
        rows: vec![
            Row::of(UNARY, &unary),
            Row::of(UPLOAD, &upload),
            Row::of(DOWNLOAD, &download),
            Row::of(POST, &bare_posts(duration).await?),
        ],
    })
}

fn of<W>(count: usize, mut make: impl FnMut() -> W) -> Vec<W> {
    (0..count).map(|_| make()).collect()
}

struct Unary(BareClient<Channel>);

impl Worker for Unary {
    async fn operation(&mut self, _: u64) -> Result<u64> {
        let data = Bytes::from_static(&[7; 32]);
        self.0.unary(Piece { data }).await?;
        Ok(0)
    }
}

struct Download(BareClient<Channel>);

impl Worker for Download {
    async fn operation(&mut self, _: u64) -> Result<u64> {
        let ask = Ask {
            bytes: STREAM_BYTES,
            piece_bytes: PIECE_BYTES as u64,
        };
        let mut pieces = self.0.download(ask).await?.into_inner();
        let mut bytes = 0;
        while let Some(piece) = pieces.message().await? {
            bytes += piece.data.len() as u64;
        }
        ensure!(bytes == STREAM_BYTES, "{bytes} bytes came");
        Ok(bytes)
    }
}

struct Upload(BareClient<Channel>);

impl Worker for Upload {
    async fn operation(&mut self, _: u64) -> Result<u64> {
        let data = Bytes::from(vec![7; PIECE_BYTES]);
        let count = usize::try_from(STREAM_BYTES)? / PIECE_BYTES;
        let pieces = std::iter::repeat_n(Piece { data }, count);
        let taken = self.0.upload(stream::iter(pieces)).await?.into_inner();
        ensure!(taken.bytes == STREAM_BYTES, "{} bytes came", taken.bytes);
        Ok(taken.bytes)
    }
}

async fn bare_posts(duration: Duration) -> Result<Timings> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let router = axum::Router::new().route("/", post(async |body: Bytes| body.len().to_string()));
    let serving = tokio::spawn(async move { accept(listener, router).await });
    let mut workers = Vec::new();
    for _ in 0..64 {
        let socket = TcpStream::connect(&address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        workers.push(Post(sender));
    }
    let timings = Load::closed(duration).run(workers).await;
    serving.abort();
    timings
}

/// As the gateway serves: hyper itself, without Nagle's delay.
async fn accept(listener: TcpListener, router: axum::Router) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(socket), service));
    }
}

struct Post(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Worker for Post {
    async fn operation(&mut self, _: u64) -> Result<u64> {
        let body = Full::new(Bytes::from_static(&[7; 4096]));
        let request = Request::builder().method(Method::POST).uri("/");
        let request = request.header("host", "bare").body(body)?;
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        answer.into_body().collect().await?;
        Ok(4096)
    }
}
