//! Walking the tree: the directory is the truth about which replicas there are.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use richardstore_proto::ContentHash;

use crate::replica::{OpenReplica, ReplicaMeta};
use crate::volume::{QUARANTINE_DIRECTORY, TEMP_DIRECTORY, TREES_DIRECTORY};
use crate::{ReadError, Store, format};

/// What a walk came across.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkSummary {
    /// Replicas that were visited.
    pub replicas: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Entries that are no replica: another name, the wrong directory, no regular file. They are left alone.
    pub strays: u64,
    /// Files named like a replica that hold something else, as far as size and record show it, or that cannot be
    /// read. They are left alone and were not visited.
    pub damaged: u64,
    /// Whether every directory was seen. `false` when the visitor broke off.
    pub complete: bool,
}

impl Store {
    /// Visits every replica, in the order of hashes, by record and size; the bytes are read only of replicas without a
    /// record. What is published or deleted meanwhile may be visited or not. A complete walk sets [`crate::Space::used`].
    ///
    /// # Errors
    /// [`ReadError::Io`] where a directory cannot be read, or a file for a reason other than a fault of the disk: then
    /// nobody knows what is missing.
    pub fn walk(
        &self,
        visit: &mut dyn FnMut(ReplicaMeta) -> ControlFlow<()>,
    ) -> Result<WalkSummary, ReadError> {
        let mut walk = Walk {
            store: self,
            visit,
            summary: WalkSummary::default(),
        };
        let root = self.root().to_owned();
        let flow = walk.directory(&root, 0)?;
        let mut summary = walk.summary;
        summary.complete = flow.is_continue();
        if summary.complete {
            self.set_used(summary.bytes);
        }
        Ok(summary)
    }
}

struct Walk<'a> {
    store: &'a Store,
    visit: &'a mut dyn FnMut(ReplicaMeta) -> ControlFlow<()>,
    summary: WalkSummary,
}

impl Walk<'_> {
    /// `level` directories are above `directory`, not counting the root; at most 64 in any layout.
    fn directory(&mut self, directory: &Path, level: u8) -> Result<ControlFlow<()>, ReadError> {
        let innermost = self.store.layout().levels();
        for name in sorted_names(directory)? {
            let path = directory.join(&name);
            if level == 0 && is_own_entry(&name) {
                continue;
            }
            let flow = if level == innermost {
                self.file(&path, &name)?
            } else if is_directory(&path) && self.store.layout().is_directory_name(level, &name) {
                self.directory(&path, level + 1)?
            } else {
                self.summary.strays += 1;
                ControlFlow::Continue(())
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn file(&mut self, path: &Path, name: &str) -> Result<ControlFlow<()>, ReadError> {
        let inner = &self.store.inner;
        let hash = name.parse::<ContentHash>().ok();
        let Some(hash) = hash.filter(|hash| inner.volume.replica_path(hash) == path) else {
            self.summary.strays += 1;
            return Ok(ControlFlow::Continue(()));
        };
        let meta = match OpenReplica::open(&inner.volume, &hash) {
            Ok(Some(replica)) => inner.meta_of(&replica),
            // Deleted since the directory was read, or no regular file.
            Ok(None) => {
                self.summary.strays += u64::from(fs::symlink_metadata(path).is_ok());
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => Err(error),
        };
        match meta {
            Ok(meta) => {
                self.summary.replicas += 1;
                self.summary.bytes = self.summary.bytes.saturating_add(meta.size);
                Ok((self.visit)(meta))
            }
            // Out of file handles, say: that is no damage of the replica, and it is not missing either.
            Err(error @ ReadError::Io { .. }) if !error.is_damage() => Err(error),
            Err(error) => {
                tracing::warn!(%hash, %error, "damaged replica");
                self.summary.damaged += 1;
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}

/// The names in one directory. One that vanished, as empty directories of some layouts do, has none.
fn sorted_names(directory: &Path) -> Result<Vec<String>, ReadError> {
    let failed = |source| ReadError::Io {
        path: PathBuf::from(directory),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no UTF-8 is a stray; it stays one with its bytes replaced.
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn is_own_entry(name: &str) -> bool {
    matches!(
        name,
        TEMP_DIRECTORY | TREES_DIRECTORY | QUARANTINE_DIRECTORY
    ) || format::is_own_file(name)
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|stat| stat.is_dir())
}
