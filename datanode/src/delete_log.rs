//! [`DeleteLog`]: the deletes that this datanode was told of, on disk before it answers that they are done.
//!
//! The namenode's metadata may be lost, or restored from a copy that is older than a delete. What the datanodes remember then
//! is what keeps the file deleted (I8). It is a log and not in the index, which is a cache.
//!
//! `deletes/NUMBER.log` are segments of frames of one size, each with a checksum. A segment has its room on disk from the
//! start, so that deletes still work where the disk is full. A frame that is torn or damaged is left out, and those behind it
//! count: whatever has a frame was ordered by the namenode, answered or not. Damage before the last frame is no torn append, and
//! is told of. Segments go as a whole once everything in them is known to every copy of the metadata that is kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use richardstore_proto::{ContentHash, Generation, RememberedDelete};
use rustix::fs::{FallocateFlags, fallocate};

/// hash (32) | generation (8, little endian) | marker (8) | CRC32C of those (4)
const FRAME_BYTES: usize = 52;
const FRAMES_A_SEGMENT: usize = 5_000;

/// The log of one datanode.
pub(crate) struct DeleteLog {
    directory: PathBuf,
    damaged: usize,
    segments: Mutex<Segments>,
}

struct Segments {
    /// Where deletes are appended. `None` after an append failed: what is on disk behind it is not known.
    current: Option<Segment>,
    /// The newest marker of each segment that is not appended to any more.
    closed: BTreeMap<u64, Generation>,
    next_number: u64,
}

struct Segment {
    number: u64,
    file: File,
    frames: usize,
    newest: Generation,
}

impl DeleteLog {
    /// Opens the log in `directory`, or makes one. What a crash left half written is cut off.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let (mut closed, mut damaged) = (BTreeMap::new(), 0);
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let Some(number) = number_of(&path) else {
                continue;
            };
            let mut newest = Generation(0);
            let found = read_segment(&path, &mut |delete| {
                newest = newest.max(delete.marker);
                ControlFlow::Continue(())
            })?;
            if found.damaged > 0 {
                let (path, frames) = (path.display(), found.damaged);
                tracing::error!(%path, frames, "deletes that were remembered cannot be read any more");
                damaged += found.damaged;
            }
            if found.frames == 0 {
                fs::remove_file(&path)?;
                continue;
            }
            let whole = u64::try_from(found.frames * FRAME_BYTES).unwrap_or(u64::MAX);
            if fs::metadata(&path)?.len() != whole {
                let file = File::options().write(true).open(&path)?;
                file.set_len(whole)?;
                file.sync_all()?;
            }
            closed.insert(number, newest);
        }
        let log = Self {
            directory,
            damaged,
            segments: Mutex::new(Segments {
                current: None,
                next_number: closed.last_key_value().map_or(1, |(number, _)| number + 1),
                closed,
            }),
        };
        // Now, while there is room: on a full disk a delete is what makes some.
        let mut segments = log.segments();
        segments.current = log.begin_segment(segments.next_number).ok();
        segments.next_number += 1;
        drop(segments);
        Ok(log)
    }

    /// Appends and syncs. What was appended is found by every later [`DeleteLog::visit`], also after a power loss.
    ///
    /// # Errors
    /// The disk refuses. It is then not known which of them are there.
    pub fn append(&self, deletes: &[RememberedDelete]) -> io::Result<()> {
        let mut segments = self.segments();
        for chunk in deletes.chunks(FRAMES_A_SEGMENT) {
            let mut current = match segments.current.take() {
                Some(segment) if segment.frames + chunk.len() <= FRAMES_A_SEGMENT => segment,
                full => {
                    if let Some(full) = full {
                        segments.closed.insert(full.number, full.newest);
                    }
                    let number = segments.next_number;
                    segments.next_number += 1;
                    self.begin_segment(number)?
                }
            };
            let written = append_to(&mut current, chunk);
            if written.is_err() {
                segments.closed.insert(current.number, current.newest);
                return written;
            }
            segments.current = Some(current);
        }
        Ok(())
    }

    /// Forgets deletes with a marker before `before`, as far as whole segments have no other.
    pub fn forget_before(&self, before: Generation) -> io::Result<()> {
        let mut segments = self.segments();
        let spent = |segment: &mut Segment| segment.frames > 0 && segment.newest < before;
        if let Some(current) = segments.current.take_if(spent) {
            segments.closed.insert(current.number, current.newest);
            let number = segments.next_number;
            segments.next_number += 1;
            segments.current = self.begin_segment(number).ok();
        }
        let numbers: Vec<u64> = segments
            .closed
            .iter()
            .filter(|(_, newest)| **newest < before)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            fs::remove_file(self.path(number))?;
            segments.closed.remove(&number);
        }
        Ok(())
    }

    /// Deletes that could not be read when the log was opened.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Hands every delete to `visit`, in the order in which they came, until it breaks off.
    pub fn visit(
        &self,
        visit: &mut dyn FnMut(RememberedDelete) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let numbers: Vec<u64> = {
            let segments = self.segments();
            let current = segments.current.iter().map(|segment| segment.number);
            segments.closed.keys().copied().chain(current).collect()
        };
        let mut flow = ControlFlow::Continue(());
        for number in numbers {
            let mut watched = |delete| {
                flow = visit(delete);
                flow
            };
            match read_segment(&self.path(number), &mut watched) {
                // Forgotten meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => {
                    read?;
                }
            }
            if flow.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin_segment(&self, number: u64) -> io::Result<Segment> {
        let file = File::options()
            .create_new(true)
            .write(true)
            .open(self.path(number))?;
        let room = u64::try_from(FRAMES_A_SEGMENT * FRAME_BYTES).unwrap_or(u64::MAX);
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, room) {
            tracing::debug!(%error, "no room was set aside for deletes");
        }
        file.sync_all()?;
        File::open(&self.directory)?.sync_all()?;
        Ok(Segment {
            number,
            file,
            frames: 0,
            newest: Generation(0),
        })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016}.log"))
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_to(segment: &mut Segment, deletes: &[RememberedDelete]) -> io::Result<()> {
    let bytes: Vec<u8> = deletes.iter().flat_map(encode).collect();
    let offset = u64::try_from(segment.frames * FRAME_BYTES).unwrap_or(u64::MAX);
    // Before it is written: what is on disk after a failure may be there.
    let newest = deletes.iter().map(|delete| delete.marker).max();
    segment.newest = segment.newest.max(newest.unwrap_or_default());
    segment.file.write_all_at(&bytes, offset)?;
    segment.file.sync_data()?;
    segment.frames += deletes.len();
    Ok(())
}

/// What a segment consists of.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Frames up to the last that is a delete.
    frames: usize,
    /// Those of them that are none.
    damaged: usize,
}

/// Hands the deletes of a segment to `visit`.
fn read_segment(
    path: &Path,
    visit: &mut dyn FnMut(RememberedDelete) -> ControlFlow<()>,
) -> io::Result<Found> {
    let mut input = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut frame = [0; FRAME_BYTES];
    let mut found = Found::default();
    // Perhaps damage, perhaps the end.
    let mut none = 0;
    loop {
        match input.read_exact(&mut frame) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(found),
            Err(error) => return Err(error),
        }
        let Some(delete) = decode(&frame) else {
            none += 1;
            continue;
        };
        found.frames += none + 1;
        found.damaged += none;
        none = 0;
        if visit(delete).is_break() {
            return Ok(found);
        }
    }
}

fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".log")?.parse().ok()
}

fn encode(delete: &RememberedDelete) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..32].copy_from_slice(delete.hash.as_bytes());
    frame[32..40].copy_from_slice(&delete.generation.0.to_le_bytes());
    frame[40..48].copy_from_slice(&delete.marker.0.to_le_bytes());
    let checksum = crc32c::crc32c(&frame[..48]);
    frame[48..].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn decode(frame: &[u8; FRAME_BYTES]) -> Option<RememberedDelete> {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&frame[at..at + 8]);
        Generation(u64::from_le_bytes(bytes))
    };
    let (mut hash, mut checksum) = ([0; 32], [0; 4]);
    hash.copy_from_slice(&frame[..32]);
    checksum.copy_from_slice(&frame[48..]);
    (u32::from_le_bytes(checksum) == crc32c::crc32c(&frame[..48])).then(|| RememberedDelete {
        hash: ContentHash::new(hash),
        generation: number(32),
        marker: number(40),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use richardstore_fuzz::{fuzz, mutated};

    fn delete(marker: u64) -> RememberedDelete {
        RememberedDelete {
            hash: ContentHash::new([u8::try_from(marker % 251).unwrap(); 32]),
            generation: Generation(marker * 10),
            marker: Generation(marker),
        }
    }

    fn open(directory: &tempfile::TempDir) -> DeleteLog {
        DeleteLog::open(directory.path().join("deletes")).unwrap()
    }

    fn markers(log: &DeleteLog) -> Vec<u64> {
        let mut markers = Vec::new();
        log.visit(&mut |found| {
            assert_eq!(found, delete(found.marker.0));
            markers.push(found.marker.0);
            ControlFlow::Continue(())
        })
        .unwrap();
        markers
    }

    #[test]
    fn i08_a_delete_is_remembered_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let log = open(&directory);
            assert_eq!(markers(&log), (1..=2 * round).collect::<Vec<_>>());
            log.append(&[delete(2 * round + 1)]).unwrap();
            log.append(&[delete(2 * round + 2)]).unwrap();
        }
        assert_eq!(markers(&open(&directory)), [1, 2, 3, 4, 5, 6]);
    }

    /// Three deletes of which one is damaged, in its first `bytes` bytes.
    fn damaged(directory: &tempfile::TempDir, frame: usize, bytes: usize) -> DeleteLog {
        let log = open(directory);
        log.append(&[delete(1), delete(2), delete(3)]).unwrap();
        let path = log.path(1);
        drop(log);
        let mut content = fs::read(&path).unwrap();
        let from = frame * FRAME_BYTES;
        let torn = &mut content[from..from + bytes];
        torn.iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&path, &content).unwrap();
        open(directory)
    }

    #[test]
    fn i08_a_torn_tail_is_cut_and_never_believed() {
        for bytes in 1..=FRAME_BYTES {
            let directory = tempfile::tempdir().unwrap();
            let log = damaged(&directory, 2, bytes);
            assert_eq!((markers(&log), log.damaged()), (vec![1, 2], 0));
            log.append(&[delete(4)]).unwrap();
            drop(log);
            assert_eq!(markers(&open(&directory)), [1, 2, 4]);
        }
    }

    #[test]
    fn i08_a_damaged_frame_costs_no_other_and_is_told_of() {
        for frame in 0..2 {
            for bytes in [1, FRAME_BYTES / 2, FRAME_BYTES] {
                let directory = tempfile::tempdir().unwrap();
                let log = damaged(&directory, frame, bytes);
                let mut left = vec![1, 2, 3];
                left.remove(frame);
                assert_eq!((markers(&log), log.damaged()), (left.clone(), 1));
                log.append(&[delete(4)]).unwrap();
                drop(log);
                left.push(4);
                let log = open(&directory);
                assert_eq!((markers(&log), log.damaged()), (left, 1));
            }
        }
    }

    #[test]
    fn i11_what_is_not_needed_any_more_is_forgotten_by_the_segment() {
        let directory = tempfile::tempdir().unwrap();
        let log = open(&directory);
        let count = u64::try_from(2 * FRAMES_A_SEGMENT + 10).unwrap();
        let all: Vec<_> = (1..=count).map(delete).collect();
        for stage in all.chunks(256) {
            log.append(stage).unwrap();
        }
        log.forget_before(Generation(2)).unwrap();
        assert_eq!(markers(&log).len(), all.len());
        log.forget_before(Generation(count)).unwrap();
        let left = markers(&log);
        assert!(left.len() < FRAMES_A_SEGMENT && left.ends_with(&[count - 1, count]));
        log.forget_before(Generation(count + 1)).unwrap();
        assert_eq!(markers(&log), [0; 0]);
        assert_eq!(
            fs::read_dir(directory.path().join("deletes"))
                .unwrap()
                .count(),
            1
        );
        log.append(&[delete(1)]).unwrap();
        assert_eq!(markers(&open(&directory)), [1]);
    }

    #[test]
    fn i08_of_a_segment_that_was_changed_only_sound_frames_are_believed() {
        let all: Vec<_> = (1..=6).map(delete).collect();
        let whole: Vec<u8> = all.iter().flat_map(encode).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0000000000000001.log");
        fuzz("segments of deletes", 1_000, &mutated(whole), |bytes| {
            fs::write(&path, &bytes).unwrap();
            let mut found = Vec::new();
            let read = read_segment(&path, &mut |delete| {
                found.push(delete);
                ControlFlow::Continue(())
            });
            let read = read.unwrap();
            assert_eq!(read.frames - read.damaged, found.len());
            // Frames may be there twice; none is there that was never written.
            assert!(found.iter().all(|delete| all.contains(delete)));
        });
    }

    proptest! {
        #[test]
        fn a_frame_that_was_changed_is_none(
            hash in any::<[u8; 32]>(),
            generation: u64,
            marker: u64,
            flip in prop::sample::select((0..FRAME_BYTES * 8).collect::<Vec<_>>()),
        ) {
            let delete = RememberedDelete {
                hash: ContentHash::new(hash),
                generation: Generation(generation),
                marker: Generation(marker),
            };
            let mut frame = encode(&delete);
            assert_eq!(decode(&frame), Some(delete));
            frame[flip / 8] ^= 1 << (flip % 8);
            assert_eq!(decode(&frame), None);
        }
    }
}
