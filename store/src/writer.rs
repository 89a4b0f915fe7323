//! [`ReplicaWriter`]: bytes on their way to a replica. They are hashed as they come and have no name until they are published;
//! dropped at any point, nothing of them remains.

use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use crate::direct::{ALIGNMENT, DirectBlocks};
use crate::hasher::ContentHasher;
use crate::prepared::PreparedReplica;
use crate::sidecar::LeafWriter;
use crate::space::Reservation;
use crate::store::Inner;
use crate::temp::TempFile;
use crate::{Store, WriteError};
use richardstore_failpoint::failpoint;

/// From here on a file is long, and written past the page cache where that is to be had.
const LONG_BYTES: u64 = 1 << 20;
/// No more room than this is taken before the bytes are there: what was said of their number may be wrong.
const MAX_ALLOCATED_BYTES: u64 = 1 << 30;
/// Through the page cache a long file is synced each time this many bytes came. Otherwise its bytes would pile up in
/// memory, and the shared sync of small files, which syncs all of the filesystem, would wait for them.
const PACE_BYTES: u64 = 16 << 20;
/// The same for a file that goes past the page cache: some filesystems say that they do that, and do not.
const DIRECT_PACE_BYTES: u64 = 256 << 20;
/// A file of at least this many bytes is synced by its own writer before it is queued, for the same reason.
const SYNC_ALONE_BYTES: u64 = 1 << 20;

/// A file being written.
pub struct ReplicaWriter {
    inner: Arc<Inner>,
    temp: TempFile,
    /// What is long goes this way.
    direct: Option<DirectBlocks>,
    refused_direct: bool,
    /// Bytes that the file was made long in advance; 0 is none.
    allocated: u64,
    reservation: Reservation,
    hasher: ContentHasher,
    leaves: LeafWriter,
    written: u64,
    unsynced: u64,
    /// A write failed in the middle: what is in the file is not what was hashed.
    broken: bool,
}

impl Store {
    /// Begins a file of about `size_hint` bytes, for which room is reserved; 0 is "not known".
    ///
    /// # Errors
    /// [`WriteError::StorageFull`] where there is no room for that, [`WriteError::VolumeFailed`] after a failure.
    pub fn writer(&self, size_hint: u64) -> Result<ReplicaWriter, WriteError> {
        let inner = self.inner.clone();
        inner.volume.check_writable()?;
        let mut reservation = inner.ledger.reserve(size_hint)?;
        let temp = TempFile::create(&inner.volume)?;
        let leaves = LeafWriter::new(inner.volume.clone());
        let (mut direct, mut allocated) = (None, 0);
        if size_hint >= LONG_BYTES && inner.volume.takes_direct() {
            let disk = inner.volume.disk.as_ref();
            direct = DirectBlocks::open(disk, temp.path(), 0);
            let wanted = size_hint.min(MAX_ALLOCATED_BYTES);
            // For speed alone. Where the filesystem has no such call, or no room, the writes find out. Not where the store was
            // given a part of the disk: of that, only the reservation knows what is on its way.
            if direct.is_some() && inner.ledger.is_the_disks() {
                match disk.allocate(temp.file(), wanted) {
                    Ok(()) => {
                        allocated = wanted;
                        reservation.written(wanted);
                    }
                    // A filesystem that ran out of room in the middle may have made the file longer all the same (ext4 does):
                    // its replica would be, too.
                    Err(_) => temp
                        .file()
                        .set_len(0)
                        .map_err(|source| inner.volume.write_failed(temp.path(), source))?,
                }
            }
        }
        Ok(ReplicaWriter {
            refused_direct: !inner.volume.takes_direct(),
            inner,
            temp,
            direct,
            allocated,
            reservation,
            hasher: ContentHasher::new(),
            leaves,
            written: 0,
            unsynced: 0,
            broken: false,
        })
    }
}

impl ReplicaWriter {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`WriteError::StorageFull`], [`WriteError::Io`]. After an error the writer only gives errors.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.check()?;
        self.broken = true;
        let length = bytes.len() as u64;
        // What was allocated is no longer promised, but taken.
        let taken = self.allocated.saturating_sub(self.written).min(length);
        self.reservation.cover(length - taken)?;
        self.put(bytes)?;
        self.reservation.written(length - taken);
        self.hasher.update(bytes);
        self.leaves.append(self.hasher.take_leaves());
        self.written = self.written.saturating_add(length);
        self.unsynced = self.unsynced.saturating_add(length);
        let pace_bytes = match self.direct {
            Some(_) => DIRECT_PACE_BYTES,
            None => PACE_BYTES,
        };
        if self.unsynced >= pace_bytes {
            self.sync_data()?;
        }
        self.broken = false;
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// All bytes were written: says what they are. They are not durable before [`PreparedReplica::publish`].
    ///
    /// # Errors
    /// [`WriteError`] where the bytes did not reach the disk.
    pub fn finish(mut self) -> Result<PreparedReplica, WriteError> {
        self.check()?;
        self.end_direct()?;
        if self.written >= SYNC_ALONE_BYTES {
            self.sync_data()?;
        }
        failpoint("store-temp-written");
        let mut digest = self.hasher.finish();
        let leaves = self.leaves.seal(&mut digest);
        Ok(PreparedReplica::new(
            self.inner,
            self.temp,
            self.reservation,
            digest,
            leaves,
        ))
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        let volume = &self.inner.volume;
        let disk = volume.disk.as_ref();
        let place = self.written + bytes.len() as u64;
        if self.direct.is_none() && place >= LONG_BYTES && !self.refused_direct {
            // A direct write begins at a page.
            let page = self.written.next_multiple_of(ALIGNMENT as u64);
            let now = usize::try_from(page - self.written).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(now.min(bytes.len()));
            self.temp.write(now)?;
            bytes = later;
            if !later.is_empty() {
                self.direct = DirectBlocks::open(disk, self.temp.path(), page);
                self.refused_direct = self.direct.is_none();
            }
        }
        match &mut self.direct {
            Some(direct) => direct
                .append(disk, bytes)
                .map_err(|source| volume.direct_failed(self.temp.path(), source)),
            None => self.temp.write(bytes),
        }
    }

    /// Writes the end of a file that went past the page cache, and gives back the room that it did not need.
    fn end_direct(&mut self) -> Result<(), WriteError> {
        let volume = &self.inner.volume;
        let failed = |source| volume.write_failed(self.temp.path(), source);
        if let Some(direct) = &mut self.direct {
            let (place, rest) = direct
                .finish(volume.disk.as_ref())
                .map_err(|source| volume.direct_failed(self.temp.path(), source))?;
            if !rest.is_empty() {
                let mut file = self.temp.file();
                file.seek(SeekFrom::Start(place)).map_err(failed)?;
                self.temp.write(rest)?;
            }
        }
        if self.allocated > self.written {
            let file = self.temp.file();
            file.set_len(self.written).map_err(failed)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), WriteError> {
        self.inner.volume.check_writable()?;
        if self.broken {
            return Err(WriteError::Io {
                path: self.temp.path().to_owned(),
                source: std::io::Error::other("an earlier write to this file failed"),
            });
        }
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), WriteError> {
        let volume = &self.inner.volume;
        volume
            .disk
            .sync_data(self.temp.file())
            .map_err(|error| volume.sync_failed(self.temp.path(), &error))?;
        self.unsynced = 0;
        Ok(())
    }
}
