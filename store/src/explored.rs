//! [`open_explored`]: a store on a disk of which every call is a point where the schedule explorer may let another thread go on.

use std::fs::File;
use std::io;
use std::path::Path;

use shuttle::thread::yield_now;

use crate::disk::{Disk, DiskSpace, SystemDisk};
use crate::{OpenError, Store, StoreOptions};

/// Syncs nothing: a schedule is about order, not about power.
struct ExploredDisk(SystemDisk);

/// Opens `root` in a schedule.
///
/// # Errors
/// As [`Store::open`].
pub fn open_explored(root: &Path, options: &StoreOptions) -> Result<Store, OpenError> {
    Store::open_on(root, options, Box::new(ExploredDisk(SystemDisk)))
}

impl Disk for ExploredDisk {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        yield_now();
        self.0.write(file, bytes)
    }

    fn open_direct(&self, path: &Path) -> io::Result<File> {
        self.0.open_direct(path)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        yield_now();
        self.0.allocate(file, bytes)
    }

    fn set_record(&self, file: &File, record: &[u8]) -> io::Result<()> {
        yield_now();
        self.0.set_record(file, record)
    }

    fn sync_data(&self, _: &File) -> io::Result<()> {
        yield_now();
        Ok(())
    }

    fn sync_file(&self, _: &File) -> io::Result<()> {
        yield_now();
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        yield_now();
        Ok(())
    }

    fn sync_filesystem(&self, _: &File) -> io::Result<()> {
        yield_now();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        yield_now();
        self.0.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        yield_now();
        self.0.link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        yield_now();
        self.0.unlink(path)
    }

    /// Asked under a lock that is not the explorer's, which a thread that waits here would never give back.
    fn space(&self, root: &File) -> io::Result<DiskSpace> {
        self.0.space(root)
    }
}
