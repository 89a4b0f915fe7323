use super::super::fixture::{Fixture, NOW, generation, hash};
use super::super::offline::open_offline;
use super::super::open::{DATABASE, NEW_DATABASE, open_directory};
use super::super::view::View;
use super::super::{DumpOf, Table};
use super::*;
use crate::mutation::{Mutation, Reply};
use crate::record::{CommandRecordAction, NodeIndex};
use richardstore_proto::{NamenodeEpoch, RememberedDelete};
use richardstore_runtime::SystemEntropy;
use std::ops::ControlFlow;

fn dumped(view: &View, what: DumpOf) -> Vec<u8> {
    let mut bytes = Vec::new();
    view.dump_of(what, &mut |line| {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        ControlFlow::Continue(())
    })
    .unwrap();
    bytes
}

/// Metadata with something in every table.
fn filled() -> Fixture {
    let mut fixture = Fixture::new();
    for file in 1..=20 {
        fixture.upload(file, &[1 + u32::from(file) % 3, 4]);
    }
    fixture.delete(7);
    fixture.delete(8);
    fixture.confirm_all(4);
    let command = |action| Mutation::IssueCommands {
        commands: vec![(NodeIndex(4), action)],
        now_ms: NOW,
    };
    let replicate = CommandRecordAction::Replicate {
        hash: hash(1),
        targets: vec![NodeIndex(3)],
    };
    fixture.apply(command(replicate)).unwrap();
    let quarantine = CommandRecordAction::Quarantine {
        hash: hash(2),
        generation: generation(2),
        keep: vec![NodeIndex(3)],
    };
    fixture.apply(command(quarantine)).unwrap();
    fixture
        .apply(Mutation::SetMaintenance {
            index: NodeIndex(2),
            until_ms: Some(NOW + 5),
        })
        .unwrap();
    let write = fixture.allocate();
    fixture.added(3, 99, write.0);
    fixture
}

fn loaded(dump: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    load(dir.path(), dump, 3).unwrap();
    dir
}

#[test]
fn i08_dump_load_dump_is_byte_identical() {
    let dump = dumped(&filled().view(), DumpOf::All);
    let dir = loaded(&dump);
    let path = dir.path().join(DATABASE);
    let before = std::fs::read(&path).unwrap();
    let view = open_offline(&path, 1 << 20).unwrap();
    super::super::audit::audit(&view);
    assert_eq!(
        String::from_utf8(dumped(&view, DumpOf::All)).unwrap(),
        String::from_utf8(dump).unwrap()
    );
    drop(view);
    assert_eq!(std::fs::read(&path).unwrap(), before, "it was only read");
}

#[test]
fn a_recovery_under_way_survives_dump_and_load() {
    let fixture = filled();
    recover(&fixture);
    fixture.apply(recall(50, 30, 30)).unwrap();
    let dump = dumped(&fixture.view(), DumpOf::All);
    let dir = loaded(&dump);
    let view = open_offline(&dir.path().join(DATABASE), 1 << 20).unwrap();
    assert_eq!(dumped(&view, DumpOf::All), dump);
}

#[test]
fn i08_a_dump_that_is_cut_or_changed_anywhere_is_refused_and_leaves_nothing() {
    let dump = dumped(&filled().view(), DumpOf::All);
    let dir = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8], what: usize| {
        assert!(load(dir.path(), bytes, 3).is_err(), "{what}");
        assert!(!dir.path().join(DATABASE).exists());
    };
    for cut in (0..dump.len()).step_by(97) {
        refused(&dump[..cut], cut);
    }
    refused(&dump[..dump.len() - 1], dump.len() - 1);
    for at in (0..dump.len()).step_by(61) {
        let mut bytes = dump.clone();
        bytes[at] ^= 1;
        refused(&bytes, at);
    }
    let mut longer = dump.clone();
    longer.push(b'\n');
    refused(&longer, longer.len());
    assert!(load(dir.path(), &dump[..], 3).is_ok());
}

#[test]
fn lines_that_were_left_out_are_missed_though_the_checksum_was_made_anew() {
    let dump = String::from_utf8(dumped(&filled().view(), DumpOf::All)).unwrap();
    let lines: Vec<&str> = dump.lines().collect();
    for left_out in 0..lines.len() - 1 {
        let mut kept = lines[..lines.len() - 1].to_vec();
        kept.remove(left_out);
        let mut forged = kept.join("\n");
        forged.push('\n');
        let checksum = blake3::hash(forged.as_bytes()).to_hex();
        forged += &format!("{{\"lines\":{},\"blake3\":\"{checksum}\"}}\n", kept.len());
        let dir = tempfile::tempdir().unwrap();
        assert!(
            load(dir.path(), forged.as_bytes(), 3).is_err(),
            "without {}",
            lines[left_out]
        );
    }
}

#[test]
fn only_an_empty_directory_is_loaded_into() {
    let dump = dumped(&filled().view(), DumpOf::All);
    let dir = loaded(&dump);
    let again = load(dir.path(), &dump[..], 3).unwrap_err();
    assert!(matches!(again, LoadError::NotEmpty { .. }), "{again}");
    // The usual case: the database is gone, the cluster is known.
    std::fs::remove_file(dir.path().join(DATABASE)).unwrap();
    std::fs::write(dir.path().join(NEW_DATABASE), "half").unwrap();
    let history = dir.path().join(crate::history_log::NAME);
    std::fs::write(&history, "of another database").unwrap();
    load(dir.path(), &dump[..], 3).unwrap();
    assert!(!history.exists(), "its numbers mean other datanodes");
    std::fs::remove_file(dir.path().join(DATABASE)).unwrap();
    let cluster = r#"{"cluster_id":"00000000-0000-0000-0000-000000000001"}"#;
    std::fs::write(dir.path().join("cluster.json"), cluster).unwrap();
    let foreign = load(dir.path(), &dump[..], 3).unwrap_err();
    assert!(
        matches!(foreign, LoadError::Open(OpenError::ForeignCluster { .. })),
        "{foreign}"
    );
}

#[test]
fn i08_the_first_start_on_loaded_metadata_leaps_over_what_it_may_have_missed() {
    let fixture = filled();
    let in_flight = fixture.view().settled_before().unwrap();
    let counters = fixture.view().counters().unwrap();
    assert_eq!(in_flight.0 + 1, counters.next_generation);
    let dir = loaded(&dumped(&fixture.view(), DumpOf::All));
    let opened = open_directory(dir.path(), 1 << 20, 0, &SystemEntropy).unwrap();
    let start = |ledger: &super::super::ledger::Ledger| {
        let start = Mutation::StartEpoch {
            now_ms: NOW,
            writes_expire_at_ms: NOW,
        };
        match ledger.run(&[start]).unwrap().remove(0) {
            Ok(Reply::Epoch(NamenodeEpoch(epoch))) => epoch,
            other => panic!("{other:?}"),
        }
    };
    let first = start(&opened.ledger);
    assert!(first > counters.epoch + 1000);
    let view = opened.ledger.view().unwrap();
    super::super::audit::audit(&view);
    let header = view.header().unwrap();
    assert!(header.next_generation > counters.next_generation + 1_000_000);
    assert!(header.next_command > counters.next_command + 1_000_000);
    let lost = header.recovery.unwrap().lost;
    assert_eq!((lost.len(), lost[0].from), (1, in_flight));
    assert_eq!(lost[0].to.0, header.next_generation);
    // What it had planned and what was in flight is over; deletes stand.
    assert_eq!(header.writes, 0);
    assert!(
        view.commands(NodeIndex(4), &[], u64::MAX, 10)
            .unwrap()
            .is_empty()
    );
    assert_eq!(header.tombstones, counters.tombstones);
    assert_eq!(start(&opened.ledger), first + 1, "only the first leaps");
}

fn recover(fixture: &Fixture) {
    fixture
        .apply(Mutation::Recover {
            replication: 2,
            epoch: NamenodeEpoch(0),
            generation: generation(0),
            now_ms: 0,
        })
        .unwrap();
    for node in 1..=4 {
        let registration =
            super::super::fixture::registration(node, 1, super::super::fixture::JOURNAL);
        fixture.apply(registration).unwrap();
    }
}

fn recall(file: u8, up_to: u64, marker: u64) -> Mutation {
    Mutation::RecallDeletes {
        deletes: vec![RememberedDelete {
            hash: hash(file),
            generation: generation(up_to),
            marker: generation(marker),
        }],
        now_ms: NOW,
    }
}

/// A fixture whose files 1 and 2 are known, and that was restored from a copy then: generation 3 and later are lost.
fn restored() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.upload(1, &[1, 2]);
    fixture.upload(2, &[1, 2]);
    recover(&fixture);
    fixture.forget_sequences();
    fixture
}

#[test]
fn i08_a_file_made_after_the_copy_comes_back_from_the_reports() {
    let mut fixture = restored();
    fixture.added(1, 9, 3);
    fixture.added(2, 9, 3);
    fixture.added(3, 9, 5);
    let file = fixture.file(9).unwrap();
    assert_eq!((file.generation, file.replication), (generation(3), 2));
    assert_eq!(fixture.replicas(9), [(1, 3), (2, 3), (3, 5)]);
    assert_eq!(fixture.view().counts().unwrap().foreign_replicas, 0);
}

#[test]
fn i08_a_replica_that_the_copy_knew_to_be_an_orphan_stays_one() {
    let mut fixture = restored();
    fixture.added(3, 9, 2);
    assert_eq!(fixture.deletes(3), [(hash(9), generation(2))]);
}

#[test]
fn i08_a_delete_made_after_the_copy_holds_because_a_datanode_remembers_it() {
    let mut fixture = restored();
    // Of a file that the copy knows, and of one that it never knew.
    fixture.apply(recall(1, 1, 4)).unwrap();
    fixture.apply(recall(9, 3, 5)).unwrap();
    assert_eq!(fixture.file(1), None);
    assert_eq!(fixture.buried(1), Some((1, vec![1, 2])));
    // A node that was away for the delete.
    fixture.added(3, 9, 3);
    assert_eq!(fixture.file(9), None);
    assert_eq!(fixture.deletes(3), [(hash(9), generation(3))]);
    // Again after everything was confirmed, from one that comes even later.
    fixture.confirm_all(3);
    fixture.added(4, 9, 3);
    assert_eq!(fixture.deletes(4), [(hash(9), generation(3))]);
}

#[test]
fn i08_a_delete_that_is_remembered_late_takes_back_what_came_back_meanwhile() {
    let mut fixture = restored();
    fixture.added(3, 9, 3);
    assert!(fixture.file(9).is_some());
    fixture.apply(recall(9, 3, 5)).unwrap();
    assert_eq!(fixture.file(9), None);
    assert_eq!(fixture.deletes(3), [(hash(9), generation(3))]);
}

#[test]
fn i03_a_file_that_came_back_and_is_deleted_again_stays_deleted_whoever_was_away() {
    // Of the same write as what came back, or of a later one that was lost, too.
    for away in [3, 50] {
        let mut fixture = restored();
        let last_lost = fixture.view().header().unwrap().next_generation - 1;
        fixture.added(1, 9, 3);
        fixture.delete(9);
        fixture.confirm_all(1);
        assert_eq!((fixture.file(9), fixture.buried(9)), (None, None));
        fixture.added(3, 9, away);
        assert_eq!(fixture.file(9), None);
        assert_eq!(fixture.deletes(3), [(hash(9), generation(last_lost))]);
    }

    // The same where nobody who was there had it, and it was uploaded anew.
    let mut fixture = restored();
    let anew = fixture.upload(9, &[1, 2]);
    fixture.delete(9);
    fixture.confirm_all(1);
    fixture.confirm_all(2);
    fixture.added(3, 9, 3);
    assert_eq!(fixture.file(9), None);
    assert_eq!(fixture.deletes(3), [(hash(9), anew)]);
}

#[test]
fn i04_a_reupload_after_the_remembered_delete_survives_in_either_order() {
    let mut fixture = restored();
    fixture.apply(recall(1, 1, 4)).unwrap();
    fixture.added(1, 1, 6);
    assert_eq!(fixture.replicas(1), [(1, 6)]);
    let mut fixture = restored();
    fixture.added(1, 1, 6);
    fixture.apply(recall(1, 1, 4)).unwrap();
    assert_eq!(fixture.replicas(1), [(1, 6), (2, 1)]);
    fixture.apply(recall(9, 3, 5)).unwrap();
    fixture.added(3, 9, 7);
    assert_eq!(fixture.replicas(9), [(3, 7)]);
}

#[test]
fn deletes_from_before_the_copy_or_without_a_recovery_are_not_recalled() {
    let fixture = restored();
    fixture.apply(recall(1, 1, 2)).unwrap();
    assert!(fixture.file(1).is_some());
    let fixture = Fixture::new();
    fixture.upload(1, &[1]);
    fixture.apply(recall(1, 9, 9)).unwrap();
    assert!(fixture.file(1).is_some());
}

#[test]
fn the_dump_of_everything_holds_the_dumps_of_its_tables() {
    let view = filled().view();
    let all = String::from_utf8(dumped(&view, DumpOf::All)).unwrap();
    for table in [
        Table::Nodes,
        Table::Files,
        Table::Tombstones,
        Table::Commands,
    ] {
        let one = String::from_utf8(dumped(&view, DumpOf::Table(table))).unwrap();
        let section = format!("{{\"table\":\"{}\"}}\n{one}", table.as_str());
        assert!(all.contains(&section), "{section}");
    }
}

/// The next generation after the first start, at `now_ms`, on a new load of `dump`.
fn next_generation_after_load(dump: &[u8], now_ms: u64) -> u64 {
    let dir = loaded(dump);
    let opened = open_directory(dir.path(), 1 << 20, 0, &SystemEntropy).unwrap();
    let start = Mutation::StartEpoch {
        now_ms,
        writes_expire_at_ms: now_ms,
    };
    opened.ledger.run(&[start]).unwrap().remove(0).unwrap();
    opened
        .ledger
        .view()
        .unwrap()
        .header()
        .unwrap()
        .next_generation
}

#[test]
fn i01_the_same_copy_loaded_again_hands_out_no_generation_twice() {
    let dump = dumped(&filled().view(), DumpOf::All);
    let first = next_generation_after_load(&dump, NOW);
    let again = next_generation_after_load(&dump, NOW + 1_000);
    assert!(again >= first + 100_000, "{first}, {again}");
}

#[test]
fn i03_a_removed_node_is_still_removed_after_a_dump_and_its_load() {
    let fixture = filled();
    let remove = Mutation::RemoveNode {
        index: NodeIndex(4),
        after: None,
        limit: 1_000,
        now_ms: NOW,
    };
    fixture.apply(remove).unwrap();
    let dump = dumped(&fixture.view(), DumpOf::All);
    let dir = loaded(&dump);
    let opened = open_directory(dir.path(), 1 << 20, 0, &SystemEntropy).unwrap();
    let view = opened.ledger.view().unwrap();
    assert!(view.removed_nodes().unwrap().contains_key(&NodeIndex(4)));
    assert_eq!(dumped(&view, DumpOf::All), dump);
}
