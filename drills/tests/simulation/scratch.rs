//! [`scratch`]: where a run keeps the disks of its hosts.

use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;

/// Memory that looks like a disk. A crash of a host keeps what it wrote, so nothing is learnt from waiting for syncs here:
/// power loss has tests of its own.
const MEMORY: &str = "/dev/shm";

/// A new directory, in memory where that has extended attributes (Linux 6.6).
pub fn scratch() -> TempDir {
    in_memory().unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn in_memory() -> Option<TempDir> {
    let directory = tempfile::tempdir_in(MEMORY).ok()?;
    takes_attributes(directory.path()).then_some(directory)
}

fn takes_attributes(directory: &Path) -> bool {
    setxattr(directory, "user.richardstore", b"?", XattrFlags::empty()).is_ok()
}
