//! [`TakenCopy`]: copies of the namenode's metadata.

use std::time::Duration;

use richardstore_proto::wire::name_node_recovery_client::NameNodeRecoveryClient;
use richardstore_proto::wire::{self, WireError};
use richardstore_proto::{ContentHash, MetadataCopy};
use serde::Serialize;

use crate::client::Client;
use crate::error::ClientError;
use crate::retry::Retry;
use crate::status::as_text;

/// A copy holds everything, is read back, and goes into the store. A second one beside it would help nobody.
const COPYING: Retry = Retry {
    deadline: Duration::from_secs(600),
    give_up_after: Duration::ZERO,
};

/// A copy that the namenode took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakenCopy {
    /// The SHA-256 of its bytes.
    #[serde(serialize_with = "as_text")]
    pub hash: ContentHash,
    /// Its bytes.
    pub size: u64,
    /// When it was taken, milliseconds since the Unix epoch.
    pub taken_ms: u64,
    /// Where it is on the namenode's machine.
    pub path: String,
    /// It is also a file of the store.
    pub stored: bool,
}

impl Client {
    /// Has the namenode take a copy of its metadata now.
    ///
    /// # Errors
    /// The namenode is away, or its disk is full.
    pub async fn take_copy(&self) -> Result<TakenCopy, ClientError> {
        const OPERATION: &str = "TakeCopy";
        let namenode = &self.shared.namenode;
        let channel = namenode.channel().map_err(namenode.failed(OPERATION))?;
        let client = NameNodeRecoveryClient::new(channel);
        let taken = COPYING
            .run(|_| {
                let mut client = client.clone();
                async move { client.take_copy(wire::TakeCopyRequest {}).await }
            })
            .await
            .map_err(namenode.failed(OPERATION))?
            .into_inner();
        let copy = taken
            .copy
            .ok_or(WireError::Missing("copy"))
            .and_then(MetadataCopy::try_from)
            .map_err(namenode.malformed(OPERATION))?;
        Ok(TakenCopy {
            hash: copy.hash,
            size: copy.size,
            taken_ms: copy.taken_ms,
            path: taken.path,
            stored: taken.stored,
        })
    }
}
