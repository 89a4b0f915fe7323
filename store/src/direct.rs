//! [`DirectBlocks`]: a long file on its way to the disk past the page cache, in large aligned blocks.
//!
//! Through the cache each byte would be copied into a page that has to be found, written back some time and thrown out again,
//! and the one sync at the end would wait for all of it; the sync that small files share would wait, too. What is written
//! here is on its way to the disk when the call returns; the sync that makes it durable has next to nothing left to write.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use crate::disk::Disk;

/// Bytes that are written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// What offset, length and memory have to be multiples of: a page covers every disk in use.
pub(crate) const ALIGNMENT: usize = 4096;

/// The end of the file that is not written yet, and where it goes.
pub(crate) struct DirectBlocks {
    file: File,
    /// Where the next block goes.
    offset: u64,
    /// Longer than a block by the alignment, since memory begins anywhere.
    space: Vec<u8>,
    begin: usize,
    filled: usize,
}

impl DirectBlocks {
    /// Writes the file at `path` from `offset` on, a multiple of [`ALIGNMENT`]. `None` where the filesystem has no direct
    /// writes.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, offset: u64) -> Option<Self> {
        let mut file = disk.open_direct(path).ok()?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let space = vec![0; BLOCK_BYTES + ALIGNMENT];
        // Not every address can be aligned to everything, says the documentation; then this is not for us.
        let begin =
            Some(space.as_ptr().align_offset(ALIGNMENT)).filter(|&begin| begin < ALIGNMENT)?;
        Some(Self {
            file,
            offset,
            space,
            begin,
            filled: 0,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn append(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let take = rest.len().min(BLOCK_BYTES - self.filled);
            let (now, later) = rest.split_at(take);
            let place = self.begin + self.filled;
            self.space[place..place + take].copy_from_slice(now);
            self.filled += take;
            rest = later;
            if self.filled == BLOCK_BYTES {
                self.write(disk, BLOCK_BYTES)?;
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// Writes what is left, but for the bytes behind the last whole page, which it returns with their place.
    ///
    /// # Errors
    /// As [`DirectBlocks::append`].
    pub(crate) fn finish(&mut self, disk: &dyn Disk) -> io::Result<(u64, &[u8])> {
        let whole = self.filled - self.filled % ALIGNMENT;
        if whole > 0 {
            self.write(disk, whole)?;
        }
        let rest = self.begin + whole..self.begin + self.filled;
        self.filled = 0;
        Ok((self.offset, &self.space[rest]))
    }

    fn write(&mut self, disk: &dyn Disk, length: usize) -> io::Result<()> {
        disk.write(&self.file, &self.space[self.begin..self.begin + length])?;
        self.offset += length as u64;
        Ok(())
    }
}
