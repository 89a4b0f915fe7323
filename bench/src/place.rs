//! [`Place`]: new directories for what is measured, away from what an earlier measurement has deleted.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

/// A new directory, removed when it is dropped.
///
/// For minutes after many files were deleted, ext4 skips the numbers of each of them for every new file in the same part of
/// the disk: uploads took twice the processor time, at no fault of the store. So this one begins in another part, as a
/// directory at the top of a disk does. Which part follows from its name, which is therefore another one each time.
pub(crate) struct Place {
    directory: TempDir,
    _top: TempDir,
}

impl Place {
    /// A new directory somewhere below `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn under(parent: &Path) -> Result<Self> {
        let fails = || format!("no directory can be made in {}", parent.display());
        let top = TempDir::with_prefix_in("richardstore-bench-", parent).with_context(fails)?;
        let file = File::open(top.path())?;
        // Other filesystems have no such flag, and no such trouble.
        if let Ok(flags) = ioctl_getflags(&file) {
            let _ = ioctl_setflags(&file, flags | IFlags::TOPDIR);
        }
        let directory = TempDir::new_in(top.path()).with_context(fails)?;
        Ok(Self {
            directory,
            _top: top,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}
