//! [`Link`]: a TCP relay that can be cut and restored the way a network can: nothing is closed, and nothing arrives.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const BUFFER_BYTES: usize = 64 << 10;

/// One address that leads to whichever process stands behind it now. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    target: watch::Sender<Option<String>>,
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// Listens on a port of the kernel's choice. Until it leads somewhere, connections are closed at once.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (target, targets) = watch::channel(None);
        let (open, opened) = watch::channel(true);
        let accepting = tokio::spawn(accept(listener, targets, opened));
        Ok(Self {
            address,
            target,
            open,
            accepting,
        })
    }

    /// `host:port` to connect to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// New connections lead to `target` from now on.
    pub fn lead_to(&self, target: &str) {
        self.target.send_replace(Some(target.to_owned()));
    }

    /// Nothing arrives any more, in either direction.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// What was held back arrives, and what follows.
    pub fn restore(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    targets: watch::Receiver<Option<String>>,
    opened: watch::Receiver<bool>,
) {
    // Owned by this task, so that the end of the link is the end of its connections.
    let mut relays = JoinSet::new();
    while let Ok((inward, _)) = listener.accept().await {
        while relays.try_join_next().is_some() {}
        relays.spawn(relay(inward, targets.clone(), opened.clone()));
    }
}

/// An error on either side ends both: the half that is left would never hear of it.
async fn relay(
    inward: TcpStream,
    targets: watch::Receiver<Option<String>>,
    mut opened: watch::Receiver<bool>,
) -> io::Result<()> {
    until_open(&mut opened).await?;
    let target = targets.borrow().clone();
    let target = target.ok_or(io::ErrorKind::ConnectionRefused)?;
    let outward = TcpStream::connect(target).await?;
    inward.set_nodelay(true)?;
    outward.set_nodelay(true)?;
    let (from_client, to_client) = inward.into_split();
    let (from_server, to_server) = outward.into_split();
    tokio::try_join!(
        pump(from_client, to_server, opened.clone()),
        pump(from_server, to_client, opened),
    )?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut opened: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        until_open(&mut opened).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn until_open(opened: &mut watch::Receiver<bool>) -> io::Result<()> {
    match opened.wait_for(|open| *open).await {
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test fails by panicking
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SILENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn what_is_sent_into_a_cut_arrives_after_it() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::start().await.unwrap();
        link.lead_to(&server.local_addr().unwrap().to_string());
        let mut client = TcpStream::connect(link.address()).await.unwrap();
        let (mut behind, _) = server.accept().await.unwrap();
        client.write_all(b"a").await.unwrap();
        assert_eq!(behind.read_u8().await.unwrap(), b'a');
        link.cut();
        client.write_all(b"b").await.unwrap();
        behind.write_all(b"c").await.unwrap();
        assert!(timeout(SILENCE, behind.read_u8()).await.is_err());
        assert!(timeout(SILENCE, client.read_u8()).await.is_err());
        link.restore();
        assert_eq!(behind.read_u8().await.unwrap(), b'b');
        assert_eq!(client.read_u8().await.unwrap(), b'c');
    }

    #[tokio::test]
    async fn a_link_that_leads_nowhere_closes() {
        let link = Link::start().await.unwrap();
        let mut client = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
