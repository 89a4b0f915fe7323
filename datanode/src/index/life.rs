//! [`Index`]: one index from open to close. Changes take their sequence numbers in the order in which they are committed,
//! without gaps, and the digests always describe exactly what was committed.
//!
//! After the first error of its database an index is broken: it answers nothing more, and leaves no clean mark.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use richardstore_proto::{
    ContentHash, Generation, JournalEvent, JournalId, RangeDigests, ReplicaEntry, Sequence,
};
use richardstore_store::ReplicaMeta;

use super::clean_mark::{CleanMark, CleanRecord};
use super::database::{Change, Database};
use super::isolation::catching;
use super::record::{EventRecord, ReplicaRecord, damaged};
use super::totals::Totals;
use super::{IndexEntry, IndexError};

/// Events that one transaction of a trim removes; between two of them others get their turn.
const TRIM_EVENTS: u64 = 1024;

/// The index of the replicas in a directory, and the journal of their changes. All calls block, for microseconds unless
/// the disk is slow.
pub struct Index {
    journal_id: JournalId,
    mark: CleanMark,
    // `None` once it is closed.
    database: RwLock<Option<Database>>,
    // Held over every change: the order of its holders is the order of the journal.
    state: Mutex<State>,
    complete: AtomicBool,
    broken: OnceLock<String>,
}

struct State {
    first: Sequence,
    next: Sequence,
    totals: Totals,
}

impl Index {
    pub(super) fn new(
        database: Database,
        mark: CleanMark,
        journal_id: JournalId,
        first: Sequence,
        next: Sequence,
        totals: Totals,
    ) -> Self {
        Self {
            journal_id,
            mark,
            database: RwLock::new(Some(database)),
            state: Mutex::new(State {
                first,
                next,
                totals,
            }),
            complete: AtomicBool::new(false),
            broken: OnceLock::new(),
        }
    }

    pub(super) fn complete(self) -> Self {
        self.finish_rebuild();
        self
    }

    /// The journal that sequence numbers of this index belong to.
    pub fn journal_id(&self) -> JournalId {
        self.journal_id
    }

    /// The number that the next event will get.
    pub fn next_sequence(&self) -> Sequence {
        self.state().next
    }

    /// Digests of every (hash, generation) in the index.
    pub fn digests(&self) -> RangeDigests {
        self.state().totals.digests().clone()
    }

    /// Replicas in the index.
    pub fn count(&self) -> u64 {
        self.state().totals.count()
    }

    /// Sum of their sizes in bytes.
    pub fn bytes(&self) -> u64 {
        self.state().totals.bytes()
    }

    /// Whether the index holds all that the directory holds. A report that is made earlier would call the rest missing.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// The error that broke the index, if one did.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Takes in a replica that was published, and journals it. An entry of a newer generation stays, and is journaled again.
    /// To be called under the lock of the hash, so that events of one hash have the order of what happened to its file.
    pub fn add(&self, meta: &ReplicaMeta) -> Result<Sequence, IndexError> {
        self.change(|database, state| {
            let present = database.replica(&meta.hash)?;
            let record = match present {
                Some(newer) if newer.generation > meta.generation => newer,
                _ => ReplicaRecord::of(meta, present.as_ref()),
            };
            let sequence = state.next;
            let event = record.added(meta.hash);
            database.commit(&meta.hash, Change::Put(record), sequence, &event)?;
            state.next = sequence.next();
            state
                .totals
                .replace(&meta.hash, present.as_ref(), Some(&record));
            Ok(sequence)
        })
    }

    /// Takes out a replica that was removed, and journals that, known or not. An entry newer than `generation` stays (I4).
    /// To be called under the lock of the hash.
    pub fn remove(
        &self,
        hash: &ContentHash,
        generation: Generation,
    ) -> Result<Sequence, IndexError> {
        self.change(|database, state| {
            let present = database.replica(hash)?;
            let gone = present.filter(|record| record.generation <= generation);
            let change = match gone {
                Some(_) => Change::Remove,
                None => Change::Keep,
            };
            let event = EventRecord {
                hash: *hash,
                generation,
                size: gone.map_or(0, |record| record.size),
                blake3_root: gone.map(|record| record.blake3_root),
                removed: true,
            };
            let sequence = state.next;
            database.commit(hash, change, sequence, &event)?;
            state.next = sequence.next();
            state.totals.replace(hash, gone.as_ref(), None);
            Ok(sequence)
        })
    }

    /// Takes in a replica that the walk of a rebuild found, without an event: reports find it through the digests. An entry
    /// of a newer generation stays. To be called under the lock of the hash with what is there then: a replica removed
    /// after the walk saw it would come back as an entry without a file.
    pub fn restore(&self, meta: &ReplicaMeta) -> Result<(), IndexError> {
        self.change(|database, state| {
            let present = database.replica(&meta.hash)?;
            let record = ReplicaRecord::of(meta, present.as_ref());
            let newer = present.is_some_and(|present| present.generation > meta.generation);
            if newer || present == Some(record) {
                return Ok(());
            }
            database.put(&meta.hash, &record)?;
            state
                .totals
                .replace(&meta.hash, present.as_ref(), Some(&record));
            Ok(())
        })
    }

    /// Says that the walk of the rebuild has come to its end. Before that, [`Index::close`] leaves no clean mark: half an
    /// index would be believed for ever.
    pub fn finish_rebuild(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Remembers when a replica was last read whole and found right, in milliseconds since the Unix epoch. Of a replica that
    /// is not there any more, nothing is remembered.
    pub fn mark_verified(&self, hash: &ContentHash, at_ms: u64) -> Result<(), IndexError> {
        self.change(|database, _| match database.replica(hash)? {
            Some(mut record) => {
                record.last_verified_ms = Some(at_ms);
                database.put(hash, &record)
            }
            None => Ok(()),
        })
    }

    /// What is known about `hash`.
    pub fn get(&self, hash: &ContentHash) -> Result<Option<IndexEntry>, IndexError> {
        self.read(|database| {
            let record = database.replica(hash)?;
            Ok(record.map(|record| record.entry(*hash)))
        })
    }

    /// At most `limit` replicas in the order of their hashes, `after` exclusive, `through` inclusive.
    pub fn entries(
        &self,
        after: Option<ContentHash>,
        through: ContentHash,
        limit: usize,
    ) -> Result<Vec<ReplicaEntry>, IndexError> {
        self.read(|database| {
            let page = database.replicas(after, through).take(limit);
            page.map(|item| {
                let (hash, record) = item?;
                let generation = record.generation;
                Ok(ReplicaEntry { hash, generation })
            })
            .collect()
        })
    }

    /// At most `limit` events in order, the first of them number `from`; none if `from` is the next one. 0 is taken for 1.
    ///
    /// # Errors
    /// [`IndexError::Trimmed`] if `from` is gone, [`IndexError::Ahead`] if `from` lies behind the next event.
    pub fn events(&self, from: Sequence, limit: usize) -> Result<Vec<JournalEvent>, IndexError> {
        let from = from.max(Sequence(1));
        let next = self.check_from(from)?;
        let length = usize::try_from(next.0 - from.0)
            .unwrap_or(usize::MAX)
            .min(limit);
        let events = self.read(|database| {
            let events = database.events(from).take(length);
            events
                .map(|item| item.map(|(sequence, record)| record.event(sequence)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let expected = (from.0..).take(length);
        if expected.eq(events.iter().map(|event| event.sequence.0)) {
            return Ok(events);
        }
        // A trim that ran meanwhile explains a gap; nothing else does.
        self.check_from(from)?;
        self.read(|_| Err(damaged("journal", from, "an event is missing")))
    }

    /// Forgets the events before `before`: they were acknowledged.
    pub fn trim(&self, before: Sequence) -> Result<(), IndexError> {
        loop {
            let done = self.change(|database, state| {
                let target = before.min(state.next);
                let end = target.min(Sequence(state.first.0.saturating_add(TRIM_EVENTS)));
                if end > state.first {
                    database.trim(state.first, end)?;
                    state.first = end;
                }
                Ok(end >= target)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Closes the index: writes everything out, calls `sync` to make the filesystem durable, and then leaves the clean mark,
    /// unless a rebuild has not come to its end. Every later call answers [`IndexError::Closed`].
    ///
    /// # Errors
    /// After any error there is no mark, and the index will be rebuilt.
    pub fn close(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), IndexError> {
        let database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or(IndexError::Closed)?;
        if let Some(why) = self.broken() {
            return Err(IndexError::Broken(why.to_owned()));
        }
        // sled reclaims space in the background until it is gone; a mark before that would vouch for what still moves.
        database.close()?;
        if !self.is_complete() {
            return Ok(());
        }
        self.mark.sync_before(sync)?;
        let state = self.state();
        let record = CleanRecord::new(self.journal_id, state.next, &state.totals);
        self.mark.leave(&record)
    }

    /// Writes noise over the record of a replica.
    #[cfg(test)]
    pub(super) fn spoil(&self, hash: &ContentHash) {
        self.read(|database| database.spoil(hash)).unwrap();
    }

    /// Refuses a `from` outside of the journal, and returns the number of the next event.
    fn check_from(&self, from: Sequence) -> Result<Sequence, IndexError> {
        self.change(|_, state| {
            let (first, next) = (state.first, state.next);
            if from < first {
                Err(IndexError::Trimmed { first })
            } else if from > next {
                Err(IndexError::Ahead { next })
            } else {
                Ok(next)
            }
        })
    }

    fn change<T>(
        &self,
        work: impl FnOnce(&Database, &mut State) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        self.read(|database| work(database, &mut self.state()))
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = self.broken() {
            return Err(IndexError::Broken(why.to_owned()));
        }
        let database = database.as_ref().ok_or(IndexError::Closed)?;
        let result = catching(|| work(database));
        if let Err(error) = &result
            && error.needs_rebuild()
        {
            // Only the first one counts; what followed it follows from it.
            let _ = self.broken.set(error.to_string());
        }
        result
    }

    // A panic under the lock leaves the state behind the database. It also breaks the index, so nothing comes of it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
