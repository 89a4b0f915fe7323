//! The database file itself: its first rows, and what is checked before any of it is believed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, Database, DatabaseError, ReadableDatabase};
use richardstore_failpoint::failpoint;
use richardstore_migrations::{ClimbError, NAMENODE, NAMENODE_SCHEMA};
use richardstore_proto::ClusterId;

use super::codec;
use super::counters::Counters;
use super::open::{OpenError, io_error};
use super::tables::{
    META, META_CLUSTER, META_COUNTERS, META_SCHEMA, Tables, ViewError, check_tables,
};
use super::upgrade::keep_copy;

/// Writes the tables and first rows of a new database.
pub(super) fn format(database: &Database, cluster_id: ClusterId) -> Result<(), String> {
    fn words(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let mut transaction = database.begin_write().map_err(words)?;
    transaction.set_quick_repair(true);
    {
        let mut tables = Tables::open(&transaction).map_err(words)?;
        let rows = [
            (META_SCHEMA, codec::encode(META_SCHEMA, &NAMENODE_SCHEMA)),
            (META_CLUSTER, codec::encode(META_CLUSTER, &cluster_id)),
            (
                META_COUNTERS,
                codec::encode(META_COUNTERS, &Counters::default()),
            ),
        ];
        for (key, frame) in rows {
            let frame = frame.map_err(words)?;
            tables.meta.insert(key, frame.as_slice()).map_err(words)?;
        }
    }
    transaction.commit().map_err(words)
}

/// Opens the file and checks that it is a database of a namenode that this build can work with.
pub(super) fn open_database(
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, ClusterId), OpenError> {
    let keep = |schema| keep_copy(path, schema).map(drop);
    checked(path, keep, || {
        Builder::new()
            .set_cache_size(cache_bytes)
            .set_repair_callback(|_| {
                tracing::warn!("the database was not saved for a quick open; checking all of it");
            })
            .open(path)
    })
}

/// What `open` opens, if it is a database of a namenode. One of an older schema is brought to the newest, after `keep` was
/// told of its schema. redb may panic over a damaged file: that is an error too.
pub(super) fn checked(
    path: &Path,
    keep: impl FnOnce(u32) -> Result<(), OpenError>,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<(Database, ClusterId), OpenError> {
    let open = || {
        let database = open().map_err(|error| database_error(path, error))?;
        let cluster_id = check(&database, path, keep)?;
        Ok((database, cluster_id))
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        Err(OpenError::Damaged {
            path: path.to_owned(),
            reason: "opening it panicked".to_owned(),
        })
    })
}

fn check(
    database: &Database,
    path: &Path,
    keep: impl FnOnce(u32) -> Result<(), OpenError>,
) -> Result<ClusterId, OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let found = found_schema(database, path)?;
    let steps = NAMENODE.steps_from(found);
    if !steps
        .map_err(|source| not_climbed(path, source))?
        .is_empty()
    {
        keep(found)?;
        take_steps(database, path, found)?;
    }
    let snapshot = database
        .begin_read()
        .map_err(|error| damaged(error.to_string()))?;
    check_tables(&snapshot).map_err(|error| damaged(error.to_string()))?;
    let _: Counters = read_meta(database, META_COUNTERS).map_err(damaged)?;
    read_meta(database, META_CLUSTER).map_err(damaged)
}

/// The schema of a database, of whatever version wrote it.
pub(super) fn found_schema(database: &Database, path: &Path) -> Result<u32, OpenError> {
    read_meta(database, META_SCHEMA).map_err(|reason| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    })
}

/// The steps and the new number in one transaction: they come together or not at all.
pub(super) fn take_steps(database: &Database, path: &Path, found: u32) -> Result<(), OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let mut transaction = database
        .begin_write()
        .map_err(|error| damaged(error.to_string()))?;
    transaction.set_quick_repair(true);
    let reached = NAMENODE.climb(&transaction, found);
    let reached = reached.map_err(|source| not_climbed(path, source))?;
    let store = || -> Result<(), ViewError> {
        let mut meta = transaction.open_table(META)?;
        let frame = codec::encode(META_SCHEMA, &reached)?;
        meta.insert(META_SCHEMA, frame.as_slice())?;
        Ok(())
    };
    store().map_err(|error| damaged(error.to_string()))?;
    failpoint("namenode-steps-taken");
    transaction
        .commit()
        .map_err(|error| damaged(error.to_string()))?;
    failpoint("namenode-steps-committed");
    tracing::info!(from = found, to = reached, "the database has a new schema");
    Ok(())
}

fn not_climbed(path: &Path, source: ClimbError) -> OpenError {
    let path = path.to_owned();
    match source {
        ClimbError::Schema { source, .. } => OpenError::NewerSchema { path, source },
        source => OpenError::Migration { path, source },
    }
}

fn read_meta<T: serde::de::DeserializeOwned>(
    database: &Database,
    key: &'static str,
) -> Result<T, String> {
    let read = || -> Result<T, ViewError> {
        let meta = database.begin_read()?.open_table(META)?;
        let frame = meta
            .get(key)?
            .ok_or_else(|| ViewError::Corrupt(format!("meta has no {key}")))?;
        codec::decode(format_args!("meta {key}"), frame.value())
    };
    read().map_err(|error| error.to_string())
}

pub(super) fn database_error(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked {
            path: path.to_owned(),
        },
        DatabaseError::Storage(redb::StorageError::Io(source)) if !is_damage(&source) => {
            io_error(path, source)
        }
        other => OpenError::Damaged {
            path: path.to_owned(),
            reason: other.to_string(),
        },
    }
}

/// Whether the disk did nothing wrong: what is written points to places that do not exist.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::super::crash_disk::CrashDisk;
    use super::super::fixture::{JOURNAL, allocation, commit, generation, hash, registration};
    use super::super::ledger::Ledger;
    use super::*;
    use crate::record::NodeIndex;

    fn on_disk(disk: &CrashDisk) -> Result<Database, DatabaseError> {
        Builder::new().create_with_backend(disk.backend())
    }

    /// The bytes of a database with one file in it.
    fn filled() -> Vec<u8> {
        let disk = CrashDisk::default();
        let database = on_disk(&disk).unwrap();
        format(&database, ClusterId::new([1; 16])).unwrap();
        let ledger = Ledger::new(database, None);
        let replies = ledger.run(&[
            registration(1, 1, JOURNAL),
            allocation(1),
            commit(generation(1), 1, &[1]),
        ]);
        assert!(replies.unwrap().iter().all(Result::is_ok));
        disk.bytes()
    }

    #[test]
    fn a_page_behind_the_end_is_damage_and_a_disk_that_fails_is_none() {
        let of = |kind: io::ErrorKind| {
            let error = DatabaseError::Storage(redb::StorageError::Io(kind.into()));
            database_error(Path::new("d"), error).exit_code()
        };
        assert_eq!(of(io::ErrorKind::UnexpectedEof), 23);
        assert_eq!(of(io::ErrorKind::PermissionDenied), 25);
    }

    #[test]
    fn flipped_bits_anywhere_never_panic_and_never_invent_a_command() {
        let intact = filled();
        for flip in 0..400usize {
            // Spread over the file, denser where its first pages are.
            let at = match flip % 2 {
                0 => flip * 37,
                _ => flip * intact.len() / 400,
            };
            let mut bytes = intact.clone();
            bytes[at % intact.len()] ^= 1 << (flip % 8);
            let disk = CrashDisk::holding(bytes);
            if let Ok((database, _)) = checked(Path::new("flipped"), |_| Ok(()), || on_disk(&disk))
                && let Ok(view) = Ledger::new(database, None).view()
            {
                let _ = view.file(&hash(1));
                let commands = view.commands(NodeIndex(1), &[], u64::MAX, 10);
                assert!(commands.is_err() || commands.is_ok_and(|list| list.is_empty()));
            }
        }
    }
}
