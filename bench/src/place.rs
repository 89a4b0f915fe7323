//! [`directory_in`]: new directories for what is measured, away from what an earlier measurement has deleted.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

/// A new directory under `place`, removed when it is dropped.
///
/// For minutes after many files were deleted, ext4 skips the numbers of each of them for every new file in the same part of
/// the disk: uploads took twice the processor time, at no fault of the store. Directories in this one begin in other parts,
/// as those at the top of a disk do.
///
/// # Errors
/// It cannot be made.
pub(crate) fn directory_in(place: &Path) -> Result<TempDir> {
    let directory = TempDir::with_prefix_in("richardstore-bench-", place)
        .with_context(|| format!("no directory can be made in {}", place.display()))?;
    let file = File::open(directory.path())?;
    // Other filesystems have no such flag, and no such trouble.
    if let Ok(flags) = ioctl_getflags(&file) {
        let _ = ioctl_setflags(&file, flags | IFlags::TOPDIR);
    }
    Ok(directory)
}
