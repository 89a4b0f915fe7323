//! [`Membership`]: the identity in use, and what this datanode has learned of its namenode.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use richardstore_proto::{ClusterId, ErrorCode, NamenodeEpoch, NodeId, StoreError};
use richardstore_runtime::Offload;
use tokio::time::Instant;

use crate::identity::{Identity, IdentityError};
use crate::pipeline::offload_failed;

/// Who this datanode is and whom it obeys.
pub(crate) struct Membership {
    directory: PathBuf,
    identity: Mutex<Identity>,
    namenode_seen: Mutex<Option<Instant>>,
}

impl Membership {
    /// A membership that is kept in `directory` and begins with `identity`.
    pub(crate) fn new(directory: PathBuf, identity: Identity) -> Self {
        Self {
            directory,
            identity: Mutex::new(identity),
            namenode_seen: Mutex::new(None),
        }
    }

    /// The identity as it is now.
    pub(crate) fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This datanode's id.
    pub(crate) fn node_id(&self) -> NodeId {
        self.identity().node_id
    }

    /// Since when the namenode has not been heard of. `None`: never heard.
    pub(crate) fn namenode_silence(&self) -> Option<Duration> {
        self.namenode_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|seen| seen.elapsed())
    }

    /// Refuses bytes of other clusters, and all bytes before this datanode has joined one.
    pub(crate) fn check_cluster(&self, theirs: ClusterId) -> Result<(), StoreError> {
        match self.identity().cluster_id {
            Some(ours) if ours == theirs => Ok(()),
            Some(ours) => Err(IdentityError::WrongCluster { ours, theirs }.into()),
            None => Err(StoreError::new(
                ErrorCode::Unavailable,
                "this datanode has not joined a cluster yet",
            )),
        }
    }

    /// Takes an answer of a namenode of `cluster` and `epoch`. What it teaches is on disk before it is acted on: a
    /// datanode that obeyed a namenode must never obey an older one after a restart (I10).
    pub(crate) async fn meet(
        &self,
        offload: Offload,
        cluster: ClusterId,
        epoch: NamenodeEpoch,
    ) -> Result<(), StoreError> {
        if let Some(met) = self.identity().meet(cluster, epoch)? {
            let directory = self.directory.clone();
            offload
                .run(move || met.save(&directory))
                .await
                .map_err(offload_failed)??;
            *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = met;
        }
        *self
            .namenode_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }
}

impl From<IdentityError> for StoreError {
    fn from(error: IdentityError) -> Self {
        let code = match error {
            IdentityError::File { .. } | IdentityError::Damaged { .. } => ErrorCode::Internal,
            IdentityError::WrongCluster { .. } => ErrorCode::WrongCluster,
            // Worth another try: it is the old namenode that has to go, not this datanode.
            IdentityError::OldNamenode { .. } => ErrorCode::Unavailable,
        };
        StoreError::new(code, error.to_string())
    }
}
