//! Decommissioning: a node is emptied by copies, and only called emptied when nothing needs it. Safe mode by hand.

use std::collections::BTreeSet;

use richardstore_proto::wire::block_report_request::Step;
use richardstore_proto::wire::command::Action;
use richardstore_proto::wire::{self, NodeAction, SafeModeAction};
use richardstore_proto::{ErrorCode, StoreError};

use crate::fixture::{FakeNode, Rig, answer, done, hash, until};

async fn rig() -> Rig {
    Rig::with(|config| config.repair_bytes_per_second = 1 << 30).await
}

async fn ask(
    rig: &Rig,
    node: &str,
    action: NodeAction,
) -> Result<wire::SetNodeAdminResponse, StoreError> {
    let request = wire::SetNodeAdminRequest {
        node: node.to_owned(),
        action: action.into(),
        ..wire::SetNodeAdminRequest::default()
    };
    answer(rig.client.clone().set_node_admin(request).await)
}

async fn decommission(rig: &Rig, node: &str) -> wire::SetNodeAdminResponse {
    ask(rig, node, NodeAction::Decommission).await.unwrap()
}

/// Asks until a whole walk was made and `enough` says so.
async fn drained(
    rig: &Rig,
    enough: impl Fn(&wire::SetNodeAdminResponse) -> bool,
) -> wire::SetNodeAdminResponse {
    until("the walk to find it", || async {
        let status = decommission(rig, "node-1").await;
        (status.checked && enough(&status)).then_some(status)
    })
    .await
}

/// Registers all anew, and they report that they hold what is on record.
async fn report_all(rig: &Rig, nodes: &mut [FakeNode]) {
    for node in nodes {
        node.session += 1;
        node.register(&rig.client).await.unwrap();
        let sequence = node.next_sequence;
        let step = Step::Done(wire::ReportDone { sequence });
        node.full_report(&rig.client, step).await.unwrap();
    }
}

/// Carries out copies until `wanted` of them are done; every one must go to node 4.
async fn carry_out_copies(rig: &Rig, nodes: &mut [FakeNode], generation: u64, wanted: usize) {
    let mut copied = BTreeSet::new();
    while copied.len() < wanted {
        let (at, command) = until("a copy", || async {
            for (at, node) in nodes.iter().enumerate() {
                let answer = node.heartbeat(&rig.client).await.unwrap();
                if let Some(command) = answer.commands.into_iter().next() {
                    return Some((at, command));
                }
            }
            None
        })
        .await;
        let Some(Action::Replicate(copy)) = &command.action else {
            panic!("{command:?}");
        };
        assert_eq!(copy.targets.len(), 1);
        assert_eq!(copy.targets[0].node_id[0], 4);
        let file = copy.file.as_ref().unwrap().hash[0];
        assert!(copied.insert(file), "copied twice");
        nodes[3].added(&rig.client, hash(file), generation).await;
        let outcomes = vec![done(&command)];
        let answer = nodes[at].heartbeat_with(&rig.client, outcomes).await;
        assert!(answer.unwrap().commands.is_empty());
    }
}

#[tokio::test]
async fn i06_a_drain_goes_on_after_a_restart_and_ends_when_all_is_confirmed_elsewhere() {
    let mut rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    let generation = rig.store(hash(1), &mut nodes[..3]).await;
    report_all(&rig, &mut nodes).await;
    let began = decommission(&rig, "node-1").await;
    assert_eq!((&*began.admin, began.blocking), ("decommissioning", 1));
    let chain = rig.allocate().await;
    assert!(chain.targets.iter().all(|node| node.node_id[0] != 1));
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 3);

    rig.restart().await;
    report_all(&rig, &mut nodes).await;
    // The write of before the restart may have been placed there, for all this start knows.
    let status = drained(&rig, |status| status.writes_in_flight).await;
    assert_eq!((&*status.admin, status.blocking), ("decommissioning", 1));
    assert_eq!(&status.first[0].hash[..], hash(1).as_bytes());

    carry_out_copies(&rig, &mut nodes, generation, 1).await;
    let generations = vec![chain.generation];
    let abandon = wire::AbandonWritesRequest { generations };
    answer(rig.client.clone().abandon_writes(abandon).await).unwrap();
    let end = drained(&rig, |status| status.admin == "decommissioned").await;
    assert_eq!((end.blocking, end.replicas), (0, 1), "nothing is removed");
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 4);
    rig.restart().await;
    report_all(&rig, &mut nodes).await;
    let still = decommission(&rig, "node-1").await;
    assert_eq!(still.admin, "decommissioned");
    let back = ask(&rig, "node-1", NodeAction::InService).await.unwrap();
    assert_eq!(back.admin, "in_service");
    rig.stop().await;
}

#[tokio::test]
async fn i06_without_a_node_to_copy_to_a_drain_says_so_and_does_not_end() {
    let rig = rig().await;
    let mut nodes = rig.nodes(3).await;
    for file in 1..=12 {
        rig.store(hash(file), &mut nodes).await;
    }
    report_all(&rig, &mut nodes).await;
    decommission(&rig, "node-1").await;
    let status = drained(&rig, |_| true).await;
    assert_eq!((status.blocking, status.first.len()), (12, 10));
    for file in &status.first {
        assert_eq!(file.reason, "no other datanode can take it");
    }
    let back = ask(&rig, "node-1", NodeAction::InService).await.unwrap();
    assert_eq!((&*back.admin, back.blocking), ("in_service", 0));
    rig.stop().await;
}

#[tokio::test]
async fn a_node_is_named_by_its_name_or_id_and_others_are_refused() {
    let rig = rig().await;
    rig.nodes(2).await;
    let id = "02020202-0202-0202-0202-020202020202";
    let status = ask(&rig, id, NodeAction::InService).await.unwrap();
    assert_eq!(status.name, "node-2");
    let missing = ask(&rig, "node-9", NodeAction::Decommission).await;
    assert_eq!(missing.unwrap_err().code, ErrorCode::NotFound);
    let vague = ask(&rig, "node-2", NodeAction::Unspecified).await;
    assert_eq!(vague.unwrap_err().code, ErrorCode::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn i07_an_operator_ends_safe_mode_and_what_was_withheld_is_handed_out() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    rig.store(hash(1), &mut nodes).await;
    assert!(rig.delete(hash(1)).await);
    rig.restart().await;
    nodes[0].register(&rig.client).await.unwrap();
    let withheld = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert!(withheld.commands.is_empty() && !withheld.active);
    let set = async |action: SafeModeAction| {
        let action = action.into();
        let request = wire::SetSafeModeRequest { action };
        answer(rig.client.clone().set_safe_mode(request).await).unwrap()
    };
    assert!(set(SafeModeAction::Get).await.on);
    assert!(!set(SafeModeAction::Leave).await.on);
    let handed_out = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert_eq!((handed_out.commands.len(), handed_out.active), (1, true));
    let entered = set(SafeModeAction::Enter).await;
    assert_eq!(
        (entered.on, &*entered.reason),
        (true, "an operator asked for it")
    );
    nodes[1].register(&rig.client).await.unwrap();
    assert_eq!(rig.info().await.status, "safe mode");
    rig.stop().await;
}
