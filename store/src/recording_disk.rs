//! [`RecordingDisk`]: the machine's disk, which notes each call and fails those it was told to.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::disk::{Disk, DiskSpace, SystemDisk};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    OpenDirect,
    Allocate,
    SetRecord,
    SyncData,
    SyncFile,
    SyncDirectory,
    SyncFilesystem,
    Rename,
    Link,
    Unlink,
    /// Not a call: whoever called was told that the change is durable.
    Acknowledge,
}

/// A test that waits for longer than this waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `condition`, and fails the test when it does not come true.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        std::thread::yield_now();
    }
}

/// Holds a call up in the middle.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether a call has come to the gate, and whether it may go on.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Waits until a call is held up.
    pub(crate) fn reached(&self) {
        self.wait(|state| state.0);
    }

    /// Lets it go on.
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
        self.wait(|state| state.1);
    }

    fn wait(&self, ready: impl Fn(&(bool, bool)) -> bool) {
        let state = self.state.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !ready(state));
        assert!(!waited.unwrap().1.timed_out(), "waited in vain");
    }
}

#[derive(Default)]
struct State {
    calls: Vec<(Kind, PathBuf)>,
    failing: Option<(Kind, u32, Errno)>,
    gate: Option<(Kind, Arc<Gate>)>,
    space: Option<DiskSpace>,
    no_direct: bool,
}

/// Clones are the same disk, so that a test keeps one and gives one to the store.
#[derive(Clone, Default)]
pub(crate) struct RecordingDisk {
    state: Arc<Mutex<State>>,
}

impl RecordingDisk {
    /// Lets `skip` calls of `kind` succeed and fails all after them with `error`.
    pub(crate) fn fail(&self, kind: Kind, skip: u32, error: Errno) {
        self.state.lock().unwrap().failing = Some((kind, skip, error));
    }

    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().failing = None;
    }

    /// From now on it is a disk without direct writes.
    pub(crate) fn refuse_direct(&self) {
        self.state.lock().unwrap().no_direct = true;
    }

    /// The next call of `kind` is held up at the gate.
    pub(crate) fn hold(&self, kind: Kind) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.state.lock().unwrap().gate = Some((kind, gate.clone()));
        gate
    }

    pub(crate) fn set_available(&self, available: u64) {
        self.state.lock().unwrap().space = Some(DiskSpace {
            capacity: 1 << 40,
            available,
        });
    }

    pub(crate) fn acknowledge(&self) {
        self.note(Kind::Acknowledge, Path::new("")).unwrap();
    }

    /// The calls since the last time, and their paths.
    pub(crate) fn take_calls(&self) -> Vec<(Kind, PathBuf)> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    pub(crate) fn take_kinds(&self) -> Vec<Kind> {
        self.take_calls().into_iter().map(|call| call.0).collect()
    }

    fn note(&self, kind: Kind, path: &Path) -> io::Result<()> {
        let gate = {
            let mut state = self.state.lock().unwrap();
            state.calls.push((kind, path.to_owned()));
            if let Some((failing, skip, error)) = &mut state.failing
                && *failing == kind
            {
                if *skip == 0 {
                    return Err((*error).into());
                }
                *skip -= 1;
            }
            state.gate.take_if(|gate| gate.0 == kind)
        };
        if let Some((_, gate)) = gate {
            gate.pass();
        }
        Ok(())
    }
}

impl Disk for RecordingDisk {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.note(Kind::Write, Path::new("")) {
            // As a full disk does: a part of the bytes is there.
            SystemDisk.write(file, &bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        SystemDisk.write(file, bytes)
    }

    fn open_direct(&self, path: &Path) -> io::Result<File> {
        if self.state.lock().unwrap().no_direct {
            return Err(Errno::INVAL.into());
        }
        self.note(Kind::OpenDirect, path)?;
        SystemDisk.open_direct(path)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        if let Err(error) = self.note(Kind::Allocate, Path::new("")) {
            // As ext4 leaves a file where room is short in the middle.
            file.set_len(bytes / 2)?;
            return Err(error);
        }
        SystemDisk.allocate(file, bytes)
    }

    fn set_record(&self, file: &File, record: &[u8]) -> io::Result<()> {
        self.note(Kind::SetRecord, Path::new(""))?;
        SystemDisk.set_record(file, record)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.note(Kind::SyncData, Path::new(""))?;
        SystemDisk.sync_data(file)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.note(Kind::SyncFile, Path::new(""))?;
        SystemDisk.sync_file(file)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.note(Kind::SyncDirectory, directory)?;
        SystemDisk.sync_directory(directory)
    }

    fn sync_filesystem(&self, root: &File) -> io::Result<()> {
        self.note(Kind::SyncFilesystem, Path::new(""))?;
        SystemDisk.sync_filesystem(root)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Kind::Rename, to)?;
        SystemDisk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Kind::Link, to)?;
        SystemDisk.link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.note(Kind::Unlink, path)?;
        SystemDisk.unlink(path)
    }

    fn space(&self, root: &File) -> io::Result<DiskSpace> {
        let space = self.state.lock().unwrap().space;
        space.map_or_else(|| SystemDisk.space(root), Ok)
    }
}
