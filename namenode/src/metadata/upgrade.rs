//! [`Upgrade`]: the schema of a stopped namenode's database, and the way from one to another and back.
//!
//! A database of an older schema is copied before its first step, durably and under a name of its own; the steps and the
//! new schema number are one transaction. So a crash at any moment leaves the old database or the new one, and the copy is
//! there until the operator is content. What was committed after the steps is not in the copy: going back is refused then,
//! unless the operator says that it may be lost.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase};
use richardstore_failpoint::failpoint;
use richardstore_migrations::{ClimbError, NAMENODE, NAMENODE_SCHEMA};

use super::codec;
use super::counters::Counters;
use super::database::{database_error, found_schema, take_steps};
use super::open::{DATABASE, OpenError, io_error, lock};
use super::recovery::{EPOCH_LEAP, LEAP};
use super::tables::{META, META_COUNTERS, ViewError};

/// Memory for the pages of a database that is only being upgraded, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Name of a copy, before the number of its schema.
const COPY: &str = "metadata.redb.schema-";
const UNFINISHED: &str = ".new";

/// Why a schema stayed as it is.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no database.
    #[error("{0} is not there: this is no directory of a namenode")]
    NoDatabase(PathBuf),
    /// There are no steps to that schema.
    #[error(
        "the database has schema {found}, this build can bring it to {known}: there is no way to {to}"
    )]
    NoWay {
        /// The database's.
        found: u32,
        /// The newest.
        known: u32,
        /// What was asked for.
        to: u32,
    },
    /// Nothing was kept.
    #[error("{0} has no copy of an older schema to go back to")]
    NoCopy(PathBuf),
    /// Going back would lose what was committed since.
    #[error(
        "the database changed after its upgrade: going back to {path} loses every upload and delete since. Where that may \
         be, say so with --discard-changes"
    )]
    Changed {
        /// The copy.
        path: PathBuf,
    },
}

/// A copy of the database as it was before an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCopy {
    /// Its schema.
    pub schema: u32,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// How it stands with a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeStatus {
    /// The schema of the database.
    pub found: u32,
    /// The newest that this build knows.
    pub known: u32,
    /// The steps between them: schema, and what changes.
    pub steps: Vec<(u32, &'static str)>,
    /// What was kept, oldest schema first.
    pub copies: Vec<KeptCopy>,
}

/// The directory of a stopped namenode. No namenode starts on it as long as this lives.
pub struct Upgrade {
    dir: PathBuf,
    path: PathBuf,
    _lock: File,
}

impl Upgrade {
    /// Takes the directory.
    ///
    /// # Errors
    /// It is in use, or holds no database.
    pub fn open(dir: &Path) -> Result<Self, UpgradeError> {
        let path = dir.join(DATABASE);
        if !path.is_file() && kept_copies(dir)?.is_empty() {
            return Err(UpgradeError::NoDatabase(path));
        }
        Ok(Self {
            _lock: lock(dir)?,
            dir: dir.to_owned(),
            path,
        })
    }

    /// What there is, and what there is to do.
    ///
    /// # Errors
    /// The database is damaged or cannot be read. A schema that is newer than known is no error: there is nothing to do.
    pub fn status(&self) -> Result<UpgradeStatus, UpgradeError> {
        let found = found_schema(&self.database()?, &self.path)?;
        let steps = NAMENODE.steps_from(found).unwrap_or_default();
        Ok(UpgradeStatus {
            found,
            known: NAMENODE_SCHEMA,
            steps: steps.iter().map(|step| (step.to, step.summary)).collect(),
            copies: kept_copies(&self.dir)?,
        })
    }

    /// Takes all steps and throws the result away: whether they would succeed, without a change.
    ///
    /// # Errors
    /// As [`Upgrade::climb`].
    pub fn rehearse(&self) -> Result<(), UpgradeError> {
        let database = self.database()?;
        let found = found_schema(&database, &self.path)?;
        let failed = |reason: String| OpenError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let transaction = database
            .begin_write()
            .map_err(|error| failed(error.to_string()))?;
        let climbed = NAMENODE.climb(&transaction, found);
        transaction
            .abort()
            .map_err(|error| failed(error.to_string()))?;
        climbed.map_err(|source| self.not_climbed(source))?;
        Ok(())
    }

    /// Keeps a copy and takes the steps to schema `to`, which is the newest. `false`: it has that schema already.
    ///
    /// # Errors
    /// No way leads there, there is no room for the copy, or a step failed. The database is as it was, then.
    pub fn climb(&self, to: u32) -> Result<bool, UpgradeError> {
        let database = self.database()?;
        let found = found_schema(&database, &self.path)?;
        if to != NAMENODE_SCHEMA || found > to {
            return Err(UpgradeError::NoWay {
                found,
                known: NAMENODE_SCHEMA,
                to,
            });
        }
        if found == to {
            return Ok(false);
        }
        keep_copy(&self.path, found)?;
        take_steps(&database, &self.path, found)?;
        Ok(true)
    }

    /// Removes what was kept: there is no way back from here. Returns what it removed.
    ///
    /// # Errors
    /// The database has an older schema yet, or the disk fails.
    pub fn finalize(&self) -> Result<Vec<KeptCopy>, UpgradeError> {
        let status = self.status()?;
        if !status.steps.is_empty() {
            return Err(UpgradeError::NoWay {
                found: status.found,
                known: status.known,
                to: status.found,
            });
        }
        for copy in &status.copies {
            fs::remove_file(&copy.path).map_err(|source| io_error(&copy.path, source))?;
        }
        sync_directory(&self.dir)?;
        Ok(status.copies)
    }

    /// Puts the newest copy of an older schema back in the place of the database, and returns it.
    ///
    /// # Errors
    /// [`UpgradeError::NoCopy`]; [`UpgradeError::Changed`] unless `discard_changes`.
    pub fn roll_back(&self, discard_changes: bool) -> Result<KeptCopy, UpgradeError> {
        let copies = kept_copies(&self.dir)?;
        // A database that cannot be read at all is the reason for going back, not an obstacle to it.
        let found = self
            .database()
            .ok()
            .and_then(|database| found_schema(&database, &self.path).ok());
        let older = |copy: &KeptCopy| found.is_none_or(|found| copy.schema < found);
        let copy = copies.into_iter().rfind(older);
        let copy = copy.ok_or_else(|| UpgradeError::NoCopy(self.dir.clone()))?;
        let reached = counters(&self.path).ok();
        if reached != Some(counters(&copy.path)?) {
            if !discard_changes {
                return Err(UpgradeError::Changed { path: copy.path });
            }
            hand_on(&copy.path, reached)?;
        }
        fs::rename(&copy.path, &self.path).map_err(|source| io_error(&copy.path, source))?;
        sync_directory(&self.dir)?;
        Ok(copy)
    }

    fn database(&self) -> Result<Database, OpenError> {
        open(&self.path)
    }

    fn not_climbed(&self, source: ClimbError) -> UpgradeError {
        let path = self.path.clone();
        UpgradeError::Open(OpenError::Migration { path, source })
    }
}

/// Copies the database at `path`, which has the schema `schema`, durably and under its own name. What an earlier try left is
/// replaced: the database may have changed since, under the version that wrote it.
pub(super) fn keep_copy(path: &Path, schema: u32) -> Result<PathBuf, OpenError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let kept = dir.join(format!("{COPY}{schema}"));
    let unfinished = dir.join(format!("{COPY}{schema}{UNFINISHED}"));
    let copy = || -> io::Result<()> {
        fs::copy(path, &unfinished)?;
        File::open(&unfinished)?.sync_all()?;
        failpoint("namenode-copy-written");
        fs::rename(&unfinished, &kept)
    };
    if let Err(source) = copy() {
        // Half a copy is of use to nobody, and its room may be what is missing.
        let _ = fs::remove_file(&unfinished);
        return Err(io_error(&unfinished, source));
    }
    sync_directory(dir)?;
    failpoint("namenode-copy-kept");
    tracing::info!(copy = %kept.display(), "kept the database as it was before its upgrade");
    Ok(kept)
}

fn open(path: &Path) -> Result<Database, OpenError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .open(path)
        .map_err(|error| database_error(path, error))
}

/// Every mutation changes the counters, and no step does: equal ones are an unchanged database.
fn counters(path: &Path) -> Result<Counters, OpenError> {
    let database = open(path)?;
    let read = || Counters::read(&database.begin_read()?.open_table(META)?);
    read().map_err(|error| damaged(path, &error))
}

/// Lets the database at `path` go on behind what another one handed out since they were the same. Datanodes obey no older
/// epoch than the newest they met (I10), and a generation or command that is handed out twice would be taken for the first
/// one. Where it is not known how far the other one `reached`, it is leapt over.
fn hand_on(path: &Path, reached: Option<Counters>) -> Result<(), OpenError> {
    let database = open(path)?;
    let write = || -> Result<(), ViewError> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let mut counters = Counters::read(&meta)?;
            let (epoch, generation, command) = match reached {
                Some(reached) => (reached.epoch, reached.next_generation, reached.next_command),
                None => (
                    counters.epoch.saturating_add(EPOCH_LEAP),
                    counters.next_generation.saturating_add(LEAP),
                    counters.next_command.saturating_add(LEAP),
                ),
            };
            counters.epoch = counters.epoch.max(epoch);
            counters.next_generation = counters.next_generation.max(generation);
            counters.next_command = counters.next_command.max(command);
            let frame = codec::encode("meta counters", &counters)?;
            meta.insert(META_COUNTERS, frame.as_slice())?;
        }
        let committed = transaction.commit();
        committed.map_err(|error| ViewError::Storage(error.to_string()))
    };
    write().map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &ViewError) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn kept_copies(dir: &Path) -> Result<Vec<KeptCopy>, OpenError> {
    let wrap = |source| io_error(dir, source);
    let mut copies = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(COPY));
        let Some(schema) = number.and_then(|number| number.parse().ok()) else {
            continue;
        };
        copies.push(KeptCopy {
            schema,
            path: entry.path(),
            bytes: entry.metadata().map_err(wrap)?.len(),
        });
    }
    copies.sort_by_key(|copy| copy.schema);
    Ok(copies)
}

fn sync_directory(dir: &Path) -> Result<(), OpenError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| io_error(dir, source))
}

#[cfg(test)]
mod tests;
