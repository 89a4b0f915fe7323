//! [`Memory`]: what a datanode keeps for a namenode that may lose its own: the deletes it was told of, and which file of the
//! store is the newest copy of the metadata.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use richardstore_proto::{
    ClusterId, Generation, MetadataCopy, NamenodeEpoch, RememberedDelete, StoreError,
};
use serde::{Deserialize, Serialize};

use crate::delete_log::DeleteLog;

const COPY: &str = "metadata-copy.json";
const NEW_COPY: &str = "metadata-copy.json.new";

/// On disk, in the datanode's directory. All methods block.
pub(crate) struct Memory {
    directory: PathBuf,
    deletes: DeleteLog,
    forgotten_before: Mutex<Generation>,
    newest_copy: Mutex<Option<MetadataCopy>>,
}

/// `metadata-copy.json`, for programs and for people.
#[derive(Debug, Serialize, Deserialize)]
struct CopyFile {
    cluster_id: String,
    namenode_epoch: u64,
    hash: String,
    size: u64,
    taken_ms: u64,
}

impl Memory {
    /// Opens what is in `directory`.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let newest_copy = read_copy(&directory.join(COPY))
            .inspect_err(|error| tracing::warn!(%error, "{COPY} cannot be read"))
            .unwrap_or_default();
        Ok(Self {
            directory: directory.to_owned(),
            deletes: DeleteLog::open(directory.join("deletes"))?,
            forgotten_before: Mutex::default(),
            newest_copy: Mutex::new(newest_copy),
        })
    }

    /// Remembers deletes, durably, before anything of them is done. On a disk that is full they are carried out all the same:
    /// nothing else makes room there.
    ///
    /// # Errors
    /// The disk fails.
    pub fn remember(&self, deletes: &[RememberedDelete]) -> io::Result<()> {
        match self.deletes.append(deletes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(count = deletes.len(), "no room to remember deletes");
                Ok(())
            }
            appended => appended,
        }
    }

    /// Whether [`Memory::forget_before`] would find something new to do. Does not block.
    pub fn may_forget(&self, before: Generation) -> bool {
        before > *lock(&self.forgotten_before)
    }

    /// Forgets deletes that every copy of the metadata knows.
    pub fn forget_before(&self, before: Generation) {
        let mut known = lock(&self.forgotten_before);
        if before <= *known {
            return;
        }
        match self.deletes.forget_before(before) {
            Ok(()) => *known = before,
            Err(error) => tracing::warn!(%error, "old deletes were not forgotten"),
        }
    }

    /// See [`DeleteLog::damaged`].
    pub fn damaged_deletes(&self) -> usize {
        self.deletes.damaged()
    }

    /// See [`DeleteLog::visit`].
    pub fn visit_deletes(
        &self,
        visit: &mut dyn FnMut(RememberedDelete) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.deletes.visit(visit)
    }

    /// The newest copy of the metadata that this datanode was told of.
    pub fn newest_copy(&self) -> Option<MetadataCopy> {
        *lock(&self.newest_copy)
    }

    /// Whether `copy` is to be written down.
    pub fn is_new(&self, copy: &MetadataCopy) -> bool {
        self.newest_copy().as_ref() != Some(copy)
    }

    /// Writes down which copy is the newest.
    pub fn note_copy(&self, cluster: ClusterId, copy: MetadataCopy) {
        match write_copy(&self.directory, cluster, &copy) {
            Ok(()) => *lock(&self.newest_copy) = Some(copy),
            Err(error) => tracing::warn!(%error, "{COPY} was not written"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_copy(path: &Path) -> io::Result<Option<MetadataCopy>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let file: CopyFile = serde_json::from_slice(&text)?;
    let hash = file
        .hash
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(MetadataCopy {
        hash,
        size: file.size,
        taken_ms: file.taken_ms,
        namenode_epoch: NamenodeEpoch(file.namenode_epoch),
    }))
}

fn write_copy(directory: &Path, cluster: ClusterId, copy: &MetadataCopy) -> io::Result<()> {
    let file = CopyFile {
        cluster_id: cluster.to_string(),
        namenode_epoch: copy.namenode_epoch.0,
        hash: copy.hash.to_string(),
        size: copy.size,
        taken_ms: copy.taken_ms,
    };
    let temporary = directory.join(NEW_COPY);
    let mut out = File::create(&temporary)?;
    out.write_all(&serde_json::to_vec_pretty(&file)?)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    fs::rename(&temporary, directory.join(COPY))?;
    File::open(directory)?.sync_all()
}

/// A delete that could not be remembered was not carried out, and is ordered again.
pub(crate) fn not_remembered(error: &io::Error) -> StoreError {
    StoreError::new(
        richardstore_proto::ErrorCode::Internal,
        format!("the delete could not be remembered: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::ContentHash;

    #[test]
    fn i08_the_newest_copy_survives_a_restart_and_noise_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::open(directory.path()).unwrap();
        let copy = MetadataCopy {
            hash: ContentHash::EMPTY,
            size: 5,
            taken_ms: 6,
            namenode_epoch: NamenodeEpoch(7),
        };
        assert!(memory.is_new(&copy));
        memory.note_copy(ClusterId::new([1; 16]), copy);
        drop(memory);
        let memory = Memory::open(directory.path()).unwrap();
        assert_eq!(memory.newest_copy(), Some(copy));
        drop(memory);
        fs::write(directory.path().join(COPY), "{").unwrap();
        assert_eq!(Memory::open(directory.path()).unwrap().newest_copy(), None);
    }
}
