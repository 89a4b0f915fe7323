//! Verified reads: ranges, damage, and replicas that come without their record or sidecar.

// Clippy takes only #[test] functions for tests; the helpers around them may panic and cut test data as well.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::{ProptestConfig, any, proptest};
use richardstore_proto::{ContentHash, Generation};
use richardstore_store::{ReadError, ReplicaMeta, Store, StoreOptions};
use tempfile::TempDir;

const GROUP: usize = 64 << 10;
const SEGMENT: usize = 256 * GROUP;

fn open() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    (directory, store)
}

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at % 253) as u8 ^ (at / GROUP) as u8)
        .collect()
}

fn put(store: &Store, bytes: &[u8]) -> ReplicaMeta {
    store.put(bytes, Generation(1)).unwrap()
}

fn path_of(store: &Store, hash: &ContentHash) -> PathBuf {
    store.root().join(store.layout().relative_path(hash))
}

fn sidecar_of(store: &Store, hash: &ContentHash) -> PathBuf {
    let digits = hash.to_hex();
    store.root().join("trees").join(&digits[..2]).join(digits)
}

fn read(
    store: &Store,
    hash: &ContentHash,
    offset: u64,
    length: Option<u64>,
) -> (Vec<u8>, Result<(), ReadError>) {
    let mut bytes = Vec::new();
    let mut reader = match store.read(hash, offset, length) {
        Ok(reader) => reader,
        Err(error) => return (bytes, Err(error)),
    };
    loop {
        match reader.next_chunk() {
            Ok(Some(chunk)) => {
                assert!((1..=4 * GROUP).contains(&chunk.len()));
                bytes.extend(chunk);
            }
            Ok(None) => return (bytes, Ok(())),
            Err(error) => return (bytes, Err(error)),
        }
    }
}

fn read_all(store: &Store, hash: &ContentHash) -> Vec<u8> {
    let (bytes, result) = read(store, hash, 0, None);
    result.unwrap();
    bytes
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    // In place: the attribute belongs to the inode.
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_of_every_awkward_size_reads_back_and_its_name_is_its_sha256() {
    let (_directory, store) = open();
    for size in [
        0,
        1,
        GROUP - 1,
        GROUP,
        GROUP + 1,
        4 * GROUP,
        9 * GROUP + 5,
        SEGMENT + 1,
    ] {
        let bytes = content(size);
        let meta = put(&store, &bytes);
        assert_eq!(meta.size, size as u64);
        assert_eq!(fs::read(path_of(&store, &meta.hash)).unwrap(), bytes);
        assert_eq!(read_all(&store, &meta.hash), bytes);
        assert_eq!(store.meta(&meta.hash).unwrap(), Some(meta));
        let needs_sidecar = size > GROUP;
        assert_eq!(
            sidecar_of(&store, &meta.hash).exists(),
            needs_sidecar,
            "{size}"
        );
    }
}

#[test]
fn a_range_behind_the_end_is_refused_and_one_past_it_ends_there() {
    let (_directory, store) = open();
    let meta = put(&store, b"0123456789");
    assert_eq!(read(&store, &meta.hash, 8, Some(u64::MAX)).0, b"89");
    assert_eq!(read(&store, &meta.hash, 10, None).0, b"");
    assert_eq!(read(&store, &meta.hash, 3, Some(0)).0, b"");
    let (_, refused) = read(&store, &meta.hash, 11, None);
    assert!(matches!(
        refused,
        Err(ReadError::RangeNotSatisfiable { size: 10, .. })
    ));
    let (_, absent) = read(&store, &ContentHash::EMPTY, 0, None);
    assert!(matches!(absent, Err(ReadError::NotFound { .. })));
    assert_eq!(store.meta(&ContentHash::EMPTY).unwrap(), None);
}

#[test]
fn every_range_is_the_slice() {
    let (_directory, store) = open();
    let sizes = (0..6 * GROUP, 0..6 * GROUP, any::<Option<u32>>());
    proptest!(ProptestConfig::with_cases(48), |((size, offset, length) in sizes)| {
        let bytes = content(size);
        let meta = put(&store, &bytes);
        let offset = offset.min(size);
        let length = length.map(|length| length as usize % (7 * GROUP));
        let end = length.map_or(size, |length| (offset + length).min(size));
        let length = length.map(|length| length as u64);
        let (read, result) = read(&store, &meta.hash, offset as u64, length);
        result.unwrap();
        assert_eq!(read, bytes[offset..end]);
    });
}

#[test]
fn i05_no_wrong_byte_leaves_wherever_one_bit_flips() {
    let (_directory, store) = open();
    let places = (1..7 * GROUP, any::<u32>(), any::<u32>());
    proptest!(ProptestConfig::with_cases(48), |((size, at, start) in places)| {
        let bytes = content(size);
        let meta = put(&store, &bytes);
        let (at, start) = (at as usize % size, start as usize % size);
        flip(&path_of(&store, &meta.hash), at);
        let bad = at - at % GROUP;
        let (whole, result) = read(&store, &meta.hash, 0, None);
        assert_eq!(whole, bytes[..bad]);
        let hash = meta.hash;
        assert!(matches!(
            result,
            Err(ReadError::Corrupt { hash: named, offset }) if named == hash && offset == bad as u64
        ));
        let (range, result) = read(&store, &meta.hash, start as u64, Some(1));
        if (bad..bad + GROUP).contains(&start) {
            assert!(range.is_empty() && matches!(result, Err(ReadError::Corrupt { .. })));
        } else {
            result.unwrap();
            assert_eq!(range, bytes[start..=start]);
        }
    });
}

#[test]
fn i05_a_flip_in_each_part_of_a_file_of_two_segments_is_found() {
    let (_directory, store) = open();
    let bytes = content(SEGMENT + 2 * GROUP + 3);
    let meta = put(&store, &bytes);
    let path = path_of(&store, &meta.hash);
    for at in [0, SEGMENT - 1, SEGMENT, bytes.len() - 1] {
        flip(&path, at);
        let (_, result) = read(&store, &meta.hash, at as u64, Some(1));
        let bad = (at - at % GROUP) as u64;
        assert!(matches!(result, Err(ReadError::Corrupt { offset, .. }) if offset == bad));
        flip(&path, at);
        let (byte, result) = read(&store, &meta.hash, at as u64, Some(1));
        result.unwrap();
        assert_eq!(byte, bytes[at..=at]);
    }
}

#[test]
fn i05_a_truncated_or_emptied_replica_is_known_without_reading_it() {
    let (_directory, store) = open();
    for size in [10, 3 * GROUP] {
        let meta = put(&store, &content(size));
        let path = path_of(&store, &meta.hash);
        for left in [size - 1, 0] {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(left as u64).unwrap();
            assert!(matches!(
                store.meta(&meta.hash),
                Err(ReadError::Corrupt { .. })
            ));
            let (bytes, result) = read(&store, &meta.hash, 0, None);
            assert!(bytes.is_empty() && matches!(result, Err(ReadError::Corrupt { .. })));
        }
        // Writing it again puts it right.
        put(&store, &content(size));
        assert_eq!(read_all(&store, &meta.hash), content(size));
    }
}

#[test]
fn i05_a_file_truncated_after_it_was_opened_is_corrupt() {
    let (_directory, store) = open();
    let meta = put(&store, &content(6 * GROUP));
    let mut reader = store.read(&meta.hash, 0, None).unwrap();
    assert_eq!(reader.next_chunk().unwrap().unwrap().len(), 4 * GROUP);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path_of(&store, &meta.hash))
        .unwrap();
    file.set_len(5 * GROUP as u64).unwrap();
    assert!(matches!(
        reader.next_chunk(),
        Err(ReadError::Corrupt { .. })
    ));
    assert!(matches!(
        reader.next_chunk(),
        Err(ReadError::Corrupt { .. })
    ));
}

#[test]
fn a_sidecar_that_is_missing_or_wrong_is_computed_again() {
    let (_directory, store) = open();
    for size in [3 * GROUP, SEGMENT + 2 * GROUP] {
        let bytes = content(size);
        let meta = put(&store, &bytes);
        let sidecar = sidecar_of(&store, &meta.hash);
        let good = fs::read(&sidecar).unwrap();
        fs::remove_file(&sidecar).unwrap();
        assert_eq!(read_all(&store, &meta.hash), bytes);
        assert_eq!(fs::read(&sidecar).unwrap(), good);
        for at in [0, good.len() / 2, good.len() - 1] {
            flip(&sidecar, at);
            assert_eq!(read_all(&store, &meta.hash), bytes);
            assert_eq!(fs::read(&sidecar).unwrap(), good, "flip at {at}");
        }
        fs::write(&sidecar, &good[..good.len() - 32]).unwrap();
        assert_eq!(read_all(&store, &meta.hash), bytes);
        assert_eq!(fs::read(&sidecar).unwrap(), good);
    }
}

#[test]
fn i05_without_its_sidecar_a_damaged_file_is_still_not_served() {
    let (_directory, store) = open();
    let meta = put(&store, &content(3 * GROUP));
    fs::remove_file(sidecar_of(&store, &meta.hash)).unwrap();
    flip(&path_of(&store, &meta.hash), 2 * GROUP);
    let (bytes, result) = read(&store, &meta.hash, 0, None);
    assert!(bytes.is_empty() && matches!(result, Err(ReadError::Corrupt { .. })));
    assert!(!sidecar_of(&store, &meta.hash).exists());
}

#[test]
fn i05_a_sidecar_that_fits_wrong_bytes_does_not_vouch_for_them() {
    let (_directory, store) = open();
    for size in [3 * GROUP, SEGMENT + GROUP] {
        let meta = put(&store, &content(size));
        let mut other_bytes = content(size);
        other_bytes.reverse();
        let other = put(&store, &other_bytes);
        let sidecar = sidecar_of(&store, &meta.hash);
        fs::copy(sidecar_of(&store, &other.hash), sidecar).unwrap();
        fs::write(path_of(&store, &meta.hash), other_bytes).unwrap();
        let (bytes, result) = read(&store, &meta.hash, 0, None);
        assert!(bytes.is_empty() && matches!(result, Err(ReadError::Corrupt { .. })));
    }
}

#[test]
fn a_replica_copied_in_by_hand_is_served_after_a_check_and_has_generation_zero() {
    let (_directory, store) = open();
    let (_other_directory, other) = open();
    for size in [0, 100, 3 * GROUP] {
        let bytes = content(size);
        let meta = put(&other, &bytes);
        // fs::copy takes no attributes along.
        fs::copy(path_of(&other, &meta.hash), path_of(&store, &meta.hash)).unwrap();
        let expected = ReplicaMeta {
            generation: Generation(0),
            ..meta
        };
        assert_eq!(store.meta(&meta.hash).unwrap(), Some(expected));
        assert_eq!(read_all(&store, &meta.hash), bytes);
        assert_eq!(put(&store, &bytes).generation, Generation(1));
    }
}

#[test]
fn i05_a_file_under_a_wrong_name_is_never_served_even_with_a_record() {
    let (_directory, store) = open();
    for size in [100, 3 * GROUP] {
        let meta = put(&store, &content(size));
        let mut name = *meta.hash.as_bytes();
        name[31] ^= 1;
        let wrong = ContentHash::new(name);
        fs::rename(path_of(&store, &meta.hash), path_of(&store, &wrong)).unwrap();
        assert!(matches!(store.meta(&wrong), Err(ReadError::Corrupt { .. })));
        let (bytes, result) = read(&store, &wrong, 0, None);
        assert!(bytes.is_empty() && matches!(result, Err(ReadError::Corrupt { .. })));
    }
}

#[test]
fn a_read_outlives_the_delete_of_its_file() {
    let (_directory, store) = open();
    let bytes = content(9 * GROUP);
    let meta = put(&store, &bytes);
    let mut reader = store.read(&meta.hash, 0, None).unwrap();
    let mut read = reader.next_chunk().unwrap().unwrap();
    store.delete(&meta.hash, Generation(1), |_| {}).unwrap();
    assert_eq!(store.meta(&meta.hash).unwrap(), None);
    while let Some(chunk) = reader.next_chunk().unwrap() {
        read.extend(chunk);
    }
    assert_eq!(read, bytes);
}

#[test]
fn a_name_that_is_a_directory_link_or_pipe_is_no_replica() {
    let (_directory, store) = open();
    let path = path_of(&store, &ContentHash::EMPTY);
    fs::create_dir(&path).unwrap();
    assert_eq!(store.meta(&ContentHash::EMPTY).unwrap(), None);
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert_eq!(store.meta(&ContentHash::EMPTY).unwrap(), None);
}
