//! [`KeptCopy`]: one copy of the metadata, a dump of everything in a file that is named by its time and its hash.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use richardstore_proto::{ContentHash, Generation, MetadataCopy, NamenodeEpoch};
use sha2::{Digest, Sha256};

use crate::metadata::{DumpError, DumpSummary, Room, View, ViewError, read_summary, verify_dump};

const TEMPORARY: &str = "copy.new";
const ENDING: &str = ".ndjson";
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes written between two looks at how full the disk is.
const LOOK_EVERY_BYTES: u64 = 4 << 20;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The metadata cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The room is the database's.
    #[error(
        "the disk has {available_bytes} bytes left, and {reserve_bytes} stay free for the database: no copy is written"
    )]
    NoRoom {
        /// Bytes left.
        available_bytes: u64,
        /// Bytes that are to stay free.
        reserve_bytes: u64,
    },
    /// The disk or the permissions.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// What was read back is not what was written.
    #[error("{path} is not what was written: {source}")]
    Changed {
        /// The copy.
        path: PathBuf,
        /// What is wrong with it.
        source: DumpError,
    },
    /// What was read back has another hash than what was written.
    #[error("{0} has other bytes than were written")]
    Hash(PathBuf),
    /// The task that wrote it did not come to its end.
    #[error("{0}")]
    Lost(String),
}

/// A copy in the namenode's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCopy {
    /// Where it is.
    pub path: PathBuf,
    /// Which file of the store it is, if it is one.
    pub copy: MetadataCopy,
    /// It knows of every write before this, and of every delete with a smaller marker.
    pub settled_before: Generation,
}

impl KeptCopy {
    /// Writes everything in `view` to `directory`, reads it back and checks it, and only then gives it its name. It leaves alone
    /// what `room` is to keep free; it will be of about `expected_bytes`.
    pub fn write(
        view: &View,
        directory: &Path,
        taken_ms: u64,
        room: &Room,
        expected_bytes: u64,
    ) -> Result<Self, CopyError> {
        let temporary = directory.join(TEMPORARY);
        // What a kill left of the last one would take the room of all that come after it.
        let _ = fs::remove_file(&temporary);
        check_room(room, expected_bytes)?;
        let failed = |source| CopyError::Io {
            path: temporary.clone(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let written = write_dump(view, &temporary, room)
            .and_then(|(hash, size)| Ok((hash, size, read_back(&temporary, hash)?)));
        let (hash, size, summary) = written.inspect_err(|_| {
            // The room is the database's. What cannot be removed is written over by the next copy.
            let _ = fs::remove_file(&temporary);
        })?;
        let path = directory.join(format!("{taken_ms:015}-{hash}{ENDING}"));
        let name = || {
            fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()
        };
        name().map_err(failed)?;
        Ok(Self::of(path, hash, size, taken_ms, &summary))
    }

    /// The copies in `directory`, oldest first. Files that are none are left out, and left alone.
    pub fn list(directory: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut copies = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if let Some((taken_ms, hash)) = parse_name(&path) {
                let size = fs::metadata(&path)?.len();
                match read_summary(BufReader::new(File::open(&path)?)) {
                    Ok(summary) => copies.push(Self::of(path, hash, size, taken_ms, &summary)),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "this is no copy of the metadata");
                    }
                }
            }
        }
        copies.sort_by_key(|copy| copy.copy.taken_ms);
        Ok(copies)
    }

    fn of(
        path: PathBuf,
        hash: ContentHash,
        size: u64,
        taken_ms: u64,
        summary: &DumpSummary,
    ) -> Self {
        Self {
            path,
            copy: MetadataCopy {
                hash,
                size,
                taken_ms,
                namenode_epoch: NamenodeEpoch(summary.epoch),
            },
            settled_before: summary.settled_before,
        }
    }
}

fn parse_name(path: &Path) -> Option<(u64, ContentHash)> {
    let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    let (taken_ms, hash) = name.split_once('-')?;
    Some((taken_ms.parse().ok()?, hash.parse().ok()?))
}

fn check_room(room: &Room, needed_bytes: u64) -> Result<(), CopyError> {
    match room.lacks(needed_bytes) {
        None => Ok(()),
        Some(available_bytes) => Err(CopyError::NoRoom {
            available_bytes,
            reserve_bytes: room.reserve_bytes(),
        }),
    }
}

/// Hash and size of what was written and synced.
fn write_dump(view: &View, path: &Path, room: &Room) -> Result<(ContentHash, u64), CopyError> {
    let failed = |source| CopyError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::create(path).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let (mut hasher, mut size) = (Sha256::new(), 0u64);
    let (mut written, mut looked_at) = (Ok(()), 0);
    view.dump_all(&mut |line| {
        written = out
            .write_all(line.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .map_err(failed);
        if size >= looked_at + LOOK_EVERY_BYTES && written.is_ok() {
            looked_at = size;
            written = check_room(room, 0);
        }
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
        size += u64::try_from(line.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written?;
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok((ContentHash::new(hasher.finalize().into()), size))
}

fn read_back(path: &Path, expected: ContentHash) -> Result<DumpSummary, CopyError> {
    let failed = |source| CopyError::Io {
        path: path.to_owned(),
        source,
    };
    let mut input = Hashed {
        input: BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(failed)?),
        hasher: Sha256::new(),
    };
    let summary = verify_dump(&mut input).map_err(|source| CopyError::Changed {
        path: path.to_owned(),
        source,
    })?;
    match ContentHash::new(input.hasher.finalize().into()) == expected {
        true => Ok(summary),
        false => Err(CopyError::Hash(path.to_owned())),
    }
}

/// A reader that hashes what is taken from it.
struct Hashed<R> {
    input: R,
    hasher: Sha256,
}

impl<R: BufRead> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(out)?;
        self.hasher.update(&out[..count]);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Ok(bytes) = self.input.fill_buf() {
            self.hasher.update(&bytes[..count]);
        }
        self.input.consume(count);
    }
}
