//! [`open_offline`]: the metadata of a namenode that is down, read from its file without changing it.
//!
//! After a kill the file is dirty: opening it means repairing it, and repairing means writing. So whatever redb writes goes
//! to pages in memory that cover those of the file, as does the migration of an older schema.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Builder, StorageBackend};

use super::database::checked;
use super::ledger::Ledger;
use super::open::{LOCK, OpenError, io_error};
use super::view::View;

const PAGE_BYTES: u64 = 4096;

/// The metadata in the database file at `path`. The namenode of its directory must be down, and cannot start while the view
/// is held.
///
/// # Errors
/// [`OpenError`], as when a namenode starts; [`OpenError::Locked`] where it runs.
pub fn open_offline(path: &Path, cache_bytes: usize) -> Result<View, OpenError> {
    let lock = lock_beside(path)?;
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    let length = file
        .metadata()
        .map_err(|source| io_error(path, source))?
        .len();
    if length == 0 {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            reason: "it is empty".to_owned(),
        });
    }
    let covered = Covered {
        file,
        cover: Mutex::new(Cover {
            length,
            file_bytes: length,
            pages: BTreeMap::new(),
        }),
    };
    let keep_nothing = |_| Ok(());
    let (database, _) = checked(path, keep_nothing, || {
        Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(covered)
    })?;
    let ledger = Ledger::new(database, lock);
    ledger.view().map_err(|error| OpenError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The lock of the directory, shared, where it is a namenode's.
fn lock_beside(path: &Path) -> Result<Option<File>, OpenError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let lock = dir.join(LOCK);
    let file = match File::open(&lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&lock, source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error(&lock, source)),
    }
}

/// A file that is only read, under pages that were written.
#[derive(Debug)]
struct Covered {
    file: File,
    cover: Mutex<Cover>,
}

#[derive(Debug)]
struct Cover {
    length: u64,
    /// Bytes of the file that still show through.
    file_bytes: u64,
    /// By number; each of [`PAGE_BYTES`].
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Covered {
    fn cover(&self) -> MutexGuard<'_, Cover> {
        self.cover.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the file has; the rest is zeros.
    fn read_below(&self, file_bytes: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let there = file_bytes.saturating_sub(offset).min(length_of(out));
        self.file.read_exact_at(&mut out[..index(there)], offset)
    }
}

impl StorageBackend for Covered {
    fn len(&self) -> io::Result<u64> {
        Ok(self.cover().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let cover = self.cover();
        if offset.saturating_add(length_of(out)) > cover.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let range = offset..offset + length_of(out);
        self.read_below(cover.file_bytes, offset, out)?;
        for (number, page) in cover.pages.range(pages(&range)) {
            let (within_page, within_range) = overlap(*number, &range);
            out[within_range].copy_from_slice(&page[within_page]);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut cover = self.cover();
        cover.length = length;
        cover.file_bytes = cover.file_bytes.min(length);
        let beyond = cover.pages.split_off(&length.div_ceil(PAGE_BYTES));
        drop(beyond);
        // What is cut off comes back as zeros.
        if let Some(last) = cover.pages.get_mut(&(length / PAGE_BYTES)) {
            last[index(length % PAGE_BYTES)..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut cover = self.cover();
        let range = offset..offset + length_of(data);
        cover.length = cover.length.max(range.end);
        let file_bytes = cover.file_bytes;
        for number in pages(&range) {
            let page = match cover.pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut page = vec![0; index(PAGE_BYTES)];
                    self.read_below(file_bytes, number * PAGE_BYTES, &mut page)?;
                    entry.insert(page)
                }
            };
            let (within_page, within_range) = overlap(number, &range);
            page[within_page].copy_from_slice(&data[within_range]);
        }
        Ok(())
    }
}

/// The numbers of the pages that a range touches.
fn pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)
}

/// Where a page and a range meet: positions in the page, positions in the range.
fn overlap(number: u64, range: &Range<u64>) -> (Range<usize>, Range<usize>) {
    let start = range.start.max(number * PAGE_BYTES);
    let end = range.end.min((number + 1) * PAGE_BYTES);
    (
        index(start - number * PAGE_BYTES)..index(end - number * PAGE_BYTES),
        index(start - range.start)..index(end - range.start),
    )
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A position inside a buffer, which is in memory and so fits.
fn index(position: u64) -> usize {
    usize::try_from(position).expect("a buffer in memory is not longer than memory")
}
