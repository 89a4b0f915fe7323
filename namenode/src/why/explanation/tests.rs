use super::super::facts::NodeFacts;
use super::*;
use crate::file_history::{Deed, Entry, Story, Work};
use crate::record::{CommandRecord, ParkedReplica, Replica};
use richardstore_proto::{Blake3Root, CommandId, ContentHash, Generation};

const HASH: ContentHash = ContentHash::new([1; 32]);
const NOW: u64 = 1_000_000_000;
const NOTHING_ELSE: &str = "Nothing else happened to it since the namenode started 2 h ago; of what was before, nothing more was kept.";

fn node(number: u32, rack: &str, state: NodeState) -> (NodeIndex, NodeFacts) {
    let node = NodeFacts {
        name: format!("datanode-{number}"),
        rack: rack.to_owned(),
        state,
        counts: matches!(state, NodeState::Live | NodeState::Stale),
        registered: true,
        read_only: false,
        available_bytes: 1_000,
        silent_ms: 40_000,
    };
    (NodeIndex(number), node)
}

/// A file of 100 bytes with three replicas wanted, on `holders`, and datanodes of which the first three are there.
fn facts(holders: &[u32], nodes: &[(NodeIndex, NodeFacts)]) -> Facts {
    let holders: Vec<HolderFacts> = holders
        .iter()
        .map(|number| HolderFacts {
            node: NodeIndex(*number),
            generation: Generation(17),
            suspect: false,
            unsettled: false,
        })
        .collect();
    let record = FileRecord {
        size: 100,
        blake3_root: Blake3Root::new([2; 32]),
        replication: 3,
        generation: Generation(17),
        created_ms: NOW - 180_000,
        replicas: holders
            .iter()
            .map(|holder| Replica {
                node: holder.node,
                generation: holder.generation,
            })
            .collect(),
    };
    Facts {
        hash: HASH,
        now_ms: NOW,
        deadline_now_ms: NOW,
        subject: Subject::File { record, holders },
        nodes: nodes.iter().cloned().collect(),
        parked: Vec::new(),
        planned: None,
        halted: None,
        rests_ms: 0,
        waiting: 0,
        buried: None,
        story: Story {
            entries: Vec::new(),
            since_ms: NOW - 7_200_000,
            is_whole: true,
        },
    }
}

fn live(racks: &[&str]) -> Vec<(NodeIndex, NodeFacts)> {
    (1..)
        .zip(racks)
        .map(|(number, rack)| node(number, rack, NodeState::Live))
        .collect()
}

fn suspect(facts: &mut Facts, all: bool) {
    if let Subject::File { holders, .. } = &mut facts.subject {
        let count = if all { holders.len() } else { 1 };
        for holder in holders.iter_mut().take(count) {
            holder.suspect = true;
        }
    }
}

fn command(action: CommandRecordAction) -> CommandRecord {
    CommandRecord {
        action,
        attempts: 0,
        not_before_ms: 0,
        issued_ms: NOW - 5_000,
    }
}

#[test]
fn a_healthy_file_says_where_it_is_and_why_there() {
    let words = explain(&facts(&[1, 2, 3], &live(&["a", "b", "b"])));
    assert_eq!(
        words,
        Explanation {
            state: "healthy",
            summary: "It has all of its 3 replicas.".into(),
            replicas: vec![
                "datanode-1 in rack a: live.".into(),
                "datanode-2 in rack b: live.".into(),
                "datanode-3 in rack b: live.".into(),
            ],
            placement: vec![
                "Its good replicas are in 2 racks: a (datanode-1), b (datanode-2, datanode-3). A copy goes to a rack that has none where there is one, and there to the least busy datanode with room.".into(),
            ],
            planned: Vec::new(),
            blocked: Vec::new(),
            next: vec!["Its replicas are read and checked again by the scrub of their datanodes.".into()],
            history: vec![
                "Uploaded 3 min ago, 100 bytes with 3 replicas wanted.".into(),
                "Write 17, the newest, is on datanode-1, datanode-2, datanode-3.".into(),
                NOTHING_ELSE.into(),
            ],
        }
    );
}

#[test]
fn a_short_file_says_why_no_datanode_takes_a_copy() {
    let mut nodes = live(&["", "", ""]);
    nodes.push(node(4, "", NodeState::Live));
    nodes.push(node(5, "", NodeState::Decommissioning));
    nodes[2] = node(3, "", NodeState::Dead);
    nodes[3].1.available_bytes = 99;
    let words = explain(&facts(&[1, 2, 3], &nodes));
    assert_eq!(words.state, "under-replicated");
    assert_eq!(words.summary, "It has 2 of 3 replicas.");
    assert_eq!(
        words.replicas[2],
        "datanode-3: dead, silent for 40 s; this replica does not count."
    );
    assert_eq!(
        words.blocked,
        [
            "No datanode without it can take a copy: datanode-4 has room for 99 bytes and 100 are needed; datanode-5 is decommissioning."
        ]
    );
    nodes.truncate(3);
    let words = explain(&facts(&[1, 2, 3], &nodes));
    assert_eq!(
        words.blocked,
        ["Every datanode there is holds it already: there is none to put another copy on."]
    );
}

#[test]
fn a_copy_that_was_ordered_is_named_with_its_deadline() {
    let mut facts = facts(&[1, 2], &live(&["", "", ""]));
    let action = CommandRecordAction::Replicate {
        hash: HASH,
        targets: vec![NodeIndex(3)],
    };
    facts.planned = Some(Planned {
        node: NodeIndex(1),
        id: CommandId(12),
        command: command(action),
        handed_out: true,
        deadline_ms: Some(NOW + 115_000),
    });
    let words = explain(&facts);
    assert_eq!(
        words.planned,
        [
            "datanode-1 is to copy it to datanode-3 (command 12, ordered 5 s ago, it has the command; given up in 115 s)."
        ]
    );
    assert_eq!(
        words.blocked,
        ["A file gets one command at a time: what is ordered has to end first."]
    );
    assert_eq!(
        words.next,
        ["It is looked at again when the command has ended."]
    );
}

#[test]
fn what_waits_says_for_what() {
    let mut facts = facts(&[1, 2], &live(&["", "", ""]));
    facts.rests_ms = 12_000;
    let words = explain(&facts);
    assert_eq!(
        words.blocked,
        ["The last attempt did not bring what it should."]
    );
    assert_eq!(words.next, ["It is tried again in 12 s."]);
    facts.rests_ms = 0;
    facts.waiting = 7;
    assert_eq!(
        explain(&facts).next,
        ["In its turn: 7 files wait to be copied, those with the fewest good replicas first."]
    );
    facts.halted = Some("Safe mode is on: an operator asked for it.".into());
    let words = explain(&facts);
    assert_eq!(
        words.blocked,
        ["Safe mode is on: an operator asked for it."]
    );
    assert_eq!(words.next, ["Nothing is ordered before that is over."]);
}

#[test]
fn a_file_without_a_holder_that_is_there_cannot_be_read() {
    let mut nodes = live(&["", "", ""]);
    nodes[0] = node(1, "", NodeState::Dead);
    let words = explain(&facts(&[1], &nodes));
    assert_eq!(words.state, "missing");
    assert_eq!(
        words.summary,
        "No datanode that holds it is there: it cannot be read until one of them returns."
    );
    assert_eq!(words.next, ["As soon as a datanode that holds it is back."]);
}

#[test]
fn a_reported_replica_is_damage_and_all_of_them_are_the_end_of_repair() {
    let mut some = facts(&[1, 2, 3, 4], &live(&["", "", "", ""]));
    suspect(&mut some, false);
    let words = explain(&some);
    assert_eq!(words.state, "damaged");
    assert_eq!(
        words.summary,
        "It has 3 of 3 replicas and 1 besides that somebody reported as bad."
    );
    assert_eq!(
        words.replicas[0],
        "datanode-1: live; somebody reported this replica as bad, so that reads ask it last."
    );
    let mut all = facts(&[1, 2, 3], &live(&["", "", ""]));
    suspect(&mut all, true);
    assert_eq!(
        explain(&all).summary,
        "All its replicas that can be reached were reported as bad: reads of it fail, and there is no good copy to repair it from."
    );
}

#[test]
fn surplus_and_too_few_racks_are_told_apart() {
    let words = explain(&facts(&[1, 2, 3, 4], &live(&["", "", "", ""])));
    assert_eq!(
        (words.state, words.summary.as_str()),
        ("over-replicated", "It has 4 replicas and should have 3.")
    );
    let words = explain(&facts(&[1, 2, 3], &live(&["a", "a", "a", "b"])));
    assert_eq!(
        (words.state, words.summary.as_str()),
        (
            "misplaced",
            "It has all of its 3 replicas, in 1 rack where 2 would do."
        )
    );
}

#[test]
fn i03_a_deleted_file_says_who_has_not_confirmed() {
    let mut facts = facts(&[], &live(&["", ""]));
    facts
        .nodes
        .insert(NodeIndex(2), node(2, "", NodeState::Dead).1);
    let action = CommandRecordAction::Delete {
        hash: HASH,
        generation: Generation(17),
    };
    let delete = |number, attempts| DeleteFacts {
        node: NodeIndex(number),
        id: CommandId(u64::from(number)),
        command: Some(CommandRecord {
            attempts,
            not_before_ms: NOW + 8_000,
            ..command(action.clone())
        }),
        handed_out: false,
    };
    facts.subject = Subject::Deleted {
        generation: Generation(17),
        deleted_ms: NOW - 3_600_000,
        deletes: vec![delete(1, 3), delete(2, 0)],
    };
    let words = explain(&facts);
    assert_eq!(words.state, "deleted");
    assert_eq!(
        words.summary,
        "It was deleted 60 min ago and cannot be read; 2 datanodes have to confirm."
    );
    assert_eq!(
        words.planned,
        [
            "datanode-1 has not confirmed (command 1, ordered 5 s ago, 3 attempts failed, the next is in 8 s).",
            "datanode-2 has not confirmed, which is away (silent for 40 s) and is told when it returns (command 2, ordered 5 s ago, the command waits for its next heartbeat).",
        ]
    );
}

#[test]
fn a_hash_that_nobody_knows_is_not_guessed_about() {
    let mut facts = facts(&[], &live(&[""]));
    facts.subject = Subject::Unknown;
    let words = explain(&facts);
    assert_eq!(words.state, "unknown");
    assert_eq!(
        words.summary,
        "There is no such file. It was never committed, or it was deleted and every datanode that held it has confirmed: of those only some of the history is kept."
    );
    facts.parked = vec![ParkedReplica {
        node: NodeIndex(1),
        generation: Generation(21),
        hash: HASH,
    }];
    let words = explain(&facts);
    assert_eq!(words.state, "uploading");
    assert_eq!(
        words.summary,
        "It is being uploaded: 1 datanode has its bytes, and it is not committed."
    );
    assert_eq!(
        words.history,
        [
            NOTHING_ELSE,
            "datanode-1 has its bytes from write 21, which is not committed yet."
        ]
    );
}

#[test]
fn what_happened_is_told_oldest_first_with_who_and_how_far_back_it_goes() {
    let mut facts = facts(&[1, 2, 3], &live(&["", "", ""]));
    let copy = Work::Copy(vec![NodeIndex(3)]);
    let deeds = [
        (600_000, Deed::Deleted),
        (
            500_000,
            Deed::Done {
                node: NodeIndex(1),
                work: Work::Delete,
            },
        ),
        (
            180_000,
            Deed::Committed {
                generation: Generation(17),
                created: true,
            },
        ),
        (
            90_000,
            Deed::ReportedBad {
                node: NodeIndex(3),
                reason: "group 4 is damaged.".to_owned(),
            },
        ),
        (
            60_000,
            Deed::Failed {
                node: NodeIndex(2),
                work: copy.clone(),
                reason: "no room".to_owned(),
            },
        ),
        (
            30_000,
            Deed::Ordered {
                node: NodeIndex(1),
                work: copy.clone(),
            },
        ),
        (
            2_000,
            Deed::Done {
                node: NodeIndex(1),
                work: copy,
            },
        ),
    ];
    facts.story = Story {
        entries: deeds
            .into_iter()
            .map(|(ago_ms, deed)| Entry {
                at_ms: NOW - ago_ms,
                deed,
            })
            .collect(),
        since_ms: NOW - 900_000,
        is_whole: false,
    };
    facts.buried = Some(Buried {
        generation: Generation(12),
        deleted_ms: NOW - 600_000,
        holders: 1,
    });
    assert_eq!(
        explain(&facts).history,
        [
            "Deleted 10 min ago up to write 12, and stored again since; 1 datanode has to confirm that the replica of then is gone.",
            "Uploaded 3 min ago, 100 bytes with 3 replicas wanted.",
            "Write 17, the newest, is on datanode-1, datanode-2, datanode-3.",
            "10 min ago: it was deleted.",
            "8 min ago: datanode-1 confirmed that its replica is gone.",
            "3 min ago: write 17 made the file.",
            "90 s ago: the replica on datanode-3 was reported as bad: group 4 is damaged.",
            "60 s ago: datanode-2 could not copy it to datanode-3: no room.",
            "30 s ago: datanode-1 was told to copy it to datanode-3.",
            "2 s ago: datanode-1 copied it to datanode-3.",
            "Events before 15 min ago made room for newer ones; of those, some are missing.",
        ]
    );
}
