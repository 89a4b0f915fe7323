//! [`HistoryLog`]: the deeds of a [`FileHistory`] on the disk, so that they can be told after a restart.
//!
//! Two files at most, `history` and `history.old`, deed after deed, each in a frame. They explain and promise nothing, so they
//! are written once a second and never synced, and whoever tells of them says that some may be missing.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use richardstore_migrations::frame;
use richardstore_proto::ContentHash;

use crate::file_history::{Entry, FileHistory};
use crate::shared::Shared;
use crate::ticker::Ticks;

/// The file that grows.
pub const NAME: &str = "history";
/// The one before it.
pub const OLD_NAME: &str = "history.old";
const VERSION: u8 = 1;
/// A file of more bytes becomes the old one: some 30,000 deeds.
const MOST_BYTES: u64 = 4 << 20;
/// No frame is longer; a damaged length is not believed.
const MOST_FRAME_BYTES: usize = 64 << 10;
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What happened to a file.
type Deed = (ContentHash, Entry);

/// The files, open for more.
#[derive(Debug)]
pub struct HistoryLog {
    directory: PathBuf,
    file: File,
    bytes: u64,
}

impl HistoryLog {
    /// Opens the files in `directory`, and reads what is in them up to damage, in the order in which it happened. Blocks.
    ///
    /// # Errors
    /// The filesystem's.
    pub fn open(directory: &Path) -> io::Result<(Self, Vec<Deed>)> {
        let (mut deeds, _) = read(&directory.join(OLD_NAME))?;
        let (newer, whole_bytes) = read(&directory.join(NAME))?;
        deeds.extend(newer);
        let file = append_to(&directory.join(NAME))?;
        // What is behind a torn frame would never be read.
        file.set_len(whole_bytes)?;
        let log = Self {
            directory: directory.to_owned(),
            file,
            bytes: whole_bytes,
        };
        Ok((log, deeds))
    }

    /// Adds what happened. Blocks.
    ///
    /// # Errors
    /// The filesystem's. Some of it may be there.
    pub fn append(&mut self, deeds: &[Deed]) -> io::Result<()> {
        if self.bytes > MOST_BYTES {
            let path = self.directory.join(NAME);
            match std::fs::rename(&path, self.directory.join(OLD_NAME)) {
                // Somebody removed it, which they may.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => self.file = append_to(&path)?,
            }
            self.bytes = 0;
        }
        let mut bytes = Vec::new();
        for deed in deeds {
            let frame = frame::encode(VERSION, deed).map_err(io::Error::other)?;
            let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
            bytes.extend(length.to_le_bytes());
            bytes.extend(frame);
        }
        self.file.write_all(&bytes).inspect_err(|_| {
            // The next frame would be behind a torn one. That this fails too only costs what comes later.
            let _ = self.file.set_len(self.bytes);
        })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// What one file says, and how many of its bytes are whole.
fn read(path: &Path) -> io::Result<(Vec<Deed>, u64)> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let (mut deeds, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((deed, behind)) = next_deed(rest) {
        deeds.push(deed);
        rest = behind;
    }
    Ok((deeds, (bytes.len() - rest.len()) as u64))
}

fn next_deed(bytes: &[u8]) -> Option<(Deed, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MOST_FRAME_BYTES {
        return None;
    }
    let (frame, behind) = rest.split_at_checked(length)?;
    Some((frame::decode(VERSION, frame).ok()?, behind))
}

/// Brings back what happened before this start, and keeps what happens, until the namenode stops.
pub async fn run_history(shared: Arc<Shared>) {
    let (directory, begun_ms) = (shared.config.dir.clone(), shared.wall_ms());
    let offload = shared.environment.offload;
    let opened = offload.run(move || {
        let (log, deeds) = HistoryLog::open(&directory)?;
        Ok::<_, io::Error>((log, FileHistory::kept(begun_ms, deeds)))
    });
    let mut log = match opened.await {
        Ok(Ok((log, history))) => {
            shared.soft().history.follow(history);
            log
        }
        end => {
            tracing::warn!(?end, "what happened to files before is not known");
            return;
        }
    };
    let mut ticks = Ticks::every(SAVE_EVERY, shared.tasks.stopping());
    loop {
        let goes_on = ticks.next().await;
        let deeds = shared.soft().history.take_unsaved();
        if !deeds.is_empty() {
            let saving = offload.run(move || {
                let saved = log.append(&deeds);
                (log, saved)
            });
            log = match saving.await {
                Ok((log, saved)) => {
                    if let Err(error) = saved {
                        tracing::warn!(%error, "what happened to files was not kept");
                    }
                    log
                }
                Err(_) => return,
            };
        }
        if !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_history::Deed as What;

    fn deed(number: u8) -> Deed {
        let entry = Entry {
            at_ms: number.into(),
            deed: What::Deleted,
        };
        (ContentHash::new([number; 32]), entry)
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_up_to_a_torn_end() {
        let directory = tempfile::tempdir().unwrap();
        let open = || HistoryLog::open(directory.path()).unwrap();
        let (mut log, kept) = open();
        assert_eq!(kept, []);
        log.append(&[deed(1), deed(2)]).unwrap();
        let mut torn = append_to(&directory.path().join(NAME)).unwrap();
        torn.write_all(&[60, 0, 0, 0, 1, 2]).unwrap();
        let (mut log, kept) = open();
        assert_eq!(kept, [deed(1), deed(2)]);
        log.append(&[deed(3)]).unwrap();
        assert_eq!(open().1, [deed(1), deed(2), deed(3)]);
        std::fs::remove_file(directory.path().join(NAME)).unwrap();
        assert_eq!(open().1, []);
    }

    #[test]
    fn i11_two_files_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = HistoryLog::open(directory.path()).unwrap();
        log.append(&[deed(1)]).unwrap();
        for number in [2, 3] {
            log.bytes = MOST_BYTES + 1;
            log.append(&[deed(number)]).unwrap();
        }
        let (mut log, kept) = HistoryLog::open(directory.path()).unwrap();
        assert_eq!(kept, [deed(2), deed(3)]);
        // Whoever wants room may remove them at any time.
        for name in [NAME, OLD_NAME] {
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
        log.bytes = MOST_BYTES + 1;
        log.append(&[deed(4)]).unwrap();
        assert_eq!(HistoryLog::open(directory.path()).unwrap().1, [deed(4)]);
    }

    #[test]
    fn flipped_bits_lose_what_is_behind_them_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = HistoryLog::open(directory.path()).unwrap();
        log.append(&[deed(1), deed(2)]).unwrap();
        let path = directory.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            let (_, kept) = HistoryLog::open(directory.path()).unwrap();
            assert!([deed(1), deed(2)].starts_with(&kept), "bit {bit}");
            assert!(kept.len() < 2, "bit {bit}");
        }
    }
}
