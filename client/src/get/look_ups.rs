//! [`LookUps`]: where files are, as the namenode knows it when it is asked.
//!
//! Nothing of it is kept: a file whose delete was answered is gone for every reader (I3), and no gateway hears of the deletes
//! of the others. What makes a look-up cheap is that those which wait at the same time go in one call.

use richardstore_proto::{ContentHash, ErrorCode, FileLocations, StoreError};
use richardstore_runtime::{JointCalls, Tasks};

use crate::error::ClientError;
use crate::namenode::NameNode;
use crate::retry::INTERACTIVE;

/// Look-ups of one call at most.
const MOST_JOINT: usize = 64;

/// The look-ups of one client.
pub(crate) struct LookUps {
    namenode: NameNode,
    calls: JointCalls<ContentHash, Result<FileLocations, ClientError>>,
}

impl LookUps {
    pub(crate) fn new(namenode: &NameNode, tasks: &Tasks) -> Self {
        let calls = JointCalls::new(tasks, MOST_JOINT, {
            let namenode = namenode.clone();
            move |hashes| {
                let namenode = namenode.clone();
                Box::pin(async move { namenode.locate_all(hashes).await })
            }
        });
        Self {
            namenode: namenode.clone(),
            calls,
        }
    }

    /// Where the file is, by a call that begins after this one.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], or the namenode is away.
    pub(crate) async fn locate(&self, hash: &ContentHash) -> Result<FileLocations, ClientError> {
        let limit = INTERACTIVE.longest();
        match tokio::time::timeout(limit, self.calls.answer(*hash)).await {
            Ok(Some(located)) => located,
            Ok(None) => Err(ClientError::Internal("a look-up was cut off".into())),
            Err(_) => Err(self.namenode.failed("ReadFile")(StoreError::new(
                ErrorCode::Unavailable,
                format!("no answer within {} s", limit.as_secs()),
            ))),
        }
    }
}
