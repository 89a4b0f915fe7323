//! [`Database`]: the three sled trees of the index. The only module that names sled.
//!
//! sled 0.34.7 is unmaintained, and its `flush` does not survive a power loss on Linux. Neither costs a file here: what it
//! holds is believed only after a clean close, and can be made again at any time. The exit: another store of ordered keys
//! behind these methods, filled by the same rebuild.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use richardstore_migrations::{DATANODE, DATANODE_SCHEMA};
use richardstore_proto::{ContentHash, JournalId, Sequence};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::isolation::within;
use super::record::{
    EventRecord, ReplicaRecord, damaged, decode, encode, hash_of_key, journal_key, sequence_of_key,
};
use super::{IndexError, IndexOptions};

/// How long sled may take to open. It reads its snapshot and the tail of its log then, a second at most.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// How long sled may take to write out what it holds in memory and stop its thread.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

pub(super) const SCHEMA: &str = "schema";
const JOURNAL_ID: &str = "journal_id";
const TRIMMED_BEFORE: &str = "trimmed_before";

/// What a commit does to the replica beside writing its event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Put(ReplicaRecord),
    Remove,
    Keep,
}

/// An open database.
pub(super) struct Database {
    path: PathBuf,
    // `None` only while it is being closed.
    trees: Option<Trees>,
}

struct Trees {
    database: sled::Db,
    replicas: sled::Tree,
    journal: sled::Tree,
    meta: sled::Tree,
}

impl Database {
    /// A new database in the empty directory `path`.
    pub fn create(
        path: &Path,
        options: &IndexOptions,
        journal_id: JournalId,
    ) -> Result<Self, IndexError> {
        let this = Self::start(path, options)?;
        this.set_meta(SCHEMA, &DATANODE_SCHEMA)?;
        this.set_meta(JOURNAL_ID, &journal_id)?;
        this.set_meta(TRIMMED_BEFORE, &Sequence(1))?;
        Ok(this)
    }

    /// The database in `path`, brought to the newest schema.
    pub fn open(path: &Path, options: &IndexOptions) -> Result<Self, IndexError> {
        let this = Self::start(path, options)?;
        let found: u32 = this.meta(SCHEMA)?;
        let reached = DATANODE
            .climb(&this.trees().database, found)
            .map_err(|error| IndexError::Database(error.to_string()))?;
        if reached != found {
            this.set_meta(SCHEMA, &reached)?;
        }
        Ok(this)
    }

    fn start(path: &Path, options: &IndexOptions) -> Result<Self, IndexError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(Some(options.flush_every_ms));
        let trees = within(OPEN_LIMIT, move || {
            let database = config.open().map_err(database_error)?;
            Ok(Trees {
                replicas: database.open_tree("replicas").map_err(database_error)?,
                journal: database.open_tree("journal").map_err(database_error)?,
                meta: database.open_tree("meta").map_err(database_error)?,
                database,
            })
        })?;
        Ok(Self {
            path: path.to_owned(),
            trees: Some(trees),
        })
    }

    pub fn journal_id(&self) -> Result<JournalId, IndexError> {
        self.meta(JOURNAL_ID)
    }

    /// Events before this were trimmed.
    pub fn trimmed_before(&self) -> Result<Sequence, IndexError> {
        self.meta(TRIMMED_BEFORE)
    }

    pub fn last_event(&self) -> Result<Option<Sequence>, IndexError> {
        let last = self.trees().journal.last().map_err(database_error)?;
        last.map(|(key, _)| sequence_of_key(&key)).transpose()
    }

    pub fn replica(&self, hash: &ContentHash) -> Result<Option<ReplicaRecord>, IndexError> {
        let value = self.trees().replicas.get(hash.as_bytes());
        value
            .map_err(database_error)?
            .map(|bytes| decode("replicas", hash, &bytes))
            .transpose()
    }

    /// Replicas in the order of their hashes, `after` exclusive, `through` inclusive.
    pub fn replicas(
        &self,
        after: Option<ContentHash>,
        through: ContentHash,
    ) -> impl Iterator<Item = Result<(ContentHash, ReplicaRecord), IndexError>> {
        let first = after.map_or(Bound::Unbounded, |hash| Bound::Excluded(*hash.as_bytes()));
        let bounds = (first, Bound::Included(*through.as_bytes()));
        // sled would panic over bounds in the wrong order.
        let range = (after < Some(through)).then(|| self.trees().replicas.range(bounds));
        range.into_iter().flatten().map(|item| {
            let (key, value) = item.map_err(database_error)?;
            let hash = hash_of_key(&key)?;
            Ok((hash, decode("replicas", hash, &value)?))
        })
    }

    /// Events in order, from `from` on.
    pub fn events(
        &self,
        from: Sequence,
    ) -> impl Iterator<Item = Result<(Sequence, EventRecord), IndexError>> {
        let range = self.trees().journal.range(journal_key(from)..);
        range.map(|item| {
            let (key, value) = item.map_err(database_error)?;
            let sequence = sequence_of_key(&key)?;
            Ok((sequence, decode("journal", sequence, &value)?))
        })
    }

    /// Writes a replica without an event.
    pub fn put(&self, hash: &ContentHash, record: &ReplicaRecord) -> Result<(), IndexError> {
        let value = encode(record)?;
        self.trees()
            .replicas
            .insert(hash.as_bytes(), value)
            .map(|_| ())
            .map_err(database_error)
    }

    /// Changes a replica and writes the event of the change. After an error either may be missing: the caller gives the
    /// index up.
    ///
    /// Not a sled transaction: it would only guard against a crash in between, after which nothing here is believed anyway,
    /// and it wakes all of sled's threads for each commit, which made this five times slower.
    pub fn commit(
        &self,
        hash: &ContentHash,
        change: Change,
        sequence: Sequence,
        event: &EventRecord,
    ) -> Result<(), IndexError> {
        let trees = self.trees();
        let event = encode(event)?;
        let inserted = trees.journal.insert(journal_key(sequence), event);
        inserted.map_err(database_error)?;
        match change {
            Change::Put(record) => self.put(hash, &record),
            Change::Remove => {
                let removed = trees.replicas.remove(hash.as_bytes());
                removed.map(|_| ()).map_err(database_error)
            }
            Change::Keep => Ok(()),
        }
    }

    /// Removes the events from `first` to before `before`, and remembers that. After an error either may be missing.
    pub fn trim(&self, first: Sequence, before: Sequence) -> Result<(), IndexError> {
        self.set_meta(TRIMMED_BEFORE, &before)?;
        let mut batch = sled::Batch::default();
        for sequence in first.0..before.0 {
            batch.remove(&journal_key(Sequence(sequence)));
        }
        self.trees()
            .journal
            .apply_batch(batch)
            .map_err(database_error)
    }

    /// Hands everything to the operating system and stops sled; nothing writes to the directory after that. Making it
    /// durable is the caller's.
    pub fn close(mut self) -> Result<(), IndexError> {
        let trees = self.trees.take();
        let path = self.path.clone();
        within(CLOSE_LIMIT, move || {
            if let Some(trees) = &trees {
                trees.database.flush().map_err(database_error)?;
            }
            drop(trees);
            wait_until_unlocked(&path).map_err(|source| IndexError::Io { path, source })
        })
    }

    #[cfg(test)]
    pub fn spoil(&self, hash: &ContentHash) -> Result<(), IndexError> {
        let insert = self.trees().replicas.insert(hash.as_bytes(), b"noise");
        insert.map(|_| ()).map_err(database_error)
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<T, IndexError> {
        let value = self.trees().meta.get(key).map_err(database_error)?;
        let value = value.ok_or_else(|| damaged("meta", key, "it is missing"))?;
        decode("meta", key, &value)
    }

    pub(super) fn set_meta<T: Serialize>(&self, key: &str, value: &T) -> Result<(), IndexError> {
        self.trees()
            .meta
            .insert(key, encode(value)?)
            .map(|_| ())
            .map_err(database_error)
    }

    fn trees(&self) -> &Trees {
        self.trees.as_ref().expect(
            "the trees are only taken by close and drop, which have the database to themselves",
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(trees) = self.trees.take() {
            // Its outcome is of no use to anyone: without a close, what the database holds is not believed again.
            let _ = within(CLOSE_LIMIT, move || {
                drop(trees);
                Ok(())
            });
        }
    }
}

/// Waits until nobody has the database in `path` open. What sled runs on its thread pool holds on to the file after the
/// drop of the database, and may still write.
fn wait_until_unlocked(path: &Path) -> io::Result<()> {
    let file = File::open(path.join("db"))?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            locked => return Ok(locked?),
        }
    }
}

fn database_error(error: sled::Error) -> IndexError {
    IndexError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// An index that is opened as soon as it was closed would otherwise find the file locked, and be rebuilt for nothing.
    #[test]
    fn i09_a_close_ends_only_when_nobody_has_the_file_open() {
        let place = tempfile::tempdir().unwrap();
        let file = File::create(place.path().join("db")).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        let (ended, outcome) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| ended.send(wait_until_unlocked(place.path())).unwrap());
            assert!(outcome.recv_timeout(Duration::from_millis(100)).is_err());
            drop(file);
            let end = outcome.recv_timeout(Duration::from_secs(30)).unwrap();
            end.unwrap();
        });
    }
}
