//! A gateway under test, and HTTP by hand: what is sent is exactly what a test says, byte by byte.

use std::time::Duration;

use richardstore_client::{Client, ClientConfig};
use richardstore_gateway::{Gateway, GatewayConfig};
use richardstore_runtime::Environment;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);
const BOUNDARY: &str = "----boundary";

/// A gateway, and the cluster behind it.
pub struct Served {
    pub cluster: Cluster,
    pub gateway: Gateway,
}

/// A response as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The connection broke before the body was whole.
    pub broken: bool,
}

impl Served {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(configure: impl FnOnce(&mut GatewayConfig)) -> Self {
        let cluster = Cluster::start().await;
        let mut config = GatewayConfig {
            listen: "127.0.0.1:0".into(),
            namenode: cluster.address.to_string(),
            ..GatewayConfig::default()
        };
        configure(&mut config);
        let environment = Environment::system();
        let mut client = ClientConfig::new(config.namenode.clone());
        client.read_progress_timeout_ms = 1_000;
        let client = Client::new(client, environment.clone());
        let gateway = Gateway::start(config, client, environment).await.unwrap();
        Self { cluster, gateway }
    }

    pub async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.gateway.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends a request with `headers` (lines without their ends) and `body`, on a connection of its own.
    pub async fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut connection = self.connect().await;
        connection.request(method, path, headers, body).await;
        connection.reply(method).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    /// Uploads a form with one field.
    pub async fn upload(&self, field: &str, file_name: &str, bytes: &[u8]) -> Reply {
        self.send(
            "POST",
            "/upload",
            &[&form_type()],
            &form(field, file_name, bytes),
        )
        .await
    }
}

/// The `Content-Type` line of [`form`].
pub fn form_type() -> String {
    format!("Content-Type: multipart/form-data; boundary={BOUNDARY}")
}

/// A form with one field.
pub fn form(field: &str, file_name: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file_name}\"\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    [head.as_bytes(), bytes, tail.as_bytes()].concat()
}

/// A socket.
pub struct Connection {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    /// Writes as much as the gateway takes. It may well have answered and closed before the end.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n");
        for line in headers {
            head.push_str(line);
            head.push_str("\r\n");
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.write(&bytes).await;
    }

    /// What came behind what was read.
    pub fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Reads a head, up to and with its empty line; `None` where the connection ended before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let rest = self.unread.split_off(end + 4);
                let head = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// Reads the reply to a request of `method`.
    pub async fn reply(&mut self, method: &str) -> Reply {
        let head = self.head().await.expect("no reply");
        let status = head[9..12].parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
            broken: false,
        };
        if method == "HEAD" || status == 304 {
            return reply;
        }
        if reply.header("transfer-encoding").as_deref() == Some("chunked") {
            self.read_chunked(&mut reply).await;
        } else {
            let length = reply.header("content-length").unwrap().parse().unwrap();
            while self.unread.len() < length && self.read_more().await {}
            reply.broken = self.unread.len() < length;
            let rest = self.unread.split_off(self.unread.len().min(length));
            reply.body = std::mem::replace(&mut self.unread, rest);
        }
        reply
    }

    /// The gateway closed the connection, and sent nothing more before.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.read_more().await
    }

    async fn read_chunked(&mut self, reply: &mut Reply) {
        loop {
            while find(&self.unread, b"\r\n").is_none() {
                if !self.read_more().await {
                    reply.broken = true;
                    return;
                }
            }
            let line = find(&self.unread, b"\r\n").unwrap();
            let size = std::str::from_utf8(&self.unread[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let end = line + 2 + size + 2;
            while self.unread.len() < end {
                if !self.read_more().await {
                    reply.broken = true;
                    return;
                }
            }
            reply
                .body
                .extend_from_slice(&self.unread[line + 2..line + 2 + size]);
            self.unread.drain(..end);
            if size == 0 {
                return;
            }
        }
    }

    async fn read_more(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer))
            .await
            .expect("the gateway neither answers nor closes");
        let read = read.unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..read]);
        read > 0
    }
}

impl Reply {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts the one shape of errors.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        assert_eq!(
            self.header("content-type").as_deref(),
            Some("application/json")
        );
        let json = self.json();
        assert!(!json["error"].as_str().unwrap().is_empty());
        assert_eq!(json["code"], code);
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
