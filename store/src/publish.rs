//! [`apply_durably`]: the one function that changes names in the tree.
//!
//! Order, and why: (1) contents and records are synced, so that no name ever leads to bytes that a power loss can take
//! back; (2) names change, by rename and unlink, each atomic; (3) the directories are synced; only then does anyone
//! hear of success. A crash before (3) leaves each file absent or whole. Only one thread at a time runs this (see
//! [`crate::batch`]), so that pruning an empty directory cannot race a rename into it.

use std::io;
use std::path::{Path, PathBuf};

use richardstore_failpoint::failpoint;

use crate::WriteError;
use crate::temp::TempFile;
use crate::volume::Volume;

/// A change of a name.
pub(crate) enum Change {
    /// The temp file gets its final name. What has that name is damaged where it is to be kept, under another one.
    Publish {
        temp: TempFile,
        target: PathBuf,
        keep: Option<PathBuf>,
    },
    /// The file goes to another directory, where nothing has its new name.
    Move { from: PathBuf, to: PathBuf },
    /// The file goes.
    Remove { path: PathBuf },
}

/// What has to be synced after a change.
struct Changed {
    directory: PathBuf,
    /// Whether other directories changed too.
    others_too: bool,
}

/// Carries out `changes` and makes them durable, in as few syncs as there can be: a lone change syncs its file and its
/// directory, several share one sync of the filesystem before and one after.
pub(crate) fn apply_durably(volume: &Volume, changes: Vec<Change>) -> Vec<Result<(), WriteError>> {
    let contents = sync_contents(volume, &changes);
    failpoint("store-contents-synced");
    let changed: Vec<Result<Changed, WriteError>> = changes
        .into_iter()
        .map(|change| {
            volume.check_writable()?;
            match change {
                // Without room the new bytes are not safe, but a removal needs no bytes.
                Change::Publish { .. } if contents.is_err() => Err(volume.full(0)),
                Change::Publish { temp, target, keep } => {
                    publish(volume, temp, &target, keep.as_deref())
                }
                Change::Move { from, to } => move_away(volume, &from, &to),
                Change::Remove { path } => remove(volume, &path),
            }
        })
        .collect();
    let names = sync_names(volume, &changed);
    changed
        .into_iter()
        .map(|changed| match (changed, &names) {
            (Err(error), _) => Err(error),
            (Ok(_), Ok(())) => Ok(()),
            (Ok(_), Err(error)) => Err(volume.fail(error.to_string())),
        })
        .collect()
}

fn sync_contents(volume: &Volume, changes: &[Change]) -> Result<(), WriteError> {
    let mut temps = changes.iter().filter_map(|change| match change {
        Change::Publish { temp, .. } => Some(temp),
        Change::Move { .. } | Change::Remove { .. } => None,
    });
    let (first, second) = (temps.next(), temps.next());
    let synced = match (first, second) {
        (None, _) => Ok(()),
        // Not fdatasync: that may leave out the attribute with the record.
        (Some(temp), None) => volume.disk.sync_file(temp.file()),
        (Some(_), Some(_)) => volume.disk.sync_filesystem(volume.handle()),
    };
    synced.map_err(|error| volume.sync_failed(first.map_or(&volume.root, TempFile::path), &error))
}

fn publish(
    volume: &Volume,
    mut temp: TempFile,
    target: &Path,
    keep: Option<&Path>,
) -> Result<Changed, WriteError> {
    // A second name and not a rename: at no time is there nothing under the target.
    let kept = keep.is_some_and(|keep| match volume.disk.link(target, keep) {
        Ok(()) => true,
        // Not worth refusing the right bytes for.
        Err(error) => {
            tracing::warn!(path = %target.display(), %error, "a damaged replica was not kept");
            false
        }
    });
    let made_directories = temp
        .rename_to(target)
        .map_err(|source| volume.write_failed(target, source))?;
    failpoint("store-renamed");
    Ok(Changed {
        directory: parent_of(target, volume),
        others_too: made_directories || kept,
    })
}

fn move_away(volume: &Volume, from: &Path, to: &Path) -> Result<Changed, WriteError> {
    volume
        .disk
        .rename(from, to)
        .map_err(|source| volume.write_failed(from, source))?;
    Ok(Changed {
        directory: prune(volume, from),
        others_too: true,
    })
}

fn remove(volume: &Volume, path: &Path) -> Result<Changed, WriteError> {
    match volume.disk.unlink(path) {
        Ok(()) => {
            failpoint("store-unlinked");
            Ok(Changed {
                directory: prune(volume, path),
                others_too: false,
            })
        }
        // Somebody removed it by hand, perhaps with its directory: the root is one that exists.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Changed {
            directory: volume.root.clone(),
            others_too: false,
        }),
        Err(source) => Err(volume.write_failed(path, source)),
    }
}

/// Removes the directories that `path` left empty, where the layout makes them anew, and returns the innermost that
/// stays.
fn prune(volume: &Volume, path: &Path) -> PathBuf {
    let mut directory = parent_of(path, volume);
    if volume.layout.is_premade() {
        return directory;
    }
    for _ in 0..volume.layout.levels() {
        // It fails on the first one that is not empty, which is where pruning ends.
        if std::fs::remove_dir(&directory).is_err() || !directory.pop() {
            break;
        }
    }
    directory
}

fn sync_names(volume: &Volume, changed: &[Result<Changed, WriteError>]) -> Result<(), WriteError> {
    let mut done = changed.iter().filter_map(|changed| changed.as_ref().ok());
    let Some(first) = done.next() else {
        return Ok(());
    };
    let alone = done.next().is_none() && !first.others_too;
    let synced = if alone {
        volume.disk.sync_directory(&first.directory)
    } else {
        volume.disk.sync_filesystem(volume.handle())
    };
    // The names have changed already: whatever the error is, what a power loss would leave is unknown.
    synced.map_err(|error| volume.fail(format!("sync of {}: {error}", first.directory.display())))
}

fn parent_of(path: &Path, volume: &Volume) -> PathBuf {
    path.parent().unwrap_or(&volume.root).to_owned()
}
