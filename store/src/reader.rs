//! [`VerifiedReader`]: a range of a replica, each 64 KiB group of which is verified against the file's BLAKE3 root before any
//! of its bytes leaves (I5). It reads the file that was there when it was opened: a delete or a new publish meanwhile
//! does not disturb it.

use std::io;
use std::sync::Arc;

use richardstore_proto::ContentHash;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use crate::replica::{OpenReplica, ReplicaMeta};
use crate::sidecar::{LeafWriter, Leaves};
use crate::store::Inner;
use crate::tree::{GROUP_BYTES, Leaf, SEGMENT_GROUPS, leaf_of};
use crate::{ReadError, Store};

/// Bytes of a chunk at most: four groups.
const CHUNK_BYTES: u64 = 4 * GROUP_BYTES;

/// Hands out a range of a replica in verified chunks. Memory: a chunk, 8 KiB of leaves, 32 bytes for each 16 MiB of the
/// file.
pub struct VerifiedReader {
    inner: Arc<Inner>,
    replica: OpenReplica,
    meta: ReplicaMeta,
    position: u64,
    end: u64,
    /// `None` for a file of one group, which the root itself verifies.
    leaves: Option<Leaves>,
    /// The segment read last, with its number.
    segment: Option<(u64, Vec<Leaf>)>,
    /// Sidecars are computed anew once per reader: a second failure is not the sidecar's.
    recomputed: bool,
}

impl Store {
    /// Opens a replica for reading `length` bytes from `offset`, or all that follows. A length that goes past the end of
    /// the file ends there.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::RangeNotSatisfiable`] for an offset behind the end, [`ReadError::Corrupt`] where
    /// the file is seen to be damaged before a group is read.
    pub fn read(
        &self,
        hash: &ContentHash,
        offset: u64,
        length: Option<u64>,
    ) -> Result<VerifiedReader, ReadError> {
        let replica = OpenReplica::open(&self.inner.volume, hash)
            .map_err(|error| self.inner.suspecting(hash, error))?
            .ok_or(ReadError::NotFound { hash: *hash })?;
        let mut reader = VerifiedReader::open(self.inner.clone(), replica)
            .map_err(|error| self.inner.suspecting(hash, error))?;
        let size = reader.meta.size;
        if offset > size {
            return Err(ReadError::RangeNotSatisfiable {
                hash: *hash,
                offset,
                size,
            });
        }
        reader.position = offset;
        reader.end = length.map_or(size, |length| offset.saturating_add(length).min(size));
        Ok(reader)
    }
}

impl VerifiedReader {
    fn open(inner: Arc<Inner>, replica: OpenReplica) -> Result<Self, ReadError> {
        let (meta, leaves) = match replica.recorded_meta()? {
            Some(meta) if meta.size <= GROUP_BYTES => {
                if meta.size == 0 && meta.blake3_root.as_bytes() != blake3::hash(b"").as_bytes() {
                    return Err(replica.corrupt(0));
                }
                (meta, None)
            }
            Some(meta) => {
                let path = inner.volume.sidecar_path(&meta.hash);
                match Leaves::open(&path, meta.size, &meta.blake3_root) {
                    Some(leaves) => (meta, Some(leaves)),
                    None => recompute(&inner, &replica)?,
                }
            }
            None => recompute(&inner, &replica)?,
        };
        Ok(Self {
            inner,
            replica,
            meta,
            position: 0,
            end: meta.size,
            leaves,
            segment: None,
            recomputed: false,
        })
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.meta.size
    }

    /// What is known of the file.
    pub fn meta(&self) -> &ReplicaMeta {
        &self.meta
    }

    /// The next verified bytes of the range, at most 256 KiB and at least one; `None` at its end.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where the next group does not verify. What was handed out before is right.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let chunk = self.next_verified();
        chunk.map_err(|error| match self.inner.is_current(&self.replica) {
            true => self.inner.suspecting(&self.meta.hash, error),
            // Nothing is known against the file that has the name now.
            false => error,
        })
    }

    fn next_verified(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let start = self.position - self.position % GROUP_BYTES;
        let wanted = self.end.next_multiple_of(GROUP_BYTES).min(self.meta.size);
        let stop = wanted.min(start + CHUNK_BYTES);
        let mut bytes = self.read_at(start, stop)?;
        let verified = self.verified_bytes(start, &bytes)?;
        // Good groups in front of a bad one leave; the next call meets the bad one first.
        bytes.truncate(verified);
        let skip = usize_of(self.position - start);
        if bytes.len() <= skip {
            return Err(self.replica.corrupt(start));
        }
        bytes.truncate(usize_of((self.end - start).min(bytes.len() as u64)));
        bytes.drain(..skip);
        self.position += bytes.len() as u64;
        Ok(Some(bytes))
    }

    fn read_at(&self, start: u64, stop: u64) -> Result<Vec<u8>, ReadError> {
        let length = usize_of(stop - start);
        // Not filled with zeros first: that took a twentieth of the processor time of a long download.
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let from = start + bytes.len() as u64;
            match pread(&self.replica.file, spare_capacity(&mut bytes), from) {
                // The file became shorter since it was opened: nobody does that to a good replica.
                Ok(0) => return Err(self.replica.corrupt(start)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.replica.io(error.into())),
            }
        }
        // The vector may have more room than was asked for.
        bytes.truncate(length);
        Ok(bytes)
    }

    /// How many of `bytes`, which begin at `start`, are in groups that verify, up to the first that does not.
    fn verified_bytes(&mut self, start: u64, bytes: &[u8]) -> Result<usize, ReadError> {
        let mut verified = 0;
        for group in bytes.chunks(usize_of(GROUP_BYTES)) {
            if !self.verifies(start + verified as u64, group)? {
                break;
            }
            verified += group.len();
        }
        Ok(verified)
    }

    fn verifies(&mut self, offset: u64, group: &[u8]) -> Result<bool, ReadError> {
        if self.meta.size <= GROUP_BYTES {
            return Ok(blake3::hash(group).as_bytes() == self.meta.blake3_root.as_bytes());
        }
        let number = offset / GROUP_BYTES;
        let per_segment = SEGMENT_GROUPS as u64;
        let leaves = self.load_segment(number / per_segment)?;
        let expected = leaves.get(usize_of(number % per_segment));
        Ok(expected == Some(&leaf_of(offset, group)))
    }

    fn load_segment(&mut self, segment: u64) -> Result<&[Leaf], ReadError> {
        let loaded = match self.segment.take() {
            Some((number, leaves)) if number == segment => leaves,
            _ => self.read_segment(segment)?,
        };
        Ok(&self.segment.insert((segment, loaded)).1)
    }

    fn read_segment(&mut self, segment: u64) -> Result<Vec<Leaf>, ReadError> {
        let read = |leaves: &Option<Leaves>| leaves.as_ref().and_then(|all| all.segment(segment));
        if let Some(leaves) = read(&self.leaves) {
            return Ok(leaves);
        }
        if !self.recomputed {
            self.recomputed = true;
            self.leaves = recompute(&self.inner, &self.replica)?.1;
            if let Some(leaves) = read(&self.leaves) {
                return Ok(leaves);
            }
        }
        let path = self.inner.volume.sidecar_path(&self.meta.hash);
        let source = io::Error::other("the leaves cannot be kept anywhere");
        Err(ReadError::Io { path, source })
    }
}

/// Computes what is missing, record or sidecar, by a pass over the file, and keeps it for the next reader.
fn recompute(
    inner: &Inner,
    replica: &OpenReplica,
) -> Result<(ReplicaMeta, Option<Leaves>), ReadError> {
    let mut writer = LeafWriter::new(inner.volume.clone());
    let mut digest = replica.pass(&mut |leaves| writer.append(leaves))?;
    let recorded = replica.recorded_meta()?;
    let meta = recorded.unwrap_or_else(|| ReplicaMeta::without_record(&digest));
    if meta.blake3_root != digest.blake3_root {
        return Err(replica.corrupt(0));
    }
    let sealed = writer.seal(&mut digest);
    let leaves = keep(inner, replica, &meta, sealed);
    Ok((meta, leaves))
}

/// Only while nobody holds the hash, and only while the name still leads to the file: a sidecar must not appear after the
/// delete of its file. Failing to keep costs the next reader another pass.
fn keep(
    inner: &Inner,
    replica: &OpenReplica,
    meta: &ReplicaMeta,
    sealed: Option<crate::sidecar::SealedLeaves>,
) -> Option<Leaves> {
    let mut sealed = sealed;
    if let Some(_guard) = inner.locks.try_lock(&meta.hash)
        && inner.volume.check_writable().is_ok()
        && let Ok(Some(current)) = OpenReplica::open(&inner.volume, &meta.hash)
        && inner.is_current(replica)
    {
        if let Some(sealed) = &mut sealed {
            sealed.keep(&inner.volume.sidecar_path(&meta.hash));
        }
        if current.record.is_none() {
            let record = meta.record().encode(&meta.hash);
            if let Err(error) = inner.volume.disk.set_record(&current.file, &record) {
                tracing::debug!(hash = %meta.hash, %error, "record not kept");
            }
        }
    }
    sealed.map(crate::sidecar::SealedLeaves::into_leaves)
}

impl Inner {
    /// Whether the name still leads to this file.
    pub(crate) fn is_current(&self, replica: &OpenReplica) -> bool {
        let named = std::fs::symlink_metadata(&replica.path);
        matches!((named, replica.file.metadata()), (Ok(named), Ok(read)) if same_file(&named, &read))
    }

    /// Takes note of an error that shows damage.
    fn suspecting(&self, hash: &ContentHash, error: ReadError) -> ReadError {
        if error.is_damage() {
            self.suspects.note(hash);
        }
        error
    }

    /// What is known of an opened replica, by a pass over it where it has no record.
    pub(crate) fn meta_of(&self, replica: &OpenReplica) -> Result<ReplicaMeta, ReadError> {
        match replica.recorded_meta()? {
            Some(meta) => Ok(meta),
            None => Ok(recompute(self, replica)?.0),
        }
    }
}

fn same_file(left: &std::fs::Metadata, right: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (left.dev(), left.ino()) == (right.dev(), right.ino())
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a length within one chunk")
}
