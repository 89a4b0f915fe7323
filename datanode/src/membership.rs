//! [`Membership`]: the identity in use, and what this datanode has learned of its namenode.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use richardstore_proto::{ClusterId, ErrorCode, NamenodeEpoch, NodeId, StoreError};
use richardstore_runtime::Offload;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::identity::{Identity, IdentityError};
use crate::pipeline::offload_failed;

/// A writer waits this long for a datanode that is about to join: the namenode sends writers as soon as it has registered a datanode,
/// which then still has to write down where it belongs.
const JOINING_LIMIT: Duration = Duration::from_secs(5);

/// Who this datanode is and whom it obeys.
pub(crate) struct Membership {
    directory: PathBuf,
    identity: watch::Sender<Identity>,
    namenode_seen: Mutex<Option<Instant>>,
}

impl Membership {
    /// A membership that is kept in `directory` and begins with `identity`.
    pub(crate) fn new(directory: PathBuf, identity: Identity) -> Self {
        Self {
            directory,
            identity: watch::Sender::new(identity),
            namenode_seen: Mutex::new(None),
        }
    }

    /// The identity as it is now.
    pub(crate) fn identity(&self) -> Identity {
        *self.identity.borrow()
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

    /// Refuses bytes of other clusters, and those of a datanode that joins none for a while.
    pub(crate) async fn check_cluster(&self, theirs: ClusterId) -> Result<(), StoreError> {
        if self.identity().cluster_id.is_none() {
            let mut identity = self.identity.subscribe();
            let joined = identity.wait_for(|identity| identity.cluster_id.is_some());
            // Joined or not, what follows says it.
            drop(timeout(JOINING_LIMIT, joined).await);
        }
        let ours = self.cluster_id()?;
        match ours == theirs {
            true => Ok(()),
            false => Err(IdentityError::WrongCluster { ours, theirs }.into()),
        }
    }

    /// The cluster that this datanode has joined.
    pub(crate) fn cluster_id(&self) -> Result<ClusterId, StoreError> {
        self.identity().cluster_id.ok_or_else(|| {
            let message = "this datanode has not joined a cluster yet";
            StoreError::new(ErrorCode::Unavailable, message)
        })
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
            self.identity.send_replace(met);
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

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::SessionEpoch;

    const CLUSTER: ClusterId = ClusterId::new([1; 16]);

    fn membership(directory: &std::path::Path) -> Membership {
        let identity = Identity {
            node_id: NodeId::new([2; 16]),
            cluster_id: None,
            session_epoch: SessionEpoch(1),
            namenode_epoch: NamenodeEpoch(0),
        };
        Membership::new(directory.to_owned(), identity)
    }

    #[tokio::test(start_paused = true)]
    async fn i10_a_writer_that_is_early_waits_until_the_datanode_has_joined() {
        let directory = tempfile::tempdir().unwrap();
        let membership = membership(directory.path());
        let joins = async {
            tokio::time::sleep(JOINING_LIMIT / 2).await;
            let met = membership.meet(Offload::Inline, CLUSTER, NamenodeEpoch(1));
            met.await.unwrap();
        };
        let (checked, ()) = tokio::join!(membership.check_cluster(CLUSTER), joins);
        checked.unwrap();
        let other = membership.check_cluster(ClusterId::new([9; 16])).await;
        assert_eq!(other.unwrap_err().code, ErrorCode::WrongCluster);
    }

    #[tokio::test(start_paused = true)]
    async fn i10_a_datanode_that_joins_no_cluster_takes_no_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let checked = membership(directory.path()).check_cluster(CLUSTER).await;
        assert_eq!(checked.unwrap_err().code, ErrorCode::Unavailable);
    }
}
