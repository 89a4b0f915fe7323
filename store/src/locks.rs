//! [`HashLocks`]: one exact lock for each hash. Two hashes never wait for each other, so that a thread that holds one lock and
//! waits for a shared sync does not hold up an unrelated file.

use std::collections::HashSet;
use std::sync::PoisonError;

use richardstore_proto::ContentHash;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Only bounds how many threads meet at one mutex for an instant; it has no influence on who waits for whom.
const SHARDS: usize = 64;

/// The locks of all hashes. Memory is used for those that are held.
pub(crate) struct HashLocks {
    shards: Vec<Shard>,
}

#[derive(Default)]
struct Shard {
    held: Mutex<HashSet<ContentHash>>,
    released: Condvar,
}

/// A held lock.
pub(crate) struct HashGuard<'a> {
    shard: &'a Shard,
    hash: ContentHash,
}

impl Default for HashLocks {
    fn default() -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
        }
    }
}

impl HashLocks {
    /// Waits until nobody holds `hash`, then holds it. Not reentrant.
    pub(crate) fn lock(&self, hash: &ContentHash) -> HashGuard<'_> {
        let shard = self.shard(hash);
        let mut held = shard.held();
        while !held.insert(*hash) {
            held = shard
                .released
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
        HashGuard { shard, hash: *hash }
    }

    /// Holds `hash` if nobody does.
    pub(crate) fn try_lock(&self, hash: &ContentHash) -> Option<HashGuard<'_>> {
        let shard = self.shard(hash);
        let inserted = shard.held().insert(*hash);
        inserted.then(|| HashGuard { shard, hash: *hash })
    }

    fn shard(&self, hash: &ContentHash) -> &Shard {
        // The last byte: the first one is equal for all hashes of a report range.
        &self.shards[usize::from(hash.as_bytes()[31]) % SHARDS]
    }
}

impl Shard {
    fn held(&self) -> MutexGuard<'_, HashSet<ContentHash>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HashGuard<'_> {
    fn drop(&mut self) {
        self.shard.held().remove(&self.hash);
        // All of them: the waiters of a shard wait for different hashes.
        self.shard.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_hash_has_one_holder_at_a_time() {
        let locks = HashLocks::default();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let _guard = locks.lock(&ContentHash::EMPTY);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(locks.shard(&ContentHash::EMPTY).held().is_empty());
    }

    #[test]
    fn hashes_of_one_shard_do_not_wait_for_each_other() {
        let locks = HashLocks::default();
        let mut other = *ContentHash::MIN.as_bytes();
        other[0] = 1;
        let _held = locks.lock(&ContentHash::MIN);
        let _free = locks.lock(&ContentHash::new(other));
        assert!(locks.try_lock(&ContentHash::MIN).is_none());
    }

    #[test]
    fn a_panic_under_the_lock_releases_it() {
        let locks = HashLocks::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = locks.lock(&ContentHash::EMPTY);
            panic!("under the lock");
        }));
        assert!(panicked.is_err());
        assert!(locks.try_lock(&ContentHash::EMPTY).is_some());
    }
}
