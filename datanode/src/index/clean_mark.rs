//! [`CleanMark`]: a small file beside the index directory that says it was closed whole. It is there only while no process
//! uses the index, so an index without it is one that was cut off.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use richardstore_migrations::frame;
use richardstore_proto::{JournalId, Sequence};
use serde::{Deserialize, Serialize};

use super::IndexError;
use super::record::FRAME_VERSION;
use super::totals::Totals;

/// What the index held when it was closed. An index that opens to anything else lost something on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CleanRecord {
    pub journal_id: JournalId,
    pub next_sequence: Sequence,
    count: u64,
    bytes: u64,
    digest: u128,
}

impl CleanRecord {
    pub fn new(journal_id: JournalId, next_sequence: Sequence, totals: &Totals) -> Self {
        Self {
            journal_id,
            next_sequence,
            count: totals.count(),
            bytes: totals.bytes(),
            digest: totals.digests().root().sum,
        }
    }
}

/// The place of the mark.
#[derive(Debug, Clone)]
pub(super) struct CleanMark {
    path: PathBuf,
}

impl CleanMark {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Takes the mark away, durably, and returns what it said: `None` if there was none, or none that is whole.
    ///
    /// From here on a crash leaves no mark, so this comes before the first change to the index.
    pub fn take(&self) -> Result<Option<CleanRecord>, IndexError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed(source)),
        };
        fs::remove_file(&self.path)
            .and_then(|()| sync_directory_of(&self.path))
            .map_err(|source| self.failed(source))?;
        Ok(frame::decode(FRAME_VERSION, &bytes).ok())
    }

    /// Runs the sync that makes what the mark will vouch for durable.
    pub fn sync_before(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), IndexError> {
        sync().map_err(|source| self.failed(source))
    }

    /// Leaves the mark, durably. The caller has made everything that it vouches for durable before.
    pub fn leave(&self, record: &CleanRecord) -> Result<(), IndexError> {
        let bytes = super::record::encode(record)?;
        // No rename is needed: a mark that was cut off in the middle fails its checksum and counts as none.
        File::create(&self.path)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .and_then(|()| sync_directory_of(&self.path))
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> IndexError {
        IndexError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Makes the name of `path` durable, or its absence.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> CleanRecord {
        CleanRecord::new(JournalId::new([7; 16]), Sequence(9), &Totals::default())
    }

    #[test]
    fn a_mark_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let mark = CleanMark::new(&dir.path().join("index.clean"));
        assert_eq!(mark.take().unwrap(), None);
        mark.leave(&record()).unwrap();
        assert_eq!(mark.take().unwrap(), Some(record()));
        assert_eq!(mark.take().unwrap(), None);
    }

    #[test]
    fn a_mark_that_was_cut_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mark = CleanMark::new(&dir.path().join("index.clean"));
        mark.leave(&record()).unwrap();
        let whole = fs::read(&mark.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&mark.path, &whole[..length]).unwrap();
            assert_eq!(mark.take().unwrap(), None, "{length}");
        }
    }
}
