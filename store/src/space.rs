//! [`SpaceLedger`]: how full the disk is, with what is promised to writes under way. All arithmetic saturates: no order of
//! calls makes a figure wrap.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::DiskSpace;
use crate::volume::Volume;
use crate::{StoreOptions, WriteError};

/// A write of unknown length, or one longer than it said, takes room in steps of this many bytes.
const STEP_BYTES: u64 = 4 << 20;

/// Bytes of a store's disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the filesystem.
    pub capacity: u64,
    /// Bytes in replicas. Counted from the last complete walk or [`crate::Store::set_used`] on; while a walk runs, files that
    /// come and go may be missed.
    pub used: u64,
    /// Bytes that new files may take, after headroom and reservations.
    pub available: u64,
}

/// Reservations and use of one volume.
pub(crate) struct SpaceLedger {
    volume: Arc<Volume>,
    headroom: u64,
    capacity: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reserved: u64,
    used: u64,
}

/// Bytes promised to one write; given back when dropped.
pub(crate) struct Reservation {
    ledger: Arc<SpaceLedger>,
    remaining: u64,
}

impl SpaceLedger {
    pub(crate) fn new(volume: Arc<Volume>, options: &StoreOptions) -> Arc<Self> {
        Arc::new(Self {
            volume,
            headroom: options.headroom_bytes,
            capacity: options.capacity_bytes,
            state: Mutex::default(),
        })
    }

    /// Promises `bytes`; 0, an unknown length, is allowed while there is any room.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, WriteError> {
        self.take(bytes)?;
        Ok(Reservation {
            ledger: self.clone(),
            remaining: bytes,
        })
    }

    /// Whether the room of the disk is all that limits this store.
    pub(crate) fn is_the_disks(&self) -> bool {
        self.capacity.is_none()
    }

    pub(crate) fn space(&self) -> Space {
        let state = self.state();
        let disk = self.disk_space(&state);
        let disk = disk.unwrap_or(DiskSpace {
            capacity: 0,
            available: 0,
        });
        Space {
            capacity: disk.capacity,
            used: state.used,
            available: Self::left(disk.available, &state),
        }
    }

    /// A replica of `after` bytes took the place of one of `before` bytes; 0 is none.
    pub(crate) fn replaced(&self, before: u64, after: u64) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(before).saturating_add(after);
    }

    pub(crate) fn set_used(&self, bytes: u64) {
        self.state().used = bytes;
    }

    fn take(&self, bytes: u64) -> Result<(), WriteError> {
        let mut state = self.state();
        // Asked under the lock, so that two writes cannot both get the last bytes.
        let disk = self
            .disk_space(&state)
            .map_err(|source| self.volume.write_failed(&self.volume.root, source))?;
        let available = Self::left(disk.available, &state);
        if available == 0 || bytes > available {
            return Err(WriteError::StorageFull {
                root: self.volume.root.clone(),
                wanted: bytes,
                available,
            });
        }
        state.reserved = state.reserved.saturating_add(bytes);
        Ok(())
    }

    /// The filesystem's without the headroom, or as much of it as the store was given.
    fn disk_space(&self, state: &State) -> io::Result<DiskSpace> {
        let disk = self.volume.disk.space(self.volume.handle())?;
        let given = self.capacity.unwrap_or(u64::MAX);
        Ok(DiskSpace {
            capacity: disk.capacity.min(given),
            available: disk
                .available
                .saturating_sub(self.headroom)
                .min(given.saturating_sub(state.used)),
        })
    }

    fn left(on_disk: u64, state: &State) -> u64 {
        on_disk.saturating_sub(state.reserved)
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.state();
        state.reserved = state.reserved.saturating_sub(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Makes sure that `bytes` more are promised.
    pub(crate) fn cover(&mut self, bytes: u64) -> Result<(), WriteError> {
        if bytes > self.remaining {
            let missing = bytes - self.remaining;
            // Near the headroom a whole step may not fit where the bytes themselves do.
            let taken = match self.ledger.take(missing.max(STEP_BYTES)) {
                Ok(()) => missing.max(STEP_BYTES),
                Err(_) => self.ledger.take(missing).map(|()| missing)?,
            };
            self.remaining = self.remaining.saturating_add(taken);
        }
        Ok(())
    }

    /// `bytes` were written: the filesystem counts them itself now.
    pub(crate) fn written(&mut self, bytes: u64) {
        let bytes = bytes.min(self.remaining);
        self.remaining -= bytes;
        self.ledger.give_back(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.give_back(self.remaining);
    }
}
