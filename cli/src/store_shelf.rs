//! [`StoreShelf`]: the store as the place where its own namenode keeps copies of its metadata.

use std::path::Path;

use futures_util::{Stream, StreamExt};
use richardstore_client::{Client, ClientConfig, PutOptions, SourceError};
use richardstore_namenode::CopyShelf;
use richardstore_proto::{ContentHash, ErrorCode, StoreError};
use richardstore_runtime::Environment;
use tokio_util::io::ReaderStream;

const READ_BYTES: usize = 256 << 10;

/// A client of the namenode that owns it.
pub struct StoreShelf {
    client: Client,
}

impl StoreShelf {
    /// The store of the namenode at `address`.
    pub fn new(address: &str) -> Self {
        Self {
            client: Client::new(ClientConfig::new(address), Environment::system()),
        }
    }
}

#[tonic::async_trait]
impl CopyShelf for StoreShelf {
    async fn put(&self, path: &Path, hash: ContentHash) -> Result<(), StoreError> {
        let unreadable = |error: std::io::Error| {
            let words = format!("{}: {error}", path.display());
            StoreError::new(ErrorCode::Internal, words)
        };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        let options = PutOptions {
            declared_hash: Some(hash),
            size_hint: Some(size),
            request_id: "metadata-copy".to_owned(),
            ..PutOptions::default()
        };
        self.client.put(source(file), options).await?;
        Ok(())
    }

    async fn remove(&self, hash: ContentHash) -> Result<(), StoreError> {
        self.client.delete(&hash).await?;
        Ok(())
    }
}

fn source(
    file: tokio::fs::File,
) -> impl Stream<Item = Result<bytes::Bytes, SourceError>> + Send + Unpin {
    ReaderStream::with_capacity(file, READ_BYTES)
        .map(|read| read.map_err(|error| SourceError::new(ErrorCode::Internal, error.to_string())))
}
