//! The namenode's calls with messages that mean nothing, and dumps that were changed: every call has an answer, nothing panics, and
//! what was known before is known afterwards (FAULTS 45).

// A call that fails where a test needs it is the test's failure, also in the helpers.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // shared with the tests of the service
#[path = "service/fixture.rs"]
mod fixture;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fixture::{FakeNode, Rig, hash};
use prost::Message;
use richardstore_fuzz::{count_panics, fuzz, message, mutated, mutated_of};
use richardstore_namenode::verify_dump;
use richardstore_proto::wire;
use richardstore_proto::wire::event_log_client::EventLogClient;
use richardstore_proto::wire::name_node_admin_client::NameNodeAdminClient;
use richardstore_proto::wire::name_node_recovery_client::NameNodeRecoveryClient;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// No call takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Makes each of the calls whose request the bytes are.
macro_rules! call {
    ($bytes:ident, $client:expr, $node:expr; $($method:ident: $request:ty $(, $own:ident)*;)+) => {
        $(if let Ok(request) = <$request>::decode(&$bytes[..]) {
            $(let request = $own(request, $node);)*
            let answer = timeout(LIMIT, $client.$method(request)).await;
            drop(answer.expect(stringify!($method)));
        })+
    };
}

/// As a datanode that is registered sends it: otherwise none of the rest would be looked at.
fn heartbeat(mut request: wire::HeartbeatRequest, node: &FakeNode) -> wire::HeartbeatRequest {
    (request.node_id, request.session_epoch) = (node.id(), node.session);
    request
}

fn full(mut request: wire::BlockReportRequest, node: &FakeNode) -> wire::BlockReportRequest {
    (request.node_id, request.session_epoch) = (node.id(), node.session);
    request.journal_id = node.journal_id();
    request
}

fn incremental(
    mut request: wire::IncrementalBlockReportRequest,
    node: &FakeNode,
) -> wire::IncrementalBlockReportRequest {
    (request.node_id, request.session_epoch) = (node.id(), node.session);
    request.journal_id = node.journal_id();
    request
}

fn recall(mut request: wire::RecallDeletesRequest, node: &FakeNode) -> wire::RecallDeletesRequest {
    (request.node_id, request.session_epoch) = (node.id(), node.session);
    request
}

async fn call_all(rig: &Rig, node: &FakeNode, bytes: &[u8]) {
    let mut client = rig.client.clone();
    call!(bytes, client, node;
        write_file: wire::WriteFileRequest;
        renew_writes: wire::RenewWritesRequest;
        commit_files: wire::CommitFilesRequest;
        abandon_writes: wire::AbandonWritesRequest;
        read_file: wire::ReadFileRequest;
        locate_files: wire::LocateFilesRequest;
        list_files: wire::ListFilesRequest;
        dump: wire::DumpRequest;
        register: wire::RegisterRequest;
        heartbeat: wire::HeartbeatRequest;
        heartbeat: wire::HeartbeatRequest, heartbeat;
        block_report: wire::BlockReportRequest;
        block_report: wire::BlockReportRequest, full;
        incremental_block_report: wire::IncrementalBlockReportRequest;
        incremental_block_report: wire::IncrementalBlockReportRequest, incremental;
        report_bad_replica: wire::ReportBadReplicaRequest;
        set_node_admin: wire::SetNodeAdminRequest;
    );
    let mut admin = NameNodeAdminClient::new(rig.channel());
    call!(bytes, admin, node; why: wire::WhyRequest; check: wire::CheckRequest;);
    let mut recovery = NameNodeRecoveryClient::new(rig.channel());
    call!(bytes, recovery, node; recall_deletes: wire::RecallDeletesRequest, recall;);
    let mut events = EventLogClient::new(rig.channel());
    call!(bytes, events, node; follow: wire::FollowRequest;);
}

#[test]
fn no_call_makes_the_namenode_panic_or_forget() {
    let (runtime, panics) = (Runtime::new().unwrap(), count_panics());
    let (mut rig, node) = runtime.block_on(async {
        let rig = Rig::start().await;
        let mut nodes = rig.nodes(3).await;
        rig.store(hash(1), &mut nodes).await;
        (rig, nodes.remove(0))
    });
    let calls = mutated_of(message());
    fuzz("calls to the namenode", 150, &calls, |bytes| {
        runtime.block_on(call_all(&rig, &node, &bytes));
        assert_eq!(panics.load(Ordering::SeqCst), 0);
    });
    runtime.block_on(async {
        rig.read(hash(1)).await.unwrap();
        // What was written meanwhile can be read again, too.
        rig.restart().await;
        rig.read(hash(1)).await.unwrap();
        rig.stop().await;
    });
}

#[test]
fn i08_a_dump_that_was_changed_is_refused_or_the_same() {
    let dump = Runtime::new().unwrap().block_on(async {
        let rig = Rig::start().await;
        let mut nodes = rig.nodes(3).await;
        for number in 1..6 {
            rig.store(hash(number), &mut nodes).await;
        }
        rig.delete(hash(2)).await;
        let request = wire::DumpRequest {
            table: "all".to_owned(),
        };
        let mut parts = rig.client.clone().dump(request).await.unwrap().into_inner();
        let mut dump = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            dump.extend_from_slice(&part.lines);
        }
        rig.stop().await;
        dump
    });
    let whole = verify_dump(&dump[..]).unwrap();
    fuzz("changed dumps", 2_000, &mutated(dump.clone()), |bytes| {
        if let Ok(summary) = verify_dump(&bytes[..]) {
            assert_eq!(summary, whole);
        }
    });
}
