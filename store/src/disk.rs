//! [`Disk`]: the calls whose order and failure durability depends on. One seam, so that tests can record their order and
//! make any of them fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, XattrFlags};

use crate::record::RECORD_NAME;

/// Bytes of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    pub capacity: u64,
    pub available: u64,
}

/// The changing calls of a filesystem. No implementation retries a failed sync: after one, the kernel may have dropped
/// the data and call the next sync a success.
pub(crate) trait Disk: Send + Sync {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// An existing file, for writes past the page cache.
    fn open_direct(&self, path: &Path) -> io::Result<File>;
    /// Makes a new file `bytes` long, with room on the disk for them.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;
    fn set_record(&self, file: &File, record: &[u8]) -> io::Result<()>;
    /// The bytes of a file, without its attributes.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// The bytes of a file and its attributes.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Everything on the filesystem of `root`. Also reports, once, any write-back that failed since `root` was opened.
    fn sync_filesystem(&self, root: &File) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A second name for a file; fails where something has it.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn space(&self, root: &File) -> io::Result<DiskSpace>;
}

/// The machine's own.
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn open_direct(&self, path: &Path) -> io::Result<File> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(path)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            file,
            FallocateFlags::empty(),
            0,
            bytes,
        )?)
    }

    fn set_record(&self, file: &File, record: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(
            file,
            RECORD_NAME,
            record,
            XattrFlags::empty(),
        )?)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn sync_filesystem(&self, root: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(root)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn space(&self, root: &File) -> io::Result<DiskSpace> {
        let stat = rustix::fs::fstatvfs(root)?;
        Ok(DiskSpace {
            capacity: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}
