//! What may be remembered of where files are, and how deletes wait for those who do.

use std::time::Duration;

use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, ErrorCode};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::fixture::{Client, DEADLINE, FakeNode, Rig, hash};

/// Longer than any test takes.
const NEVER_MS: u64 = 600_000;
/// Of tests that wait until it is over.
const SHORT: Duration = Duration::from_millis(500);

async fn with_lease(lease_ms: u64) -> (Rig, Vec<FakeNode>) {
    let rig = Rig::with(|config| config.location_lease_ms = lease_ms).await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    (rig, nodes)
}

async fn hold(client: &Client, holder: u64, forgotten: u64) -> wire::HoldLocationsResponse {
    let request = wire::HoldLocationsRequest {
        holder,
        forgotten,
        release: false,
    };
    let held = client.clone().hold_locations(request).await;
    held.unwrap().into_inner()
}

fn delete(client: &Client, hash: ContentHash) -> JoinHandle<bool> {
    let mut client = client.clone();
    let hash = to_bytes(hash.as_bytes());
    tokio::spawn(async move {
        let deleted = client.delete_file(wire::DeleteFileRequest { hash }).await;
        deleted.unwrap().into_inner().existed
    })
}

#[tokio::test]
async fn i03_a_file_is_deleted_when_those_who_remember_it_have_said_that_they_forgot() {
    let (rig, _nodes) = with_lease(NEVER_MS).await;
    let held = hold(&rig.client, 0, 0).await;
    assert!(held.holder > 0 && held.lease_ms > 0 && held.forget.is_empty());
    assert_eq!(rig.read(hash(1)).await.unwrap().equal_nodes, 3);

    let deleting = delete(&rig.client, hash(1));
    let told = hold(&rig.client, held.holder, held.sequence).await;
    assert_eq!(told.holder, held.holder);
    assert_eq!(told.forget, [to_bytes(hash(1).as_bytes())]);
    // It is there until then, for those who ask each time. An allocation is durable after what was submitted before it: a
    // delete that does not wait would be by now.
    rig.allocate().await;
    let found = rig.read(hash(1)).await.unwrap();
    assert_eq!((found.nodes.len(), found.equal_nodes), (3, 0));
    assert!(!deleting.is_finished());

    let waits = forgets(&rig.client, told);
    assert!(deleting.await.unwrap());
    let gone = rig.read(hash(1)).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
    waits.abort();
    rig.stop().await;
}

#[tokio::test]
async fn i03_a_holder_that_is_silent_holds_up_a_delete_for_as_long_as_it_may_remember() {
    let (rig, _nodes) = with_lease(u64::try_from(SHORT.as_millis()).unwrap()).await;
    let asked = Instant::now();
    hold(&rig.client, 0, 0).await;
    assert!(rig.delete(hash(1)).await);
    // The namenode counts whole milliseconds.
    assert!(asked.elapsed() + Duration::from_millis(1) >= SHORT);
    rig.stop().await;
}

#[tokio::test]
async fn a_holder_that_gave_its_lease_back_holds_up_no_delete() {
    let (rig, _nodes) = with_lease(NEVER_MS).await;
    let held = hold(&rig.client, 0, 0).await;
    let release = wire::HoldLocationsRequest {
        holder: held.holder,
        forgotten: held.sequence,
        release: true,
    };
    let deleting = delete(&rig.client, hash(1));
    rig.client.clone().hold_locations(release).await.unwrap();
    assert!(deleting.await.unwrap());
    rig.stop().await;
}

#[tokio::test]
async fn i03_after_a_restart_a_delete_waits_for_those_who_may_still_remember_and_a_read_does_not() {
    let (mut rig, _nodes) = with_lease(NEVER_MS).await;
    rig.restart().await;
    let deleting = delete(&rig.client, hash(1));
    let found = until(&rig, |found| found.equal_nodes == 0).await;
    assert_eq!(found.nodes.len(), 3);
    assert!(!deleting.is_finished());
    rig.stop().await;
    let refused = deleting.await.unwrap_err();
    assert!(refused.is_panic(), "the delete was not answered as done");
}

#[tokio::test]
async fn a_delete_whose_caller_goes_away_while_others_remember_is_not_carried_out() {
    let (rig, _nodes) = with_lease(NEVER_MS).await;
    hold(&rig.client, 0, 0).await;
    let deleting = delete(&rig.client, hash(1));
    until(&rig, |found| found.equal_nodes == 0).await;
    deleting.abort();
    let found = until(&rig, |found| found.equal_nodes > 0).await;
    assert_eq!(found.nodes.len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn a_namenode_that_stops_keeps_no_holder_waiting() {
    let (rig, _nodes) = with_lease(NEVER_MS).await;
    let held = hold(&rig.client, 0, 0).await;
    let waiting = forgets(&rig.client, held);
    rig.stop().await;
    // Told nothing, or refused: it depends on who was first.
    let told = waiting.await.unwrap();
    assert!(matches!(told, None | Some(0)), "{told:?}");
}

/// Says that all of `told` is forgotten, and waits for more.
fn forgets(client: &Client, told: wire::HoldLocationsResponse) -> JoinHandle<Option<u64>> {
    let mut client = client.clone();
    tokio::spawn(async move {
        let request = wire::HoldLocationsRequest {
            holder: told.holder,
            forgotten: told.sequence,
            release: false,
        };
        let held = client.hold_locations(request).await;
        held.ok().map(|held| held.into_inner().sequence)
    })
}

/// Reads the file until what is found of it is as wanted.
async fn until(rig: &Rig, wanted: impl Fn(&wire::StreamInfo) -> bool) -> wire::StreamInfo {
    let until = Instant::now() + DEADLINE;
    loop {
        let found = rig.read(hash(1)).await.unwrap();
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < until, "{found:?}");
        tokio::task::yield_now().await;
    }
}
