//! The order of the calls that durability depends on, and what their failures lead to.

use std::path::Path;

use richardstore_proto::{ContentHash, ErrorCode, Generation, StoreError};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::recording_disk::{Kind, RecordingDisk, until};
use crate::{DeleteOutcome, Depth, Layout, OpenError, Store, StoreOptions, WriteError};

const GROUP: usize = 64 << 10;

fn open(layout: Option<Layout>) -> (TempDir, RecordingDisk, Store) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RecordingDisk::default();
    let options = StoreOptions {
        layout,
        headroom_bytes: 0,
        capacity_bytes: None,
    };
    let root = directory.path().join("root");
    let store = Store::open_on(&root, &options, Box::new(disk.clone())).unwrap();
    disk.take_calls();
    (directory, disk, store)
}

fn put(store: &Store, bytes: &[u8]) -> Result<ContentHash, WriteError> {
    Ok(store.put(bytes, Generation(1))?.hash)
}

fn put_and_acknowledge(store: &Store, disk: &RecordingDisk, bytes: &[u8]) -> ContentHash {
    let mut writer = store.writer(0).unwrap();
    writer.write(bytes).unwrap();
    let prepared = writer.finish().unwrap();
    let publishing = prepared.publish(Generation(1), |_| disk.acknowledge());
    publishing.unwrap().hash
}

fn temp_files(store: &Store) -> usize {
    let temp = store.root().join("temp");
    std::fs::read_dir(temp).unwrap().count()
}

fn read_all(store: &Store, hash: &ContentHash) -> Vec<u8> {
    let mut reader = store.read(hash, 0, None).unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        bytes.extend(chunk);
    }
    bytes
}

#[test]
fn i01_a_lone_publish_syncs_data_then_renames_then_syncs_the_directory_then_acknowledges() {
    let (_directory, disk, store) = open(None);
    let hash = put_and_acknowledge(&store, &disk, b"one");
    let target = store.root().join(store.layout().relative_path(&hash));
    let calls = disk.take_calls();
    let kinds: Vec<Kind> = calls.iter().map(|call| call.0).collect();
    assert_eq!(
        kinds,
        [
            Kind::Write,
            Kind::SetRecord,
            Kind::SyncFile,
            Kind::Rename,
            Kind::SyncDirectory,
            Kind::Acknowledge
        ]
    );
    assert_eq!(calls[3].1, target);
    assert_eq!(Some(calls[4].1.as_path()), target.parent());
}

#[test]
fn i01_publishes_that_meet_share_one_sync_before_their_renames_and_one_after() {
    let (_directory, disk, store) = open(None);
    let gate = disk.hold(Kind::SyncFile);
    std::thread::scope(|scope| {
        scope.spawn(|| put_and_acknowledge(&store, &disk, b"first"));
        gate.reached();
        for number in 0..8u8 {
            let (store, disk) = (&store, &disk);
            scope.spawn(move || put_and_acknowledge(store, disk, &[number]));
        }
        until(|| store.inner.batches.waiting() == 8);
        disk.take_calls();
        gate.open();
    });
    let kinds = disk.take_kinds();
    let shared: Vec<Kind> = kinds
        .iter()
        .copied()
        .skip_while(|kind| *kind != Kind::SyncFilesystem)
        .filter(|kind| *kind != Kind::Acknowledge)
        .collect();
    assert_eq!(shared[0], Kind::SyncFilesystem, "{kinds:?}");
    assert_eq!(shared[1..9], [Kind::Rename; 8], "{kinds:?}");
    assert_eq!(shared[9..], [Kind::SyncFilesystem], "{kinds:?}");
    let last_sync = kinds.iter().rposition(|kind| *kind == Kind::SyncFilesystem);
    let after = &kinds[last_sync.unwrap() + 1..];
    let acknowledged = after.iter().filter(|kind| **kind == Kind::Acknowledge);
    assert!(acknowledged.count() >= 8, "{kinds:?}");
}

fn prepare(store: &Store, bytes: &[u8]) -> crate::PreparedReplica {
    let mut writer = store.writer(0).unwrap();
    writer.write(bytes).unwrap();
    writer.finish().unwrap()
}

fn ended(publication: crate::Publication) -> Result<crate::ReplicaMeta, WriteError> {
    match publication {
        crate::Publication::Ended(ended) => ended,
        crate::Publication::Busy(..) => panic!("nobody else is here"),
    }
}

#[test]
fn i01_replicas_that_are_published_together_are_acknowledged_after_both_syncs() {
    let (_directory, disk, store) = open(None);
    let replicas = [b"a", b"b", b"c"].map(|bytes| (prepare(&store, bytes), Generation(1)));
    let hashes = replicas.each_ref().map(|(replica, _)| replica.hash());
    disk.take_calls();
    let published = store.publish_all(replicas.into(), |_| disk.acknowledge());
    let published: Vec<_> = published
        .into_iter()
        .map(|publication| ended(publication).unwrap().hash)
        .collect();
    assert_eq!(published, hashes, "in the order in which they were given");
    let mut expected = vec![Kind::SetRecord; 3];
    expected.push(Kind::SyncFilesystem);
    expected.extend([Kind::Rename; 3]);
    expected.push(Kind::SyncFilesystem);
    expected.extend([Kind::Acknowledge; 3]);
    assert_eq!(disk.take_kinds(), expected);
}

#[test]
fn one_of_those_that_are_published_together_fails_alone() {
    let (_directory, disk, store) = open(None);
    let replicas = [b"a", b"b"].map(|bytes| (prepare(&store, bytes), Generation(1)));
    let last = replicas[1].0.hash();
    disk.fail(Kind::SetRecord, 1, Errno::NOSPC);
    let published = store.publish_all(replicas.into(), |meta| assert_ne!(meta.hash, last));
    let failed: Vec<bool> = published
        .into_iter()
        .map(|publication| ended(publication).is_err())
        .collect();
    assert_eq!(failed, [false, true]);
    assert_eq!((temp_files(&store), store.failed()), (0, None));
    assert!(store.meta(&last).unwrap().is_none());
}

#[test]
fn i04_what_is_twice_among_them_is_published_once_with_the_higher_generation() {
    let (_directory, disk, store) = open(None);
    let replicas = [(b"a", 2), (b"b", 1), (b"a", 3)]
        .map(|(bytes, generation)| (prepare(&store, bytes), Generation(generation)));
    disk.take_calls();
    let mut told = Vec::new();
    let published = store.publish_all(replicas.into(), |meta| told.push(meta.generation.0));
    let generations: Vec<u64> = published
        .into_iter()
        .map(|publication| ended(publication).unwrap().generation.0)
        .collect();
    assert_eq!((generations, told), (vec![3, 1, 3], vec![3, 1]));
    let renames = disk.take_kinds();
    let renames = renames.iter().filter(|kind| **kind == Kind::Rename);
    assert_eq!((renames.count(), temp_files(&store)), (2, 0));
}

#[test]
fn a_file_whose_hash_somebody_holds_keeps_no_other_one_waiting() {
    let (_directory, _disk, store) = open(None);
    let replicas = [b"a", b"b"].map(|bytes| (prepare(&store, bytes), Generation(1)));
    let (held, free) = (replicas[0].0.hash(), replicas[1].0.hash());
    let mut published = store.with_lock(&held, || store.publish_all(replicas.into(), |_| {}));
    let other = published.pop().map(ended).unwrap().unwrap();
    assert_eq!(other.hash, free);
    let Some(crate::Publication::Busy(busy)) = published.pop() else {
        panic!("its lock is held");
    };
    let (replica, generation) = *busy;
    assert_eq!(replica.publish(generation, |_| {}).unwrap().hash, held);
}

#[test]
fn i01_a_new_directory_is_synced_with_its_parents() {
    let (_directory, disk, store) = open(Some(Layout::new(5, Depth::Full).unwrap()));
    put_and_acknowledge(&store, &disk, b"one");
    let kinds = disk.take_kinds();
    let ending = [
        Kind::Rename,
        Kind::Rename,
        Kind::SyncFilesystem,
        Kind::Acknowledge,
    ];
    assert_eq!(kinds[kinds.len() - 4..], ending, "{kinds:?}");
}

#[test]
fn i03_a_delete_is_acknowledged_after_the_directory_is_synced() {
    let (_directory, disk, store) = open(None);
    let hash = put(&store, b"one").unwrap();
    disk.take_calls();
    let outcome = store.delete(&hash, Generation(1), |_| disk.acknowledge());
    assert!(matches!(outcome, Ok(DeleteOutcome::Deleted(meta)) if meta.hash == hash));
    let expected = [Kind::Unlink, Kind::SyncDirectory, Kind::Acknowledge];
    assert_eq!(disk.take_kinds(), expected);
}

#[test]
fn a_failed_sync_fails_the_volume_and_is_not_tried_again() {
    for kind in [Kind::SyncFile, Kind::SyncDirectory] {
        let (_directory, disk, store) = open(None);
        let before = put(&store, b"before").unwrap();
        disk.take_calls();
        disk.fail(kind, 0, Errno::IO);
        let refused = put(&store, b"lost").unwrap_err();
        assert!(
            matches!(refused, WriteError::VolumeFailed { .. }),
            "{refused}"
        );
        disk.heal();
        assert_eq!(
            disk.take_kinds()
                .into_iter()
                .filter(|call| *call == kind)
                .count(),
            1
        );
        assert!(
            store.failed().unwrap().contains("sync"),
            "{:?}",
            store.failed()
        );

        assert!(matches!(
            store.writer(1),
            Err(WriteError::VolumeFailed { .. })
        ));
        let delete = store.delete(&before, Generation(9), |_| {});
        assert!(matches!(delete, Err(WriteError::VolumeFailed { .. })));
        assert_eq!(disk.take_kinds(), [], "a failed volume is not touched");
        assert_eq!(read_all(&store, &before), b"before", "but read");
        assert_eq!(temp_files(&store), 0);
        assert_eq!(StoreError::from(refused).code, ErrorCode::Unavailable);
    }
}

#[test]
fn i02_a_file_whose_data_did_not_sync_never_gets_a_name() {
    let (_directory, disk, store) = open(None);
    disk.fail(Kind::SyncFile, 0, Errno::IO);
    put(&store, b"lost").unwrap_err();
    assert!(!disk.take_kinds().contains(&Kind::Rename));
}

#[test]
fn a_failed_sync_of_a_batch_fails_all_of_it() {
    let (_directory, disk, store) = open(None);
    let gate = disk.hold(Kind::SyncFile);
    disk.fail(Kind::SyncFilesystem, 0, Errno::IO);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| put(&store, b"first"));
        gate.reached();
        let rest: Vec<_> = (0..3u8)
            .map(|number| {
                let store = &store;
                scope.spawn(move || put(store, &[number]))
            })
            .collect();
        until(|| store.inner.batches.waiting() == 3);
        gate.open();
        first.join().unwrap().unwrap();
        for put in rest {
            let error = put.join().unwrap().unwrap_err();
            assert!(matches!(error, WriteError::VolumeFailed { .. }), "{error}");
        }
    });
    let renames = disk
        .take_kinds()
        .into_iter()
        .filter(|kind| *kind == Kind::Rename);
    assert_eq!(renames.count(), 1);
}

#[test]
fn a_failed_sync_of_everything_fails_the_volume() {
    let (_directory, disk, store) = open(None);
    disk.fail(Kind::SyncFilesystem, 0, Errno::IO);
    store.sync_all().unwrap_err();
    assert!(store.failed().is_some());
}

#[test]
fn a_long_file_goes_past_the_page_cache_in_blocks_whatever_its_length_and_its_pieces() {
    let (_directory, disk, store) = open(None);
    let megabyte = 1usize << 20;
    let sizes = [
        megabyte,
        megabyte + 1,
        3 * megabyte,
        3 * megabyte + 4097,
        2 * megabyte - 5000,
    ];
    for (size, hint) in sizes.into_iter().flat_map(|size| {
        let hints = [0, size, size + 12_345, size / 2].map(|hint| (size, hint as u64));
        hints.into_iter()
    }) {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 253).to_le_bytes()[0]).collect();
        for piece in [777_777, megabyte, 4096] {
            let mut writer = store.writer(hint).unwrap();
            disk.take_calls();
            for piece in bytes.chunks(piece) {
                writer.write(piece).unwrap();
            }
            let replica = writer.finish().unwrap();
            let hash = replica.hash();
            let kinds = disk.take_kinds();
            let synced = kinds.iter().filter(|kind| **kind == Kind::SyncData);
            assert_eq!(synced.count(), 1, "before others wait for its sync");
            replica.publish(Generation(1), |_| {}).unwrap();
            assert_eq!(
                disk.take_kinds()[1],
                Kind::SyncFile,
                "before it has its name"
            );
            assert_eq!(
                read_all(&store, &hash),
                bytes,
                "{size}, said {hint}, by {piece}"
            );
        }
    }
    disk.fail(Kind::Write, 3, Errno::IO);
    put(&store, &vec![5; 9 << 20]).unwrap_err();
    assert!(store.failed().is_some());
}

#[test]
fn i05_a_file_for_which_no_room_could_be_allocated_is_as_long_as_its_bytes() {
    let (_directory, disk, store) = open(None);
    let bytes = vec![7u8; (1 << 20) + 77];
    disk.fail(Kind::Allocate, 0, Errno::NOSPC);
    let mut writer = store.writer(3 * bytes.len() as u64).unwrap();
    disk.heal();
    writer.write(&bytes).unwrap();
    let replica = writer.finish().unwrap();
    let hash = replica.hash();
    replica.publish(Generation(1), |_| {}).unwrap();
    assert_eq!(read_all(&store, &hash), bytes);
}

/// As some filesystems do that open a file for them.
#[test]
fn where_a_direct_write_is_refused_the_next_long_file_goes_through_the_cache() {
    let (_directory, disk, store) = open(None);
    let long = vec![9u8; (2 << 20) + 5];
    let mut writer = store.writer(long.len() as u64).unwrap();
    disk.fail(Kind::Write, 0, Errno::INVAL);
    writer.write(&long).unwrap_err();
    drop(writer);
    assert_eq!((temp_files(&store), store.failed()), (0, None));
    disk.heal();
    disk.take_calls();
    let hash = put(&store, &long).unwrap();
    assert!(!disk.take_kinds().contains(&Kind::OpenDirect));
    assert_eq!(read_all(&store, &hash), long);
}

#[test]
fn without_direct_writes_a_long_file_is_synced_on_the_way_and_a_failure_there_fails_the_volume() {
    let (_directory, disk, store) = open(None);
    disk.refuse_direct();
    let long = vec![7u8; 17 << 20];
    put(&store, &long).unwrap();
    let paced = disk
        .take_kinds()
        .into_iter()
        .filter(|kind| *kind == Kind::SyncData);
    assert_eq!(paced.count(), 2);
    disk.fail(Kind::SyncData, 0, Errno::IO);
    put(&store, &long).unwrap_err();
    assert!(store.failed().is_some());
}

#[test]
fn i02_a_full_disk_refuses_with_507_leaves_no_temp_file_and_goes_on_when_there_is_room() {
    let long = vec![3u8; 3 * GROUP];
    for kind in [Kind::Write, Kind::SetRecord, Kind::SyncFile, Kind::Rename] {
        let (_directory, disk, store) = open(None);
        disk.fail(kind, 0, Errno::NOSPC);
        let refused = put(&store, &long).unwrap_err();
        assert!(
            matches!(refused, WriteError::StorageFull { .. }),
            "{kind:?}: {refused}"
        );
        assert_eq!(StoreError::from(refused).code.http_status(), 507);
        assert_eq!(temp_files(&store), 0, "{kind:?}");
        assert_eq!(store.failed(), None, "{kind:?}");
        disk.heal();
        let hash = put(&store, &long).unwrap();
        assert_eq!(read_all(&store, &hash), long);
    }
}

#[test]
fn a_write_that_failed_in_the_middle_cannot_be_finished() {
    let (_directory, disk, store) = open(None);
    let mut writer = store.writer(0).unwrap();
    disk.fail(Kind::Write, 0, Errno::NOSPC);
    writer.write(b"torn").unwrap_err();
    disk.heal();
    writer.write(b"torn").unwrap_err();
    assert!(writer.finish().is_err());
    assert_eq!(temp_files(&store), 0);
}

#[test]
fn deletes_work_on_a_full_disk() {
    let (_directory, disk, store) = open(None);
    let hash = put(&store, b"one").unwrap();
    disk.set_available(0);
    disk.fail(Kind::Write, 0, Errno::NOSPC);
    let outcome = store.delete(&hash, Generation(1), |_| {});
    assert!(matches!(outcome, Ok(DeleteOutcome::Deleted(_))));
}

#[test]
fn a_store_takes_no_more_than_it_was_given() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        layout: None,
        headroom_bytes: 0,
        capacity_bytes: Some(1_000),
    };
    let store = Store::open(directory.path(), &options).unwrap();
    assert_eq!(store.space().capacity, 1_000);
    put(&store, &[1; 600]).unwrap();
    assert_eq!(store.space().available, 400);
    assert!(matches!(
        put(&store, &[2; 401]),
        Err(WriteError::StorageFull { .. })
    ));
    put(&store, &[3; 400]).unwrap();
    assert_eq!(store.space().available, 0);
}

#[test]
fn room_is_reserved_beside_headroom_and_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RecordingDisk::default();
    let options = StoreOptions {
        layout: None,
        headroom_bytes: 1_000,
        capacity_bytes: None,
    };
    let store = Store::open_on(directory.path(), &options, Box::new(disk.clone())).unwrap();
    disk.set_available(3_000);
    assert_eq!(store.space().available, 2_000);
    let first = store.writer(1_500).unwrap();
    assert_eq!(store.space().available, 500);
    assert!(matches!(
        store.writer(501),
        Err(WriteError::StorageFull {
            wanted: 501,
            available: 500,
            ..
        })
    ));
    assert_eq!(temp_files(&store), 1);
    drop(first);
    assert_eq!(store.space().available, 2_000);

    let mut longer_than_said = store.writer(10).unwrap();
    longer_than_said.write(&[0; 2_000]).unwrap();
    let over = longer_than_said.write(&[0; 2_001]).unwrap_err();
    assert!(matches!(over, WriteError::StorageFull { .. }), "{over}");
    drop(longer_than_said);
    assert_eq!(store.space().available, 2_000);

    disk.set_available(999);
    assert_eq!(store.space().available, 0);
    assert!(matches!(
        store.writer(0),
        Err(WriteError::StorageFull { .. })
    ));
}

#[test]
fn a_filesystem_without_extended_attributes_is_refused_and_not_formatted() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RecordingDisk::default();
    disk.fail(Kind::SetRecord, 0, Errno::OPNOTSUPP);
    let options = StoreOptions::default();
    let refused = Store::open_on(directory.path(), &options, Box::new(disk)).err();
    assert!(matches!(
        refused,
        Some(OpenError::NoExtendedAttributes { .. })
    ));
    assert!(!directory.path().join("format.json").exists());
    // Formatting was cut off there, and can be taken up.
    Store::open(directory.path(), &options).unwrap();
}

#[test]
fn a_disk_that_takes_no_sidecar_serves_the_file_all_the_same() {
    let (_directory, disk, store) = open(None);
    let long: Vec<u8> = (0..5 * GROUP).map(|at| (at / 7).to_le_bytes()[0]).collect();
    // The content is written by two calls, and the sidecar after them.
    disk.fail(Kind::Write, 2, Errno::NOSPC);
    let hash = put(&store, &long).unwrap();
    assert_eq!(sidecars(store.root()), 0);
    disk.fail(Kind::Write, 0, Errno::NOSPC);
    assert_eq!(read_all(&store, &hash), long);
    assert_eq!(temp_files(&store), 0);
    disk.heal();
    assert_eq!(read_all(&store, &hash), long);
    assert_eq!(sidecars(store.root()), 1);
}

fn sidecars(root: &Path) -> usize {
    let directories = std::fs::read_dir(root.join("trees")).unwrap();
    directories
        .map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap().count())
        .sum()
}

fn bad_replica(store: &Store) -> ContentHash {
    let hash = put(store, b"to be damaged").unwrap();
    let path = store.root().join(store.layout().relative_path(&hash));
    std::fs::write(path, b"to be DAMAGED").unwrap();
    hash
}

#[test]
fn i06_a_quarantine_is_durable_before_anyone_hears_of_it() {
    let (_directory, disk, store) = open(None);
    let hash = bad_replica(&store);
    disk.take_calls();
    let go_on = || true;
    let then = || disk.acknowledge();
    store
        .quarantine(&hash, Generation(1), &go_on, then)
        .unwrap();
    assert_eq!(
        disk.take_kinds(),
        [Kind::Rename, Kind::SyncFilesystem, Kind::Acknowledge]
    );
}

#[test]
fn i06_a_quarantine_whose_sync_fails_is_not_acknowledged_and_loses_nothing() {
    let (_directory, disk, store) = open(None);
    let hash = bad_replica(&store);
    disk.fail(Kind::SyncFilesystem, 0, Errno::IO);
    let outcome = store.quarantine(&hash, Generation(1), &|| true, || panic!("acknowledged"));
    assert!(matches!(outcome, Err(WriteError::VolumeFailed { .. })));
    let kept = store.root().join("quarantine").join(format!("{hash}.1"));
    assert_eq!(std::fs::read(kept).unwrap(), b"to be DAMAGED");
}

#[test]
fn i05_a_bad_replica_that_cannot_be_kept_does_not_keep_the_right_bytes_out() {
    let (_directory, disk, store) = open(None);
    let hash = bad_replica(&store);
    store.verify(&hash).unwrap();
    disk.fail(Kind::Link, 0, Errno::PERM);
    assert_eq!(put(&store, b"to be damaged").unwrap(), hash);
    assert_eq!(read_all(&store, &hash), b"to be damaged");
}
