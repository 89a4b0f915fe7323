//! The sidecar of a file with more than one group: its leaves, which let a range be verified without reading the rest.
//!
//! Format: the leaves in order (32 bytes each), then, where there are more than 256 of them, the hash of each segment of
//! 256. No checksum: whatever is read is checked against the file's root. Never synced: what is lost is computed again
//! from the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use richardstore_proto::Blake3Root;

use crate::WriteError;
use crate::hasher::ContentDigest;
use crate::temp::TempFile;
use crate::tree::{Leaf, SEGMENT_GROUPS, groups_of, root_of, subtree_of};
use crate::volume::Volume;

const LEAF_BYTES: u64 = 32;

/// Leaves that verify against a root.
pub(crate) struct Leaves {
    store: LeafStore,
    groups: u64,
    root: [u8; 32],
    /// Empty where there is one segment only.
    segments: Vec<Leaf>,
}

enum LeafStore {
    File(File),
    /// Where no sidecar could be written: 1/2048 of the file's size.
    Memory(Vec<Leaf>),
}

impl Leaves {
    /// Opens the sidecar at `path` for a file of `size` bytes. `None` where it is missing or does not belong to `root`.
    pub(crate) fn open(path: &Path, size: u64, root: &Blake3Root) -> Option<Self> {
        let groups = groups_of(size);
        let file = File::open(path).ok()?;
        let segment_count = groups.div_ceil(SEGMENT_GROUPS as u64);
        let segment_count = if segment_count > 1 { segment_count } else { 0 };
        let length = groups.checked_add(segment_count)?.checked_mul(LEAF_BYTES)?;
        // Before memory is taken for it: the size of a file is what bounds this.
        if file.metadata().ok()?.len() != length {
            return None;
        }
        let segments = read_leaves(&file, groups, segment_count).ok()?;
        let leaves = Self {
            store: LeafStore::File(file),
            groups,
            root: *root.as_bytes(),
            segments,
        };
        let belongs = if leaves.segments.is_empty() {
            leaves.segment(0).is_some()
        } else {
            root_of(&leaves.segments) == leaves.root
        };
        belongs.then_some(leaves)
    }

    /// The leaves of one segment, verified. `None` where they are damaged.
    pub(crate) fn segment(&self, segment: u64) -> Option<Vec<Leaf>> {
        let first = segment.checked_mul(SEGMENT_GROUPS as u64)?;
        let count = self.groups.checked_sub(first)?.min(SEGMENT_GROUPS as u64);
        let leaves = match &self.store {
            LeafStore::File(file) => read_leaves(file, first, count).ok()?,
            LeafStore::Memory(leaves) => {
                let first = usize::try_from(first).ok()?;
                let end = first.checked_add(usize::try_from(count).ok()?)?;
                leaves.get(first..end)?.to_vec()
            }
        };
        let verified = if self.segments.is_empty() {
            leaves.len() > 1 && root_of(&leaves) == self.root
        } else {
            let expected = self.segments.get(usize::try_from(segment).ok()?)?;
            !leaves.is_empty() && subtree_of(&leaves) == *expected
        };
        verified.then_some(leaves)
    }
}

/// Takes leaves as they come, in a temp file as long as that works.
pub(crate) struct LeafWriter {
    volume: Arc<Volume>,
    temp: Option<TempFile>,
    /// Leaves that reached the temp file whole.
    written: u64,
    /// What did not go to the temp file because there is none.
    memory: Vec<Leaf>,
    in_memory: bool,
}

/// A complete sidecar that has no name yet.
pub(crate) struct SealedLeaves {
    temp: Option<TempFile>,
    leaves: Leaves,
}

impl LeafWriter {
    pub(crate) fn new(volume: Arc<Volume>) -> Self {
        Self {
            volume,
            temp: None,
            written: 0,
            memory: Vec::new(),
            in_memory: false,
        }
    }

    /// The next leaves. Where the disk does not take them they stay in memory, since a full disk must not stop reads.
    pub(crate) fn append(&mut self, leaves: Vec<Leaf>) {
        if leaves.is_empty() {
            return;
        }
        if !self.in_memory && self.append_to_file(&leaves).is_err() {
            self.in_memory = true;
            self.memory = self.read_back();
            self.temp = None;
        }
        if self.in_memory {
            self.memory.extend(leaves);
        }
    }

    /// Ends the sidecar of the file that has `digest`. `None` for a file of one group, which needs none.
    pub(crate) fn seal(mut self, digest: &mut ContentDigest) -> Option<SealedLeaves> {
        let groups = groups_of(digest.size);
        if groups < 2 {
            return None;
        }
        self.append(std::mem::take(&mut digest.leaves));
        if let Some(temp) = &self.temp
            && temp.write(digest.segments.as_flattened()).is_err()
        {
            self.memory = self.read_back();
            self.temp = None;
        }
        let clone = self.temp.as_ref().map(|temp| temp.file().try_clone());
        let store = match clone {
            Some(Ok(file)) => LeafStore::File(file),
            _ => LeafStore::Memory(std::mem::take(&mut self.memory)),
        };
        let leaves = Leaves {
            store,
            groups,
            root: *digest.blake3_root.as_bytes(),
            segments: std::mem::take(&mut digest.segments),
        };
        Some(SealedLeaves {
            temp: self.temp,
            leaves,
        })
    }

    fn append_to_file(&mut self, leaves: &[Leaf]) -> Result<(), WriteError> {
        self.volume.check_writable()?;
        if self.temp.is_none() {
            self.temp = Some(TempFile::create(&self.volume)?);
        }
        if let Some(temp) = &self.temp {
            temp.write(leaves.as_flattened())?;
            self.written += leaves.len() as u64;
        }
        Ok(())
    }

    /// What the temp file holds. A part of a failed write may follow it there.
    fn read_back(&self) -> Vec<Leaf> {
        let Some(temp) = &self.temp else {
            return Vec::new();
        };
        read_leaves(temp.file(), 0, self.written).unwrap_or_default()
    }
}

impl SealedLeaves {
    /// Gives the sidecar its name; the caller holds the hash's lock. A failure costs nothing but a pass over the file when
    /// it is read.
    pub(crate) fn keep(&mut self, path: &Path) {
        if let Some(mut temp) = self.temp.take()
            && let Err(error) = temp.rename_to(path)
        {
            tracing::debug!(path = %path.display(), %error, "sidecar not kept");
        }
    }

    pub(crate) fn into_leaves(self) -> Leaves {
        self.leaves
    }
}

fn read_leaves(file: &File, first: u64, count: u64) -> io::Result<Vec<Leaf>> {
    let count = usize::try_from(count).map_err(io::Error::other)?;
    let mut leaves = vec![[0u8; 32]; count];
    file.read_exact_at(leaves.as_flattened_mut(), first.saturating_mul(LEAF_BYTES))?;
    Ok(leaves)
}
