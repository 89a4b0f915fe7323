//! [`KeptCopy`]: one copy of the metadata, a dump of everything in a file that is named by its time and its hash.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use richardstore_proto::{ContentHash, Generation, MetadataCopy, NamenodeEpoch};
use sha2::{Digest, Sha256};

use crate::metadata::{DumpError, DumpSummary, View, ViewError, read_summary, verify_dump};

const TEMPORARY: &str = "copy.new";
const ENDING: &str = ".ndjson";
const BUFFER_BYTES: usize = 256 << 10;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The metadata cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
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
    /// Writes everything in `view` to `directory`, reads it back and checks it, and only then gives it its name.
    pub fn write(view: &View, directory: &Path, taken_ms: u64) -> Result<Self, CopyError> {
        let temporary = directory.join(TEMPORARY);
        let failed = |source| CopyError::Io {
            path: temporary.clone(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let written = write_dump(view, &temporary)
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

/// Hash and size of what was written and synced.
fn write_dump(view: &View, path: &Path) -> Result<(ContentHash, u64), CopyError> {
    let failed = |source| CopyError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::create(path).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let (mut hasher, mut size) = (Sha256::new(), 0u64);
    let mut written = Ok(());
    view.dump_all(&mut |line| {
        written = out
            .write_all(line.as_bytes())
            .and_then(|()| out.write_all(b"\n"));
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
    written.map_err(failed)?;
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
