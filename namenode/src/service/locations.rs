//! [`SharedLeases`] and [`hold`]: those who remember where files are wait here for deletes, and deletes for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use richardstore_proto::wire;
use richardstore_proto::{ContentHash, ErrorCode, Hold, HolderId, Sequence, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::location_leases::LocationLeases;
use crate::shared::Shared;

/// A call of a holder is answered after this part of its lease also where nothing was deleted, so that the lease goes on.
const LONGEST_PART: u64 = 3;

/// The leases, and what wakes those who wait for a change of them.
#[derive(Debug)]
pub struct SharedLeases {
    leases: Mutex<LocationLeases>,
    /// A delete began.
    begun: watch::Sender<()>,
    /// A holder was heard of.
    heard: watch::Sender<()>,
}

/// Files that nobody remembers nor may remember, as long as this is there.
#[must_use = "they may be remembered again when this is dropped, which must be after the commit"]
pub struct Forgotten {
    leases: Arc<SharedLeases>,
    files: Vec<(ContentHash, Sequence)>,
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

    /// See [`LocationLeases::may_be_remembered`].
    pub fn may_be_remembered(&self, hash: &ContentHash) -> bool {
        self.lock().may_be_remembered(hash)
    }

    /// Those who may remember something now.
    pub fn holders(&self, now_ms: u64) -> usize {
        self.lock().holders(now_ms)
    }

    fn deletes_begin(self: &Arc<Self>, hashes: &[ContentHash]) -> Forgotten {
        let files = {
            let mut leases = self.lock();
            let begin = |hash: &ContentHash| (*hash, leases.delete_begins(*hash));
            hashes.iter().map(begin).collect()
        };
        self.begun.send_replace(());
        Forgotten {
            leases: self.clone(),
            files,
        }
    }

    /// Never held together with the locks of the two channels.
    fn lock(&self) -> MutexGuard<'_, LocationLeases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        let mut leases = self.leases.lock();
        for (hash, sequence) in &self.files {
            leases.delete_over(*hash, *sequence);
        }
    }
}

impl Shared {
    /// Has all holders forget the files, and waits until they have.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`]: the namenode stops.
    pub async fn forgotten(&self, hashes: &[ContentHash]) -> Result<Forgotten, StoreError> {
        let mut heard = self.leases.heard.subscribe();
        let stopping = self.tasks.stopping();
        let forgotten = self.leases.deletes_begin(hashes);
        let Some((_, newest)) = forgotten.files.last().copied() else {
            return Ok(forgotten);
        };
        loop {
            let now_ms = self.now_ms();
            let until_ms = self.leases.lock().waits_until_ms(newest, now_ms);
            let Some(until_ms) = until_ms else {
                return Ok(forgotten);
            };
            tokio::select! {
                biased;
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
        let longest_wait = Duration::from_millis(shared.config.location_lease_ms / LONGEST_PART);
        tokio::select! {
            biased;
            () = news(leases, &mut begun, holder) => {}
            () = sleep(longest_wait) => {}
            () = stopping.cancelled() => {
                return Err(StoreError::new(ErrorCode::Unavailable, "the namenode stops"));
            }
        }
    }
    let held = leases.lock().tell(holder);
    Ok(held.into())
}

/// Waits until there is something for `holder` to forget.
async fn news(leases: &SharedLeases, begun: &mut watch::Receiver<()>, holder: HolderId) {
    while !leases.lock().has_news(holder) {
        begun.changed().await.expect("the sender is in `leases`");
    }
}
