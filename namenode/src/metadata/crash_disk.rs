//! [`CrashDisk`]: a disk that forgets. Writes that were not synced survive a crash sector by sector, or not at all, as the
//! dice say; and it can be told to die in the middle of what is going on.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

const SECTOR_BYTES: usize = 512;

/// A disk that several lives of a process share.
#[derive(Debug, Clone, Default)]
pub struct CrashDisk {
    platter: Arc<Mutex<Platter>>,
}

#[derive(Debug, Default)]
struct Platter {
    /// What a power loss leaves.
    durable: Vec<u8>,
    /// What the running process sees.
    current: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Pending>,
    /// Counts crashes: a handle from before one is dead.
    life: u64,
    /// Operations until the disk stops answering.
    dies_in: Option<u64>,
}

#[derive(Debug)]
enum Pending {
    Length(usize),
    Write(usize, Vec<u8>),
}

/// One process's handle on the disk.
#[derive(Debug)]
pub struct CrashBackend {
    platter: Arc<Mutex<Platter>>,
    life: u64,
}

impl CrashDisk {
    /// A disk with these bytes on it.
    pub fn holding(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        let mut platter = disk.platter.lock().unwrap();
        platter.durable.clone_from(&bytes);
        platter.current = bytes;
        drop(platter);
        disk
    }

    /// What a power loss would leave, whatever the dice say.
    pub fn bytes(&self) -> Vec<u8> {
        self.platter.lock().unwrap().durable.clone()
    }

    /// A handle for the present life.
    pub fn backend(&self) -> CrashBackend {
        CrashBackend {
            platter: Arc::clone(&self.platter),
            life: self.platter.lock().unwrap().life,
        }
    }

    /// Every operation after the next `operations` fails, until the crash.
    pub fn die_in(&self, operations: u64) {
        self.platter.lock().unwrap().dies_in = Some(operations);
    }

    /// Power loss: all handles are dead, and each sector that was not synced is kept if `keep` says so.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut platter = self.platter.lock().unwrap();
        for pending in std::mem::take(&mut platter.pending) {
            match pending {
                Pending::Length(length) if keep() => platter.durable.resize(length, 0),
                Pending::Length(_) => {}
                Pending::Write(offset, bytes) => {
                    for (at, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if keep() {
                            place(&mut platter.durable, offset + at * SECTOR_BYTES, sector);
                        }
                    }
                }
            }
        }
        platter.current = platter.durable.clone();
        platter.life += 1;
        platter.dies_in = None;
    }
}

fn place(bytes: &mut Vec<u8>, offset: usize, sector: &[u8]) {
    let end = offset + sector.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(sector);
}

impl CrashBackend {
    fn alive<T>(&self, work: impl FnOnce(&mut Platter) -> T) -> Result<T, io::Error> {
        let mut platter = self.platter.lock().unwrap();
        let dead = platter.life != self.life || platter.dies_in == Some(0);
        if dead {
            return Err(io::Error::other("the power is gone"));
        }
        platter.dies_in = platter.dies_in.map(|left| left - 1);
        Ok(work(&mut platter))
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for CrashBackend {
    fn len(&self) -> Result<u64, io::Error> {
        self.alive(|platter| u64::try_from(platter.current.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = position(offset);
        let end = start + out.len();
        self.alive(|platter| match platter.current.get(start..end) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })?
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.alive(|platter| {
            platter.current.resize(position(len), 0);
            platter.pending.push(Pending::Length(position(len)));
        })
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.alive(|platter| {
            platter.durable.clone_from(&platter.current);
            platter.pending.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.alive(|platter| {
            place(&mut platter.current, position(offset), data);
            let write = Pending::Write(position(offset), data.to_vec());
            platter.pending.push(write);
        })
    }
}

#[test]
fn what_was_synced_survives_and_what_was_not_is_lost() {
    let disk = CrashDisk::default();
    let backend = disk.backend();
    backend.write(0, b"kept").unwrap();
    backend.sync_data().unwrap();
    backend.write(0, b"lost").unwrap();
    disk.crash(|| false);
    assert!(backend.sync_data().is_err());
    let mut bytes = [0; 4];
    disk.backend().read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
}
