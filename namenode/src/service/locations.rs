//! [`SharedLeases`] and [`hold`]: those who remember where files are wait here for deletes, and deletes for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use richardstore_proto::wire;
use richardstore_proto::{ContentHash, ErrorCode, Hold, HolderId, Sequence, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::location_leases::{LEASE_MS, LocationLeases};
use crate::shared::Shared;

/// A call of a holder is answered after this also where nothing was deleted, so that its lease goes on.
const LONGEST_WAIT: Duration = Duration::from_millis(LEASE_MS / 3);

/// The leases, and what wakes those who wait for a change of them.
#[derive(Debug)]
pub struct SharedLeases {
    leases: Mutex<LocationLeases>,
    /// A delete began.
    begun: watch::Sender<()>,
    /// A holder was heard of.
    heard: watch::Sender<()>,
}

/// A file that nobody remembers nor may remember, as long as this is there.
pub struct Forgotten<'a> {
    leases: &'a SharedLeases,
    hash: ContentHash,
    sequence: Sequence,
}

impl SharedLeases {
    /// Nobody waits.
    pub fn new(leases: LocationLeases) -> Self {
        Self {
            leases: Mutex::new(leases),
            begun: watch::Sender::new(()),
            heard: watch::Sender::new(()),
        }
    }

    /// See [`LocationLeases::may_be_remembered`], of each.
    pub fn may_be_remembered<'h>(
        &self,
        hashes: impl IntoIterator<Item = &'h ContentHash>,
    ) -> Vec<bool> {
        let leases = self.lock();
        let hashes = hashes.into_iter();
        hashes.map(|hash| leases.may_be_remembered(hash)).collect()
    }

    /// Those who may remember something now.
    pub fn holders(&self, now_ms: u64) -> usize {
        self.lock().holders(now_ms)
    }

    fn delete_begins(&self, hash: ContentHash) -> Forgotten<'_> {
        let sequence = self.lock().delete_begins(hash);
        self.begun.send_replace(());
        Forgotten {
            leases: self,
            hash,
            sequence,
        }
    }

    /// Never held together with the locks of the two channels.
    fn lock(&self) -> MutexGuard<'_, LocationLeases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.leases.lock().delete_over(self.hash, self.sequence);
    }
}

impl Shared {
    /// Has all holders forget the file, and waits until they have.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`]: the namenode stops.
    pub async fn forgotten(&self, hash: ContentHash) -> Result<Forgotten<'_>, StoreError> {
        let mut heard = self.leases.heard.subscribe();
        let stopping = self.tasks.stopping();
        let forgotten = self.leases.delete_begins(hash);
        loop {
            let now_ms = self.now_ms();
            let until_ms = self
                .leases
                .lock()
                .waits_until_ms(forgotten.sequence, now_ms);
            let Some(until_ms) = until_ms else {
                return Ok(forgotten);
            };
            tokio::select! {
                changed = heard.changed() => changed.expect("the sender is behind `self`"),
                () = sleep(Duration::from_millis(until_ms - now_ms)) => {}
                () = stopping.cancelled() => {
                    return Err(StoreError::new(ErrorCode::Unavailable, "the namenode stops"));
                }
            }
        }
    }
}

/// A holder says what it has forgotten, and hears what it has to forget next.
pub async fn hold(
    shared: &Shared,
    request: wire::HoldLocationsRequest,
) -> Result<wire::HoldLocationsResponse, StoreError> {
    let hold = Hold::from(request);
    let leases = &shared.leases;
    if hold.release {
        if let Some(holder) = hold.holder {
            leases.lock().released(holder);
        }
        leases.heard.send_replace(());
        return Ok(wire::HoldLocationsResponse::default());
    }
    let mut begun = leases.begun.subscribe();
    let holder = leases.lock().asked(&hold, shared.now_ms())?;
    leases.heard.send_replace(());
    // One that is new is told at once who it is.
    if hold.holder == Some(holder) {
        let stopping = shared.tasks.stopping();
        tokio::select! {
            () = news(leases, &mut begun, holder) => {}
            () = sleep(LONGEST_WAIT) => {}
            () = stopping.cancelled() => {
                return Err(StoreError::new(ErrorCode::Unavailable, "the namenode stops"));
            }
        }
    }
    let held = leases.lock().told(holder);
    Ok(held.into())
}

/// Waits until there is something for `holder` to forget.
async fn news(leases: &SharedLeases, begun: &mut watch::Receiver<()>, holder: HolderId) {
    while !leases.lock().has_news(holder) {
        begun.changed().await.expect("the sender is in `leases`");
    }
}
