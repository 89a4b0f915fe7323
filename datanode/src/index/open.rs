//! Opening an index: the one that was closed cleanly, or else a new, empty one and the reason why.
//!
//! Every index has a directory of its own, named after its journal. A sled that was given up may still hold a thread that
//! writes; it can only ever write to a directory that nobody reads any more.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use richardstore_proto::{ContentHash, JournalId, Sequence};
use richardstore_runtime::{SharedEntropy, SystemEntropy};

use super::clean_mark::{CleanMark, CleanRecord};
use super::database::Database;
use super::isolation::catching;
use super::totals::Totals;
use super::{Index, IndexError};

/// Settings of the index.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// Upper bound of the page cache in bytes.
    pub cache_bytes: u64,
    /// How often changes are written out and space is reclaimed, in milliseconds. Nothing depends on it for safety, and
    /// each time costs a sync of the disk that replicas are synced to.
    pub flush_every_ms: u64,
    /// Ids of new journals.
    pub entropy: SharedEntropy,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            flush_every_ms: 5_000,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// An index that is open.
pub struct OpenedIndex {
    /// The index.
    pub index: Index,
    /// `None`: it holds what it held when it was closed. Otherwise it is empty and is to be filled by walking the
    /// directory, see [`Index::restore`].
    pub rebuild: Option<RebuildReason>,
}

/// Why an index was begun anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RebuildReason {
    /// There was none.
    FirstStart,
    /// The last one was not closed.
    NoCleanMark,
    /// The last one could not be opened.
    OpenFailed(String),
    /// The last one does not hold what was written to it.
    Damaged(String),
}

impl fmt::Display for RebuildReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstStart => f.write_str("there was no index yet"),
            Self::NoCleanMark => f.write_str("the index was not closed cleanly"),
            Self::OpenFailed(why) => write!(f, "the index could not be opened: {why}"),
            Self::Damaged(why) => write!(f, "the index was damaged: {why}"),
        }
    }
}

impl From<IndexError> for RebuildReason {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Damaged { .. } => Self::Damaged(error.to_string()),
            _ => Self::OpenFailed(error.to_string()),
        }
    }
}

impl Index {
    /// Opens the index in `dir`, or a new one if it cannot be believed: without the mark at `clean_mark`, after any error
    /// or panic, or of another schema. Takes the mark away before it changes anything.
    ///
    /// Reads all of a clean index once, which takes seconds for a million replicas. Blocks.
    ///
    /// # Errors
    /// Only when no new index can be made either, or the mark not be taken away.
    pub fn open(
        dir: &Path,
        clean_mark: &Path,
        options: &IndexOptions,
    ) -> Result<OpenedIndex, IndexError> {
        let mark = CleanMark::new(clean_mark);
        let reason = match mark.take()? {
            Some(record) => match reopen(dir, &mark, &record, options) {
                Ok(index) => {
                    return Ok(OpenedIndex {
                        index,
                        rebuild: None,
                    });
                }
                Err(error) => error.into(),
            },
            None if dir.try_exists().unwrap_or(true) => RebuildReason::NoCleanMark,
            None => RebuildReason::FirstStart,
        };
        Ok(OpenedIndex {
            index: begin(dir, mark, options)?,
            rebuild: Some(reason),
        })
    }
}

/// The index that `record` vouches for, if it is still exactly that.
fn reopen(
    dir: &Path,
    mark: &CleanMark,
    record: &CleanRecord,
    options: &IndexOptions,
) -> Result<Index, IndexError> {
    let path = dir.join(record.journal_id.to_string());
    // sled makes what is missing.
    if !path.is_dir() {
        return Err(IndexError::Damaged {
            key: path.display().to_string(),
            reason: "the directory is gone".to_owned(),
        });
    }
    catching(|| {
        let database = Database::open(&path, options)?;
        let journal_id = database.journal_id()?;
        let first = database.trimmed_before()?;
        let next = database
            .last_event()?
            .map_or(first, Sequence::next)
            .max(first);
        let totals = scan(&database)?;
        if *record != CleanRecord::new(journal_id, next, &totals) {
            return Err(IndexError::Damaged {
                key: path.display().to_string(),
                reason: "it does not hold what it held when it was closed".to_owned(),
            });
        }
        let mark = mark.clone();
        Ok(Index::new(database, mark, journal_id, first, next, totals).complete())
    })
}

fn begin(dir: &Path, mark: CleanMark, options: &IndexOptions) -> Result<Index, IndexError> {
    let journal_id = JournalId::new(options.entropy.id());
    let path = dir.join(journal_id.to_string());
    remove(dir)
        .and_then(|()| fs::create_dir_all(&path))
        .map_err(|source| IndexError::Io {
            path: dir.to_owned(),
            source,
        })?;
    let database = catching(|| Database::create(&path, options, journal_id))?;
    let (first, totals) = (Sequence(1), Totals::default());
    Ok(Index::new(database, mark, journal_id, first, first, totals))
}

fn scan(database: &Database) -> Result<Totals, IndexError> {
    let mut totals = Totals::default();
    for item in database.replicas(None, ContentHash::MAX) {
        let (hash, record) = item?;
        totals.replace(&hash, None, Some(&record));
    }
    Ok(totals)
}

fn remove(dir: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(dir) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(dir),
        Ok(_) => fs::remove_file(dir),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
