//! [`Suspects`]: replicas that were seen to be damaged since the root was opened. Bytes that take the place of one of them do not
//! take away what the operator may want to look at.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use richardstore_proto::ContentHash;

/// Hashes that are remembered. One that finds no room is only forgotten as a suspect: nothing unsound is served for it.
const MAX_SUSPECTS: usize = 4096;

#[derive(Default)]
pub(crate) struct Suspects {
    hashes: Mutex<BTreeSet<ContentHash>>,
}

impl Suspects {
    pub(crate) fn note(&self, hash: &ContentHash) {
        let mut hashes = self.hashes();
        if hashes.len() < MAX_SUSPECTS {
            hashes.insert(*hash);
        }
    }

    /// What has the name now is another file, or was read whole and is right.
    pub(crate) fn forget(&self, hash: &ContentHash) {
        self.hashes().remove(hash);
    }

    pub(crate) fn contains(&self, hash: &ContentHash) -> bool {
        self.hashes().contains(hash)
    }

    pub(crate) fn list(&self) -> Vec<ContentHash> {
        self.hashes().iter().copied().collect()
    }

    fn hashes(&self) -> MutexGuard<'_, BTreeSet<ContentHash>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
