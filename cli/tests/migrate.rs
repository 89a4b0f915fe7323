//! I1 across an upgrade: the real binary is killed at each line of it, by a start and by `admin migrate`, and begun again. And
//! the way back.

#![allow(clippy::unwrap_used)] // a test fails by panicking
#![allow(clippy::print_stdout)] // says when it was skipped

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use common::{binary, process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// `metadata.redb` as schema 1 left it: see the README beside it.
const FIXTURE: &str = include_str!("../../migrations/fixtures/namenode-schema-1.txt");
const CLUSTER_JSON: &str = r#"{"cluster_id": "393a62de-7551-40f8-aa3e-6d8631330904"}"#;
const LIMIT: Duration = Duration::from_secs(60);
const KILL: i32 = 9;
/// The lines of an upgrade, and the schema that is there after a kill at each.
const POINTS: [(&str, u64); 4] = [
    ("namenode-copy-written", 1),
    ("namenode-copy-kept", 1),
    ("namenode-steps-taken", 1),
    ("namenode-steps-committed", 2),
];
const TABLES: [&str; 4] = ["files", "tombstones", "nodes", "commands"];

fn fixture() -> Vec<u8> {
    let mut lines = FIXTURE.lines();
    let size = lines.next().unwrap().strip_prefix("size ").unwrap();
    let mut bytes = vec![0; size.parse().unwrap()];
    for line in lines {
        let (offset, hex) = line.split_once(' ').unwrap();
        let offset: usize = offset.parse().unwrap();
        for at in (0..hex.len()).step_by(2) {
            bytes[offset + at / 2] = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        }
    }
    bytes
}

/// The directory of a namenode that a version of before stopped in.
fn old_directory() -> TempDir {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(directory.path().join("metadata.redb"), fixture()).unwrap();
    fs::write(directory.path().join("cluster.json"), CLUSTER_JSON).unwrap();
    directory
}

async fn run(arguments: &[&str], point: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).kill_on_drop(true);
    if !point.is_empty() {
        command.env("RICHARDSTORE_FAILPOINT", point);
    }
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    ended.expect("it ends in time").unwrap()
}

/// What `admin migrate` says, with `action`.
async fn migrate(directory: &Path, action: &[&str]) -> Value {
    let dir = directory.display().to_string();
    let arguments = [&["--json", "admin", "migrate", "--dir", &dir], action].concat();
    let output = run(&arguments, "").await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{action:?}: {words}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that the database says, whatever its schema.
async fn dump(directory: &Path) -> String {
    let database = directory.join("metadata.redb").display().to_string();
    let mut all = String::new();
    for table in TABLES {
        let arguments = ["admin", "dump", "--table", table, "--db", &database];
        let output = run(&arguments, "").await;
        assert!(output.status.success(), "{output:?}");
        all += &String::from_utf8(output.stdout).unwrap();
    }
    all
}

fn unfinished(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".new")).collect()
}

#[tokio::test]
async fn i01_an_upgrade_killed_at_any_line_is_done_by_the_next_try_and_leads_back() {
    if common::is_release() {
        println!("skipped: a release build has no failpoints");
        return;
    }
    let undisturbed = old_directory();
    // A dump of an old file says what it says after the upgrade, and changes nothing.
    let all = dump(undisturbed.path()).await;
    assert_eq!(
        migrate(undisturbed.path(), &["--to", "2"]).await["changed"],
        true
    );
    assert_eq!(dump(undisturbed.path()).await, all);

    for (point, schema) in POINTS {
        for by_start in [false, true] {
            let directory = old_directory();
            let dir = directory.path().display().to_string();
            let of_start = ["namenode", "--dir", &dir, "--listen", "127.0.0.1:0"];
            let of_tool = ["admin", "migrate", "--dir", &dir, "--to", "2"];
            let killed = match by_start {
                true => run(&of_start, point).await,
                false => run(&of_tool, point).await,
            };
            assert_eq!(killed.status.signal(), Some(KILL), "{point}: {killed:?}");
            let path = directory.path();
            assert_eq!(migrate(path, &[]).await["schema"], schema, "{point}");
            assert_eq!(dump(path).await, all, "{point}");

            if by_start {
                let spec = process(path, "namenode", &of_start);
                let namenode = spec.start("listening on").await.unwrap();
                assert!(namenode.terminate(LIMIT).await.unwrap().success());
            } else {
                let changed = migrate(path, &["--to", "2"]).await["changed"].clone();
                assert_eq!(changed, schema == 1, "{point}");
            }
            assert_eq!(dump(path).await, all, "{point}, by a start: {by_start}");
            assert_eq!(unfinished(path), Vec::<String>::new(), "{point}");
            // A start counts itself in the database, which is lost by going back.
            let back: &[&str] = match by_start {
                true => &["--rollback", "--discard-changes"],
                false => &["--rollback"],
            };
            assert_eq!(migrate(path, back).await["schema"], 1, "{point}");
            assert_eq!(dump(path).await, all, "{point}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_is_rehearsed_finalized_and_refused_in_words() {
    let directory = old_directory();
    let path = directory.path();
    let rehearsed = migrate(path, &["--dry-run"]).await;
    assert_eq!(
        (&rehearsed["schema"], &rehearsed["rehearsed"]),
        (&1.into(), &true.into())
    );
    assert_eq!(rehearsed["steps"][0]["to"], 2);
    assert_eq!(rehearsed["copies"].as_array().unwrap().len(), 0);

    let dir = path.display().to_string();
    let refused = run(&["admin", "migrate", "--dir", &dir, "--to", "9"], "").await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains('9') && words.contains('2'), "{words}");

    assert_eq!(migrate(path, &["--to", "2"]).await["changed"], true);
    assert_eq!(migrate(path, &[]).await["copies"][0]["schema"], 1);
    assert_eq!(
        migrate(path, &["--finalize"]).await["removed"][0]["schema"],
        1
    );
    let nowhere = run(&["admin", "migrate", "--dir", &dir, "--rollback"], "").await;
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
}
