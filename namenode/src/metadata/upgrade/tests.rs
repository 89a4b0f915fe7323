use std::time::Duration;

use super::super::crash_disk::CrashDisk;
use super::super::dump::Table;
use super::super::handle::{Metadata, MetadataOptions};
use super::super::ledger::Ledger;
use super::*;
use crate::mutation::Mutation;
use richardstore_runtime::{Environment, SystemEntropy};
use std::ops::ControlFlow;
use tempfile::TempDir;

/// `metadata.redb` as schema 1 left it: see the README beside it.
const FIXTURE: &str = include_str!("../../../../migrations/fixtures/namenode-schema-1.txt");
const CLUSTER_JSON: &str = r#"{"cluster_id": "393a62de-7551-40f8-aa3e-6d8631330904"}"#;

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
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(DATABASE), fixture()).unwrap();
    fs::write(dir.path().join("cluster.json"), CLUSTER_JSON).unwrap();
    dir
}

fn dump(ledger: &std::sync::Arc<Ledger>, table: Table) -> Vec<String> {
    let mut lines = Vec::new();
    let view = ledger.view().unwrap();
    view.dump(table, &mut |line| {
        lines.push(line.trim_end().to_owned());
        ControlFlow::Continue(())
    })
    .unwrap();
    lines
}

fn check_new(ledger: &std::sync::Arc<Ledger>) {
    let files = dump(ledger, Table::Files);
    assert_eq!(files.len(), 1);
    assert!(files[0].contains("7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"));
    let tombstones = dump(ledger, Table::Tombstones);
    assert_eq!(tombstones.len(), 2);
    // Every tombstone has the generation counter of the upgrade as its marker.
    assert!(
        tombstones.iter().all(|line| line.contains("\"marker\":4")),
        "{tombstones:?}"
    );
    assert_eq!(dump(ledger, Table::Commands).len(), 6);
    assert_eq!(dump(ledger, Table::Nodes).len(), 3);
}

#[test]
fn an_old_database_is_upgraded_by_a_start_and_a_copy_of_it_is_kept() {
    let dir = old_directory();
    let opened =
        super::super::open::open_directory(dir.path(), 1 << 20, 0, &SystemEntropy).unwrap();
    check_new(&opened.ledger);
    drop(opened);
    let kept = fs::read(dir.path().join("metadata.redb.schema-1")).unwrap();
    assert_eq!(kept.len(), fixture().len());
    let upgrade = Upgrade::open(dir.path()).unwrap();
    let status = upgrade.status().unwrap();
    assert_eq!((status.found, status.steps.len()), (NAMENODE_SCHEMA, 0));
    assert_eq!(status.copies.len(), 1);
}

#[test]
fn a_rehearsal_changes_nothing_and_the_way_there_leads_back() {
    let dir = old_directory();
    let upgrade = Upgrade::open(dir.path()).unwrap();
    let before = upgrade.status().unwrap();
    assert_eq!(before.found, 1);
    assert_eq!(before.steps[0].0, 2);
    upgrade.rehearse().unwrap();
    assert_eq!(upgrade.status().unwrap(), before);
    let refused = upgrade.climb(NAMENODE_SCHEMA + 1).unwrap_err();
    assert!(
        matches!(refused, UpgradeError::NoWay { found: 1, .. }),
        "{refused}"
    );
    assert!(upgrade.climb(NAMENODE_SCHEMA).unwrap());
    assert!(!upgrade.climb(NAMENODE_SCHEMA).unwrap(), "it is there");
    assert_eq!(upgrade.status().unwrap().found, NAMENODE_SCHEMA);
    assert_eq!(upgrade.roll_back(false).unwrap().schema, 1);
    assert_eq!(upgrade.status().unwrap(), before);
    let nothing = upgrade.roll_back(false).unwrap_err();
    assert!(matches!(nothing, UpgradeError::NoCopy(_)), "{nothing}");
}

#[tokio::test]
async fn what_was_committed_after_an_upgrade_is_not_lost_by_going_back_unless_it_is_said() {
    let dir = old_directory();
    let options = MetadataOptions::default();
    let metadata = Metadata::open(dir.path(), &options, &Environment::system()).unwrap();
    let allocate = Mutation::AllocateWrites {
        count: 1,
        expires_at_ms: 1,
    };
    metadata.submit(allocate).await.unwrap();
    metadata.close().await;
    let upgrade = Upgrade::open(dir.path()).unwrap();
    let refused = upgrade.roll_back(false).unwrap_err();
    assert!(matches!(refused, UpgradeError::Changed { .. }), "{refused}");
    let path = dir.path().join(DATABASE);
    let reached = counters(&path).unwrap();
    assert_eq!(upgrade.roll_back(true).unwrap().schema, 1);
    assert_eq!(upgrade.status().unwrap().found, 1);
    // Datanodes would not obey an epoch that is older than the one they met, and take a command that comes twice for the first.
    let handed_out = |counters: &Counters| {
        (
            counters.epoch,
            counters.next_generation,
            counters.next_command,
        )
    };
    assert_eq!(handed_out(&counters(&path).unwrap()), handed_out(&reached));
}

#[test]
fn i10_going_back_from_a_database_that_cannot_be_read_leaps_over_what_it_handed_out() {
    let dir = old_directory();
    let path = dir.path().join(DATABASE);
    let before = counters(&path).unwrap();
    let upgrade = Upgrade::open(dir.path()).unwrap();
    upgrade.climb(NAMENODE_SCHEMA).unwrap();
    fs::write(&path, b"noise").unwrap();
    upgrade.roll_back(true).unwrap();
    let after = counters(&path).unwrap();
    assert!(after.epoch > before.epoch + 1_000, "{after:?}");
    assert!(
        after.next_generation > before.next_generation + 1_000_000,
        "{after:?}"
    );
}

#[test]
fn finalizing_removes_the_copy_and_the_way_back_with_it() {
    let dir = old_directory();
    let upgrade = Upgrade::open(dir.path()).unwrap();
    let early = upgrade.finalize().unwrap_err();
    assert!(matches!(early, UpgradeError::NoWay { .. }), "{early}");
    upgrade.climb(NAMENODE_SCHEMA).unwrap();
    assert_eq!(upgrade.finalize().unwrap().len(), 1);
    assert_eq!(upgrade.status().unwrap().copies, []);
    let nothing = upgrade.roll_back(true).unwrap_err();
    assert!(matches!(nothing, UpgradeError::NoCopy(_)), "{nothing}");
}

#[test]
fn a_running_namenode_keeps_the_tool_out_and_an_empty_directory_is_none() {
    let dir = old_directory();
    let opened =
        super::super::open::open_directory(dir.path(), 1 << 20, 0, &SystemEntropy).unwrap();
    let locked = Upgrade::open(dir.path()).map(|_| ()).unwrap_err();
    let is_locked = matches!(locked, UpgradeError::Open(OpenError::Locked { .. }));
    assert!(is_locked, "{locked}");
    drop(opened);
    let empty = tempfile::tempdir().unwrap();
    let none = Upgrade::open(empty.path()).map(|_| ()).unwrap_err();
    assert!(matches!(none, UpgradeError::NoDatabase(_)), "{none}");
}

/// The power goes after every possible number of operations, with any part of what was not synced lost. What is there
/// afterwards is the old database or the new one, and another try ends with the new one.
#[test]
fn i01_an_upgrade_that_is_killed_at_any_moment_is_done_by_the_next_start() {
    let begun = std::time::Instant::now();
    let (mut survived_old, mut survived_new) = (0, 0);
    for operations in 0.. {
        assert!(begun.elapsed() < Duration::from_secs(120), "{operations}");
        let disk = CrashDisk::holding(fixture());
        let open = || Builder::new().create_with_backend(disk.backend());
        let path = Path::new("killed");
        let database = open().unwrap();
        disk.die_in(operations);
        let ended = take_steps(&database, path, 1).is_ok();
        drop(database);
        let mut sectors = 0u64;
        disk.crash(|| {
            sectors += 1;
            (sectors * 7 + operations).is_multiple_of(3)
        });
        let database = open().unwrap();
        match found_schema(&database, path).unwrap() {
            1 => {
                assert!(!ended, "what was reported done is done");
                survived_old += 1;
                take_steps(&database, path, 1).unwrap();
            }
            found => {
                assert_eq!(found, NAMENODE_SCHEMA);
                survived_new += 1;
            }
        }
        check_new(&Ledger::new(database, None));
        if ended {
            break;
        }
    }
    assert!(
        survived_old > 3 && survived_new > 0,
        "{survived_old} {survived_new}"
    );
}

#[test]
fn a_dump_of_an_old_file_neither_upgrades_it_nor_keeps_a_copy() {
    let dir = old_directory();
    let path = dir.path().join(DATABASE);
    let view = super::super::offline::open_offline(&path, 1 << 20).unwrap();
    assert_eq!(view.counts().unwrap().tombstones, 2);
    drop(view);
    assert!(fs::read(&path).unwrap() == fixture());
    assert_eq!(kept_copies(dir.path()).unwrap(), []);
}
