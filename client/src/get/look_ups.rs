//! [`LookUps`]: where files are. Those that wait at the same time go in one call, and where the client is one that remembers,
//! what was answered a moment ago needs none.

use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::{ContentHash, ErrorCode, FileLocations, LocatedFile, StoreError};
use richardstore_runtime::{JointCalls, Tasks};
use tokio::time::Instant;

use super::known_locations::{KnownLocations, LookUpCounts};
use crate::error::ClientError;
use crate::namenode::NameNode;
use crate::retry::INTERACTIVE;

/// Look-ups of one call at most.
const MOST_JOINT: usize = 64;
/// Before the lease is asked for again when that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The look-ups of one client.
pub(crate) struct LookUps {
    namenode: NameNode,
    tasks: Tasks,
    known: Arc<KnownLocations>,
    calls: JointCalls<ContentHash, Result<LocatedFile, ClientError>>,
}

impl LookUps {
    /// Of a client that remembers `capacity` files.
    pub(crate) fn new(namenode: &NameNode, tasks: &Tasks, capacity: usize) -> Self {
        let calls = JointCalls::new(tasks, MOST_JOINT, {
            let namenode = namenode.clone();
            move |hashes| {
                let namenode = namenode.clone();
                Box::pin(async move { namenode.locate_all(hashes).await })
            }
        });
        Self {
            namenode: namenode.clone(),
            tasks: tasks.clone(),
            known: Arc::new(KnownLocations::new(capacity)),
            calls,
        }
    }

    /// Where the file is, and whether that is remembered: then the namenode was not asked.
    ///
    /// # Errors
    /// As [`LookUps::locate`].
    pub(crate) async fn find(
        &self,
        hash: &ContentHash,
    ) -> Result<(FileLocations, bool), ClientError> {
        match self.known.find(hash) {
            Some(remembered) => Ok((remembered, true)),
            None => Ok((self.locate(hash).await?, false)),
        }
    }

    /// Where the file is, by a call that begins after this one.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], or the namenode is away.
    pub(crate) async fn locate(&self, hash: &ContentHash) -> Result<FileLocations, ClientError> {
        let (ticket, begins) = self.known.begin(hash);
        if begins {
            let keeping = keep_lease(
                self.known.clone(),
                self.namenode.clone(),
                self.tasks.clone(),
            );
            self.tasks.spawn(keeping);
        }
        let limit = INTERACTIVE.longest();
        match tokio::time::timeout(limit, self.calls.answer(*hash)).await {
            Ok(Some(located)) => {
                let located = located?;
                self.known.remember(ticket, &located);
                Ok(located.locations)
            }
            Ok(None) => Err(ClientError::Internal("a look-up was cut off".into())),
            Err(_) => Err(self.namenode.failed("ReadFile")(StoreError::new(
                ErrorCode::Unavailable,
                format!("no answer within {} s", limit.as_secs()),
            ))),
        }
    }

    /// A replica of the file failed: the next who reads it asks the namenode.
    pub(crate) fn forget(&self, hash: &ContentHash) {
        self.known.forget(hash);
    }

    /// Since the start.
    pub(crate) fn counts(&self) -> LookUpCounts {
        self.known.counts()
    }
}

/// Keeps the lease under which `known` is used, until nobody needs it or the client closes.
async fn keep_lease(known: Arc<KnownLocations>, namenode: NameNode, tasks: Tasks) {
    let stopping = tasks.stopping();
    let gives_back = loop {
        let hold = match known.next_call() {
            Ok(hold) => hold,
            Err(gives_back) => break gives_back,
        };
        let sent = Instant::now();
        let held = tokio::select! {
            held = namenode.hold_locations(hold) => held,
            () = stopping.cancelled() => break known.give_back(),
        };
        match held {
            Ok(held) => known.answered(sent, held),
            // What is remembered is not used any more when the lease has run out, so this costs calls and nothing else.
            Err(error) => {
                tracing::debug!(%error, "no lease to remember where files are");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stopping.cancelled() => break known.give_back(),
                }
            }
        }
    };
    // One that does not arrive costs a delete the time until the lease has run out.
    if gives_back.holder.is_some()
        && let Err(error) = namenode.hold_locations(gives_back).await
    {
        tracing::debug!(%error, "the lease was not given back");
    }
}
