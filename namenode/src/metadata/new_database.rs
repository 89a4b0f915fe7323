//! [`NewDatabase`]: a database in the making. It gets its name, and its directory its cluster id, when it is complete and on
//! disk; until then there is none.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database};
use richardstore_proto::ClusterId;

use super::database::{database_error, format};
use super::ledger::Ledger;
use super::load::LoadError;
use super::open::{
    CLUSTER, COPIES, DATABASE, LOCK, NEW_CLUSTER, NEW_DATABASE, OpenError, io_error, lock,
    read_cluster, write_cluster,
};
use crate::history_log;

/// What may be in a directory that a database is made in: what is left of a namenode whose database is gone.
const LEFT_OVER: [&str; 9] = [
    LOCK,
    CLUSTER,
    NEW_CLUSTER,
    NEW_DATABASE,
    COPIES,
    history_log::NAME,
    history_log::OLD_NAME,
    "lost+found",
    "restore.new",
];

pub(super) struct NewDatabase {
    dir: PathBuf,
    cluster_id: ClusterId,
    pub ledger: Arc<Ledger>,
    // After the ledger: fields are dropped in order.
    _lock: File,
}

impl NewDatabase {
    /// Locks `dir` and begins a database of `cluster_id` there.
    pub fn begin(dir: &Path, cluster_id: ClusterId) -> Result<Self, LoadError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let lock = lock(dir)?;
        check_empty(dir)?;
        if let Some(expected) = read_cluster(dir)?
            && expected != cluster_id
        {
            return Err(LoadError::Open(OpenError::ForeignCluster {
                path: dir.join(CLUSTER),
                found: cluster_id,
                expected,
            }));
        }
        let database = make(dir, cluster_id)?;
        Ok(Self {
            dir: dir.to_owned(),
            cluster_id,
            ledger: Ledger::new(database, None),
            _lock: lock,
        })
    }

    /// Gives it its name.
    pub fn finish(self) -> Result<(), OpenError> {
        let Self {
            dir,
            cluster_id,
            ledger,
            _lock,
        } = self;
        // Closes the file: nothing else holds the ledger.
        drop(ledger);
        // The numbers of datanodes in it mean nothing in a database that is made anew.
        remove_if_there(&dir.join(history_log::NAME))?;
        remove_if_there(&dir.join(history_log::OLD_NAME))?;
        name(&dir)?;
        write_cluster(&dir, cluster_id)
    }
}

/// Begins a database under its temporary name, in place of what a crash left of an earlier one.
pub(super) fn make(dir: &Path, cluster_id: ClusterId) -> Result<Database, OpenError> {
    let path = dir.join(NEW_DATABASE);
    remove_if_there(&path)?;
    let database = Builder::new()
        .create(&path)
        .map_err(|error| database_error(&path, error))?;
    format(&database, cluster_id).map_err(|reason| OpenError::Damaged { path, reason })?;
    Ok(database)
}

fn remove_if_there(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, error)),
        _ => Ok(()),
    }
}

/// Gives a database that is complete and closed its name.
pub(super) fn name(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(NEW_DATABASE);
    let sync = || {
        File::open(&path)?.sync_all()?;
        fs::rename(&path, dir.join(DATABASE))?;
        File::open(dir)?.sync_all()
    };
    sync().map_err(|source| io_error(&path, source))
}

fn check_empty(dir: &Path) -> Result<(), LoadError> {
    let entries = fs::read_dir(dir).map_err(|source| io_error(dir, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| io_error(dir, source))?;
        if !LEFT_OVER.iter().any(|name| entry.file_name() == *name) {
            return Err(LoadError::NotEmpty { path: entry.path() });
        }
    }
    Ok(())
}
