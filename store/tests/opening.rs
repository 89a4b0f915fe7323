//! Opening a root: formatting, refusals, and what is left of an earlier process.

// Clippy takes only #[test] functions for tests; the helpers around them may panic and cut test data as well.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs;
use std::path::Path;

use richardstore_proto::Generation;
use richardstore_store::{Depth, Layout, OpenError, Store, StoreOptions};

fn with_layout(layout: Layout) -> StoreOptions {
    StoreOptions {
        layout: Some(layout),
        headroom_bytes: 0,
        capacity_bytes: None,
    }
}

fn refusal(root: &Path, options: &StoreOptions) -> OpenError {
    match Store::open(root, options) {
        Ok(_) => panic!("{} was opened", root.display()),
        Err(error) => error,
    }
}

#[test]
fn block_size_five_at_full_depth_stores_at_the_documented_path() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(5, Depth::Full).unwrap();
    let store = Store::open(directory.path(), &with_layout(layout)).unwrap();
    let replica = store.put(&b"hello"[..], Generation(1)).unwrap();
    let path = "2cf24/dba5f/b0a30/e26e8/3b2ac/5b9e2/9e1b1/61e5c/1fa74/25e73/04336/2938b9824/\
                2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(fs::read(directory.path().join(path)).unwrap(), b"hello");
    assert_eq!(layout.relative_path(&replica.hash), Path::new(path));
}

#[test]
fn the_second_to_open_a_root_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::default();
    let first = Store::open(directory.path(), &options).unwrap();
    let refused = refusal(directory.path(), &options);
    assert!(matches!(&refused, OpenError::Locked { path } if path.ends_with("LOCK")));
    let root = directory.path().to_str().unwrap();
    assert!(refused.to_string().contains(root), "{refused}");
    drop(first);
    Store::open(directory.path(), &options).unwrap();
}

#[test]
fn another_layout_than_the_formatted_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let formatted = Layout::new(1, Depth::Levels(2)).unwrap();
    drop(Store::open(directory.path(), &with_layout(formatted)).unwrap());
    let other = Layout::new(5, Depth::Full).unwrap();
    let refused = refusal(directory.path(), &with_layout(other));
    assert!(
        matches!(refused, OpenError::LayoutMismatch { .. }),
        "{refused}"
    );
    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    assert_eq!(store.layout(), formatted);
}

#[test]
fn a_format_that_is_newer_or_damaged_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::default();
    drop(Store::open(directory.path(), &options).unwrap());
    let format = directory.path().join("format.json");
    for text in [
        r#"{"version": 2, "block_size": 2, "depth": {"levels": 1}}"#,
        r#"{"version": 1, "block_size": 0, "depth": "full"}"#,
        r#"{"version": 1, "block_size": 9, "depth": {"levels": 9}}"#,
        "",
        "\0\0\0\0",
        &"x".repeat(5_000),
    ] {
        fs::write(&format, text).unwrap();
        let refused = refusal(directory.path(), &options);
        assert!(
            matches!(&refused, OpenError::Format { path, .. } if *path == format),
            "{refused}"
        );
    }
}

#[test]
fn a_directory_with_other_files_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("letter.txt"), "mine").unwrap();
    let refused = refusal(directory.path(), &StoreOptions::default());
    assert!(matches!(refused, OpenError::NotAStore { .. }), "{refused}");
    assert!(!directory.path().join("temp").exists());
    // A root that lost its format.json looks the same: it is not formatted over its replicas.
    let store = tempfile::tempdir().unwrap();
    drop(Store::open(store.path(), &StoreOptions::default()).unwrap());
    fs::remove_file(store.path().join("format.json")).unwrap();
    let refused = refusal(store.path(), &StoreOptions::default());
    assert!(matches!(refused, OpenError::NotAStore { .. }), "{refused}");
}

#[test]
fn formatting_that_was_cut_off_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("FORMATTING"), "").unwrap();
    fs::write(directory.path().join("format.json.new"), "{\"vers").unwrap();
    fs::create_dir(directory.path().join("0")).unwrap();
    let layout = Layout::new(1, Depth::Levels(1)).unwrap();
    let store = Store::open(directory.path(), &with_layout(layout)).unwrap();
    store.put(&b"x"[..], Generation(1)).unwrap();
    assert!(directory.path().join("f").is_dir());
    assert!(!directory.path().join("FORMATTING").exists());
}

#[test]
fn i02_temp_files_of_a_killed_process_are_swept() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::default();
    drop(Store::open(directory.path(), &options).unwrap());
    let temp = directory.path().join("temp");
    for name in ["0", "17", "probe"] {
        fs::write(temp.join(name), "half a fi").unwrap();
    }
    let store = Store::open(directory.path(), &options).unwrap();
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0);
    // The names are used again from the start.
    store.put(&b"x"[..], Generation(1)).unwrap();
}

#[test]
fn i02_a_dropped_writer_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    let mut writer = store.writer(1 << 20).unwrap();
    writer.write(b"half").unwrap();
    drop(writer);
    let mut writer = store.writer(1 << 20).unwrap();
    writer
        .write(b"whole, but the trailer said something else")
        .unwrap();
    drop(writer.finish().unwrap());
    assert_eq!(
        fs::read_dir(directory.path().join("temp")).unwrap().count(),
        0
    );
}

#[test]
fn the_record_of_a_replica_takes_no_block_of_its_own() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    let empty = store.put(&b""[..], Generation(u64::MAX)).unwrap();
    let path = directory
        .path()
        .join(store.layout().relative_path(&empty.hash));
    assert_eq!(fs::metadata(path).unwrap().blocks(), 0);
}
