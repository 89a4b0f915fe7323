//! [`Session`]: what a client command works with, and how it ends when it is interrupted.

use std::time::Duration;

use anyhow::Result;
use richardstore_client::{Client, ClientConfig};
use richardstore_runtime::Environment;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::exit::Interrupted;

/// For what an interrupted upload had allocated to be given back.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A client for the time of one command.
pub struct Session {
    /// The cluster.
    pub client: Client,
    stop: CancellationToken,
}

impl Session {
    /// A session with the cluster of `namenode` that ends when `stop` is cancelled.
    pub fn new(namenode: &NamenodeAddress, stop: CancellationToken) -> Self {
        let config = ClientConfig::new(namenode.resolve());
        Self {
            client: Client::new(config, Environment::system()),
            stop,
        }
    }

    /// Runs `work` to its end or until it is interrupted, and then waits for what it left in the background.
    ///
    /// # Errors
    /// The work's own, and [`Interrupted`].
    pub async fn run(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let result = tokio::select! {
            result = work => result,
            () = self.stop.cancelled() => Err(Interrupted.into()),
        };
        self.client.close(CLOSE_LIMIT).await;
        result
    }
}
