//! [`HistoryLog`]: the deeds of a [`FileHistory`](crate::file_history::FileHistory) on the disk, so that a restart forgets none.
//!
//! Two files at most, `history` and `history.old`, each frame after frame, the first of which says when the file was begun. It
//! explains and promises nothing, so it is written once a second and never synced: a power loss takes its end, which is cut
//! off where a frame is not whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use richardstore_migrations::frame;
use richardstore_proto::ContentHash;
use serde::{Deserialize, Serialize};

use crate::file_history::Entry;
use crate::shared::Shared;
use crate::ticker::Ticks;

const NAME: &str = "history";
const OLD_NAME: &str = "history.old";
const VERSION: u8 = 1;
/// A file of more bytes becomes the old one: some 30,000 deeds.
const MOST_BYTES: u64 = 4 << 20;
/// No frame is longer; a damaged length is not believed.
const MOST_FRAME_BYTES: usize = 64 << 10;
const SAVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// Nothing that happened after this is missing, milliseconds since the Unix epoch.
    Begun { at_ms: u64 },
    /// Something happened.
    Noted { hash: ContentHash, entry: Entry },
}

/// What the files say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Nothing that happened after this is missing, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// In the order in which it happened.
    pub deeds: Vec<(ContentHash, Entry)>,
}

/// The files, open for more.
#[derive(Debug)]
pub struct HistoryLog {
    directory: PathBuf,
    file: File,
    bytes: u64,
}

impl HistoryLog {
    /// Opens the files in `directory`, or begins one at `now_ms`, and reads them. Blocks.
    ///
    /// # Errors
    /// The filesystem's. Damage is none: what is in front of it counts.
    pub fn open(directory: &Path, now_ms: u64) -> io::Result<(Self, Kept)> {
        let (old, _) = read(&directory.join(OLD_NAME))?;
        let (new, whole_bytes) = read(&directory.join(NAME))?;
        let file = append_to(&directory.join(NAME))?;
        // What is behind a torn frame would never be read.
        file.set_len(whole_bytes)?;
        let mut log = Self {
            directory: directory.to_owned(),
            file,
            bytes: whole_bytes,
        };
        let Some(new) = new else {
            log.write(&[Line::Begun { at_ms: now_ms }])?;
            let since_ms = now_ms;
            return Ok((
                log,
                Kept {
                    since_ms,
                    deeds: Vec::new(),
                },
            ));
        };
        // An old one whose end is torn leaves a gap in front of the new one.
        let mut kept = old.filter(|old| old.is_whole).unwrap_or_default();
        kept.deeds.extend(new.deeds);
        let since_ms = kept.since_ms.unwrap_or(new.since_ms.unwrap_or(now_ms));
        let deeds = kept.deeds;
        Ok((log, Kept { since_ms, deeds }))
    }

    /// Adds what happened. Blocks.
    ///
    /// # Errors
    /// The filesystem's.
    pub fn append(&mut self, deeds: Vec<(ContentHash, Entry)>, now_ms: u64) -> io::Result<()> {
        if self.bytes > MOST_BYTES {
            self.turn_over(now_ms)?;
        }
        let lines = deeds.into_iter();
        let lines: Vec<Line> = lines
            .map(|(hash, entry)| Line::Noted { hash, entry })
            .collect();
        self.write(&lines)
    }

    /// Begins anew: something that happened is missing.
    ///
    /// # Errors
    /// The filesystem's.
    pub fn restart(&mut self, now_ms: u64) -> io::Result<()> {
        self.turn_over(now_ms)?;
        std::fs::remove_file(self.directory.join(OLD_NAME))
    }

    fn turn_over(&mut self, now_ms: u64) -> io::Result<()> {
        let path = self.directory.join(NAME);
        std::fs::rename(&path, self.directory.join(OLD_NAME))?;
        self.file = append_to(&path)?;
        self.bytes = 0;
        self.write(&[Line::Begun { at_ms: now_ms }])
    }

    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            let frame = frame::encode(VERSION, line).map_err(io::Error::other)?;
            let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
            bytes.extend(length.to_le_bytes());
            bytes.extend(frame);
        }
        self.file.write_all(&bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// What one file says.
#[derive(Debug, Default)]
struct Part {
    since_ms: Option<u64>,
    deeds: Vec<(ContentHash, Entry)>,
    is_whole: bool,
}

/// `None` where there is no file, or nothing whole in it; and how many of its bytes are whole.
fn read(path: &Path) -> io::Result<(Option<Part>, u64)> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, 0)),
        Err(error) => return Err(error),
    };
    let mut part = Part::default();
    let mut rest = &bytes[..];
    while let Some((line, behind)) = next_line(rest) {
        match line {
            Line::Begun { at_ms } => part.since_ms = Some(at_ms),
            Line::Noted { hash, entry } => part.deeds.push((hash, entry)),
        }
        rest = behind;
    }
    part.is_whole = rest.is_empty();
    let whole_bytes = (bytes.len() - rest.len()) as u64;
    Ok((part.since_ms.is_some().then_some(part), whole_bytes))
}

fn next_line(bytes: &[u8]) -> Option<(Line, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MOST_FRAME_BYTES {
        return None;
    }
    let (frame, behind) = rest.split_at_checked(length)?;
    Some((frame::decode(VERSION, frame).ok()?, behind))
}

/// Brings back what happened before this start, and keeps what happens, until the namenode stops. Without a log the history is that of
/// this start alone.
pub async fn run_history(shared: Arc<Shared>) {
    let (directory, now_ms) = (shared.config.dir.clone(), shared.wall_ms());
    let offload = shared.environment.offload;
    let opened = offload
        .run(move || HistoryLog::open(&directory, now_ms))
        .await;
    let Ok(Ok((mut log, kept))) = opened else {
        tracing::warn!(?opened, "what happened to files is not kept over a restart");
        shared.soft().history.keep_nothing();
        return;
    };
    shared.soft().history.bring_back(kept.since_ms, kept.deeds);
    let mut ticks = Ticks::every(SAVE_EVERY, shared.tasks.stopping());
    loop {
        let goes_on = ticks.next().await;
        let (deeds, missed) = shared.soft().history.take_unsaved();
        let now_ms = shared.wall_ms();
        if !deeds.is_empty() || missed {
            let saved = offload.run(move || {
                let saved = match missed {
                    true => log.restart(now_ms),
                    false => log.append(deeds, now_ms),
                };
                (log, saved)
            });
            match saved.await {
                Ok((same, Ok(()))) => log = same,
                end => {
                    tracing::warn!(?end, "what happens to files is not kept any longer");
                    shared.soft().history.keep_nothing();
                    return;
                }
            }
        }
        if !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_history::Deed;

    fn deed(number: u8) -> (ContentHash, Entry) {
        let entry = Entry {
            at_ms: number.into(),
            deed: Deed::Deleted,
        };
        (ContentHash::new([number; 32]), entry)
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_up_to_a_torn_end() {
        let directory = tempfile::tempdir().unwrap();
        let open = |now_ms| HistoryLog::open(directory.path(), now_ms).unwrap();
        let (mut log, kept) = open(100);
        assert_eq!((kept.since_ms, kept.deeds), (100, Vec::new()));
        log.append(vec![deed(1), deed(2)], 110).unwrap();
        drop(log);
        append_to(&directory.path().join(NAME))
            .unwrap()
            .write_all(&[60, 0, 0, 0, 1, 2])
            .unwrap();
        let (mut log, kept) = open(200);
        assert_eq!((kept.since_ms, kept.deeds), (100, vec![deed(1), deed(2)]));
        log.append(vec![deed(3)], 210).unwrap();
        let (_, kept) = open(300);
        assert_eq!(kept.deeds, [deed(1), deed(2), deed(3)]);
    }

    #[test]
    fn i11_two_files_are_kept_and_the_older_one_goes_where_something_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = HistoryLog::open(directory.path(), 100).unwrap();
        log.append(vec![deed(1)], 110).unwrap();
        for (now_ms, number) in [(120, 2), (130, 3)] {
            log.bytes = MOST_BYTES + 1;
            log.append(vec![deed(number)], now_ms).unwrap();
        }
        let (_, kept) = HistoryLog::open(directory.path(), 300).unwrap();
        assert_eq!((kept.since_ms, kept.deeds), (120, vec![deed(2), deed(3)]));
        log.restart(400).unwrap();
        let (_, kept) = HistoryLog::open(directory.path(), 500).unwrap();
        assert_eq!((kept.since_ms, kept.deeds), (400, Vec::new()));
    }

    #[test]
    fn flipped_bits_lose_what_is_behind_them_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = HistoryLog::open(directory.path(), 100).unwrap();
        log.append(vec![deed(1), deed(2)], 110).unwrap();
        let path = directory.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            let (_, kept) = HistoryLog::open(directory.path(), 200).unwrap();
            assert!([deed(1), deed(2)].starts_with(&kept.deeds), "bit {bit}");
            assert!(kept.deeds.len() < 2, "bit {bit}");
        }
    }
}
