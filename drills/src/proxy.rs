//! [`CountingProxy`]: a TCP relay that counts what crosses it, to measure a protocol from outside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Relays connections to one address. It ends with the runtime it was started on.
#[derive(Debug)]
pub struct CountingProxy {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl CountingProxy {
    /// Listens on a port of the kernel's choice and relays to `target`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let (counter, target) = (bytes.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((inward, _)) = listener.accept().await {
                let Ok(outward) = TcpStream::connect(&target).await else {
                    continue;
                };
                let (from_client, to_client) = inward.into_split();
                let (from_server, to_server) = outward.into_split();
                tokio::spawn(relay(from_client, to_server, counter.clone()));
                tokio::spawn(relay(from_server, to_client, counter.clone()));
            }
        });
        Ok(Self { address, bytes })
    }

    /// `host:port` to connect to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Bytes relayed so far, both ways together.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        counter.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
