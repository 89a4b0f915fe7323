//! [`CopyShelf`]: the store, as the namenode sees it when it puts a copy of its metadata there. The namenode is no client of
//! itself; whoever starts it may give it one.

use std::path::Path;

use richardstore_proto::{ContentHash, StoreError};

/// Where copies are stored as files.
#[tonic::async_trait]
pub trait CopyShelf: Send + Sync {
    /// Stores the file at `path`, whose bytes have this hash.
    ///
    /// # Errors
    /// The store does not take it now.
    async fn put(&self, path: &Path, hash: ContentHash) -> Result<(), StoreError>;

    /// Deletes a file that is there no more reason to keep. One that is not there is fine.
    ///
    /// # Errors
    /// The store does not answer.
    async fn remove(&self, hash: ContentHash) -> Result<(), StoreError>;
}
