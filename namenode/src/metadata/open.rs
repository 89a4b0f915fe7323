//! Finding the database, or making the first one.
//!
//! A directory holds `LOCK` (one process), `metadata.redb`, and `cluster.json` with the cluster id. The database comes
//! under its name only when it is complete, and before `cluster.json`: a crash between the two leaves a database that says
//! which cluster it is, and the file is written again. The other order would leave a cluster id without a database, which
//! means loss and is refused.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use richardstore_migrations::{ClimbError, SchemaError};
use richardstore_proto::ClusterId;
use richardstore_runtime::Entropy;
use serde::{Deserialize, Serialize};

use super::database::{database_error, open_database};
use super::ledger::Ledger;
use super::new_database::{make, name};
use super::room::Room;

pub(super) const DATABASE: &str = "metadata.redb";
pub(super) const NEW_DATABASE: &str = "metadata.redb.new";
pub(super) const CLUSTER: &str = "cluster.json";
pub(super) const NEW_CLUSTER: &str = "cluster.json.new";
pub(super) const LOCK: &str = "LOCK";
/// Copies of the metadata.
pub const COPIES: &str = "copies";

/// Why there is no metadata to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cluster is known, its database is not there.
    #[error(
        "{path} is missing, but this directory belongs to cluster {cluster_id}: an empty database would take every \
         replica for an orphan. Restore it from a copy, or rebuild it from the datanodes"
    )]
    DatabaseMissing {
        /// Where it should be.
        path: PathBuf,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// Written by a newer build.
    #[error("{path}: {source}")]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Both versions.
        source: SchemaError,
    },
    /// The database and `cluster.json` name different clusters.
    #[error("{path} is of cluster {found}, this directory belongs to cluster {expected}")]
    ForeignCluster {
        /// The database.
        path: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The directory's.
        expected: ClusterId,
    },
    /// A file is damaged, or is something else.
    #[error("{path} is damaged, or no file of a namenode: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has the directory.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The disk or the permissions.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// An older database could not be brought up to date. It is as it was before.
    #[error("{path}: {source}")]
    Migration {
        /// The database.
        path: PathBuf,
        /// Which step failed.
        source: ClimbError,
    },
}

impl OpenError {
    /// The exit code of a process that ends for this reason.
    ///
    /// | code | reason |
    /// |---|---|
    /// | 20 | the cluster is known, its database is missing |
    /// | 21 | the database was written by a newer build |
    /// | 22 | the database is of another cluster |
    /// | 23 | the database is damaged, or no database of a namenode |
    /// | 24 | another process has the directory |
    /// | 25 | the disk or the permissions |
    /// | 26 | the database could not be brought up to date |
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::DatabaseMissing { .. } => 20,
            Self::NewerSchema { .. } => 21,
            Self::ForeignCluster { .. } => 22,
            Self::Damaged { .. } => 23,
            Self::Locked { .. } => 24,
            Self::Io { .. } => 25,
            Self::Migration { .. } => 26,
        }
    }
}

/// An open directory.
pub(super) struct Opened {
    pub ledger: Arc<Ledger>,
    pub cluster_id: ClusterId,
}

/// `cluster.json`.
#[derive(Serialize, Deserialize)]
struct ClusterFile {
    cluster_id: String,
}

/// Locks `dir` and opens its database; makes both where there is nothing yet.
///
/// `reserve_bytes` of the disk stay free.
pub(super) fn open_directory(
    dir: &Path,
    cache_bytes: usize,
    reserve_bytes: u64,
    entropy: &dyn Entropy,
) -> Result<Opened, OpenError> {
    fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
    let lock = lock(dir)?;
    let known = read_cluster(dir)?;
    let path = dir.join(DATABASE);
    let exists = path
        .try_exists()
        .map_err(|source| io_error(&path, source))?;
    if !exists {
        if let Some(cluster_id) = known {
            return Err(OpenError::DatabaseMissing { path, cluster_id });
        }
        make_database(dir, ClusterId::new(entropy.id()))?;
    }
    let (database, found) = open_database(&path, cache_bytes)?;
    match known {
        Some(expected) if expected != found => Err(OpenError::ForeignCluster {
            path,
            found,
            expected,
        }),
        known => {
            if known.is_none() {
                write_cluster(dir, found)?;
            }
            Ok(Opened {
                ledger: Ledger::with_room(
                    database,
                    Room::of(dir.to_owned(), reserve_bytes),
                    Some(lock),
                ),
                cluster_id: found,
            })
        }
    }
}

pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| io_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

pub(super) fn read_cluster(dir: &Path) -> Result<Option<ClusterId>, OpenError> {
    let path = dir.join(CLUSTER);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, source)),
    };
    let damaged = |reason: String| OpenError::Damaged {
        path: path.clone(),
        reason,
    };
    let file: ClusterFile =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    file.cluster_id
        .parse()
        .map(Some)
        .map_err(|error: richardstore_proto::ParseIdError| damaged(error.to_string()))
}

pub(super) fn write_cluster(dir: &Path, cluster_id: ClusterId) -> Result<(), OpenError> {
    let path = dir.join(NEW_CLUSTER);
    let file = ClusterFile {
        cluster_id: cluster_id.to_string(),
    };
    let write = || -> io::Result<()> {
        let mut out = File::create(&path)?;
        out.write_all(&serde_json::to_vec_pretty(&file)?)?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        fs::rename(&path, dir.join(CLUSTER))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| io_error(&path, source))
}

/// Makes an empty database of a new cluster. It gets its name when it is complete and on disk.
fn make_database(dir: &Path, cluster_id: ClusterId) -> Result<(), OpenError> {
    let database = make(dir, cluster_id)?;
    database
        .close()
        .map_err(|error| database_error(&dir.join(NEW_DATABASE), error))?;
    name(dir)
}

pub(super) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::super::audit::audit;
    use super::super::fixture::{
        JOURNAL, allocation, commit, generation, hash, node_id, registration,
    };
    use super::super::tables::{META, META_CLUSTER, META_COUNTERS, META_SCHEMA};
    use super::*;
    use redb::Database;
    use richardstore_migrations::frame;
    use richardstore_runtime::SystemEntropy;

    const CACHE: usize = 1 << 20;

    fn open(dir: &Path) -> Result<Opened, OpenError> {
        open_directory(dir, CACHE, 0, &SystemEntropy)
    }

    /// A directory with one file in it, closed.
    fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path()).unwrap();
        let replies = opened
            .ledger
            .run(&[
                registration(1, 1, JOURNAL),
                allocation(1),
                commit(generation(1), 1, &[1]),
            ])
            .unwrap();
        assert!(replies.iter().all(Result::is_ok), "{replies:?}");
        dir
    }

    fn set_meta(dir: &Path, key: &'static str, frame: &[u8]) {
        let database = Database::open(dir.join(DATABASE)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert(key, frame)
            .unwrap();
        transaction.commit().unwrap();
    }

    fn refused(dir: &Path) -> (u8, String) {
        let error = open(dir).err().expect("it must not open");
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn a_new_directory_becomes_a_cluster_and_stays_that_cluster() {
        let dir = filled();
        let first = open(dir.path()).unwrap();
        let cluster_id = first.cluster_id;
        drop(first);
        let again = open(dir.path()).unwrap();
        assert_eq!(again.cluster_id, cluster_id);
        let view = again.ledger.view().unwrap();
        audit(&view);
        assert!(view.file(&hash(1)).unwrap().is_some());
        assert!(view.node_by_id(&node_id(1)).unwrap().is_some());
        assert!(!dir.path().join(NEW_DATABASE).exists());
    }

    #[test]
    fn i08_a_missing_database_beside_a_known_cluster_is_refused_and_nothing_is_made() {
        let dir = filled();
        fs::remove_file(dir.path().join(DATABASE)).unwrap();
        for _ in 0..2 {
            let (code, words) = refused(dir.path());
            assert_eq!(code, 20);
            assert!(words.contains("metadata.redb"), "{words}");
        }
        assert!(!dir.path().join(DATABASE).exists());
    }

    #[test]
    fn a_crash_before_the_cluster_file_was_written_is_made_good() {
        let dir = filled();
        let cluster_id = open(dir.path()).unwrap().cluster_id;
        fs::remove_file(dir.path().join(CLUSTER)).unwrap();
        fs::write(dir.path().join(NEW_CLUSTER), "{").unwrap();
        assert_eq!(open(dir.path()).unwrap().cluster_id, cluster_id);
        assert_eq!(read_cluster(dir.path()).unwrap(), Some(cluster_id));
    }

    #[test]
    fn a_crash_while_the_database_was_made_leaves_no_database() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NEW_DATABASE), "half a database").unwrap();
        let opened = open(dir.path()).unwrap();
        assert_eq!(opened.ledger.view().unwrap().counts().unwrap().files, 0);
    }

    #[test]
    fn one_directory_has_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path()).unwrap();
        assert_eq!(refused(dir.path()).0, 24);
        let view = opened.ledger.view().unwrap();
        drop(opened);
        assert_eq!(refused(dir.path()).0, 24, "a view still reads the file");
        drop(view);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_versions_named() {
        let dir = filled();
        set_meta(dir.path(), META_SCHEMA, &frame::encode(1, &99u32).unwrap());
        let (code, words) = refused(dir.path());
        assert_eq!(code, 21);
        assert!(words.contains("version 99"), "{words}");
    }

    #[test]
    fn the_database_of_another_cluster_is_refused() {
        let (dir, other) = (filled(), filled());
        fs::copy(other.path().join(DATABASE), dir.path().join(DATABASE)).unwrap();
        assert_eq!(refused(dir.path()).0, 22);
    }

    #[test]
    fn files_that_are_no_database_of_a_namenode_are_refused_and_left_alone() {
        for content in [&b""[..], b"hello", &[0; 8192], &[0xff; 8192]] {
            let dir = filled();
            let path = dir.path().join(DATABASE);
            fs::write(&path, content).unwrap();
            assert_eq!(refused(dir.path()).0, 23, "{content:?}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let dir = filled();
        fs::remove_file(dir.path().join(DATABASE)).unwrap();
        drop(Database::create(dir.path().join(DATABASE)).unwrap());
        assert_eq!(refused(dir.path()).0, 23);
        let dir = filled();
        fs::write(dir.path().join(CLUSTER), "{}").unwrap();
        assert_eq!(refused(dir.path()).0, 23);
    }

    #[test]
    fn damaged_meta_is_refused() {
        for key in [META_SCHEMA, META_CLUSTER, META_COUNTERS] {
            let dir = filled();
            set_meta(dir.path(), key, b"noise");
            assert_eq!(refused(dir.path()).0, 23, "{key}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (code, words) = refused(&file.path().join("below"));
        assert_eq!(code, 25);
        assert!(words.contains("below"), "{words}");
    }
}
