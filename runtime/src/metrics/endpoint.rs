//! [`serve_metrics`]: the small HTTP server of a role that has no other: `/metrics`, `/healthz` and `/readyz`.
//!
//! It takes nothing but the path of a GET, from a bounded number of connections that each have a bounded time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::network::ByteStream;
use crate::server::BoundServer;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16;
/// A connection that sends no request for this long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this, whatever it does.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);

/// Whether a role can do its work now; if not, why.
pub type Readiness = Result<(), String>;

/// What a role shows of itself.
pub trait Observable: Send + Sync + 'static {
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
    /// Whether it can do its work.
    fn readiness(&self) -> Readiness;
}

/// Serves until `stop` is cancelled.
pub async fn serve_metrics(bound: BoundServer, role: Arc<dyn Observable>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let mut incoming = bound.into_incoming();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            stream = incoming.next() => stream,
        };
        let stream = match stream {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                tracing::debug!(%error, "a metrics connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            None => break,
        };
        let (role, stop) = (role.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = serve_one(stream, role) => {}
                () = tokio::time::sleep(CONNECTION_LIMIT) => {}
            }
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn serve_one(stream: Box<dyn ByteStream>, role: Arc<dyn Observable>) {
    let answer = service_fn(move |request: Request<Body>| {
        let role = role.clone();
        async move { Ok::<_, Infallible>(answer(&*role, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a metrics connection broke");
    }
}

async fn answer(role: &dyn Observable, request: &Request<Body>) -> Response<String> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, role.metrics().await),
        "/healthz" => text(StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => match role.readiness() {
            Ok(()) => text(StatusCode::OK, "ready\n".to_owned()),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "/metrics, /healthz and /readyz are here\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::bind;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    #[derive(Default)]
    struct Fake {
        ready: AtomicBool,
    }

    impl Observable for Fake {
        fn metrics(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
            Box::pin(async { "a 1\n".to_owned() })
        }

        fn readiness(&self) -> Readiness {
            match self.ready.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err("not registered".to_owned()),
            }
        }
    }

    async fn ask(address: std::net::SocketAddr, line: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_says_alive_ready_or_why_not_and_stops() {
        let bound = bind("127.0.0.1:0").await.unwrap();
        let address = bound.address();
        let role = Arc::new(Fake::default());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve_metrics(bound, role.clone(), stop.clone()));
        assert!(ask(address, "GET /healthz").await.contains("200 OK"));
        let answer = ask(address, "GET /readyz").await;
        assert!(
            answer.contains("503") && answer.ends_with("not registered\n"),
            "{answer}"
        );
        role.ready.store(true, Ordering::SeqCst);
        assert!(ask(address, "GET /readyz").await.ends_with("ready\n"));
        let answer = ask(address, "GET /metrics").await;
        assert!(
            answer.contains("version=0.0.4") && answer.ends_with("a 1\n"),
            "{answer}"
        );
        assert!(ask(address, "GET /nonsense").await.contains("404"));
        assert!(ask(address, "POST /metrics").await.contains("405"));
        stop.cancel();
        serving.await.unwrap();
    }
}
