//! [`scratch`]: where a run keeps the disks of its hosts.

use std::path::Path;

use rustix::fs::{XattrFlags, setxattr, statvfs};
use tempfile::TempDir;

/// Memory that looks like a disk. A crash of a host keeps what it wrote, so nothing is learnt from waiting for syncs here:
/// power loss has tests of its own.
const MEMORY: &str = "/dev/shm";

/// What has to be free there: containers often get only a little of it.
const ROOM_BYTES: u64 = 2 << 30;

/// A new directory, in memory where there is enough and it has extended attributes (Linux 6.6).
pub fn scratch() -> TempDir {
    in_memory().unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn in_memory() -> Option<TempDir> {
    let directory = tempfile::tempdir_in(MEMORY).ok()?;
    let room = statvfs(directory.path()).ok()?;
    let enough = room.f_bavail.saturating_mul(room.f_frsize) >= ROOM_BYTES;
    (enough && takes_attributes(directory.path())).then_some(directory)
}

fn takes_attributes(directory: &Path) -> bool {
    setxattr(directory, "user.richardstore", b"?", XattrFlags::empty()).is_ok()
}
