//! What may be remembered of where files are, and how deletes wait for those who do.

use std::time::Duration;

use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, ErrorCode};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::fixture::{Client, DEADLINE, Rig, hash};

/// As long as the namenode lets anybody remember.
const LEASE: Duration = Duration::from_secs(1);

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
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let held = hold(&rig.client, 0, 0).await;
    assert!(held.holder > 0 && held.lease_ms > 0 && held.forget.is_empty());
    assert_eq!(rig.read(hash(1)).await.unwrap().equal_nodes, 3);

    let deleting = delete(&rig.client, hash(1));
    let begun = Instant::now();
    // A call may come back with nothing where the delete has not begun yet.
    let told = loop {
        let told = hold(&rig.client, held.holder, held.sequence).await;
        assert_eq!(told.holder, held.holder);
        if !told.forget.is_empty() {
            break told;
        }
        assert!(begun.elapsed() < DEADLINE);
    };
    assert_eq!(told.forget, [to_bytes(hash(1).as_bytes())]);
    // It is there until then, for those who ask each time.
    let found = rig.read(hash(1)).await.unwrap();
    assert_eq!((found.nodes.len(), found.equal_nodes), (3, 0));
    assert!(!deleting.is_finished());

    let forgets = hold(&rig.client, told.holder, told.sequence);
    let (deleted, _) = tokio::join!(deleting, forgets);
    assert!(deleted.unwrap());
    let gone = rig.read(hash(1)).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
    rig.stop().await;
}

#[tokio::test]
async fn i03_a_holder_that_is_silent_holds_up_a_delete_for_as_long_as_it_may_remember() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let asked = Instant::now();
    hold(&rig.client, 0, 0).await;
    assert!(rig.delete(hash(1)).await);
    // The namenode counts whole milliseconds.
    assert!(asked.elapsed() + Duration::from_millis(1) >= LEASE);
    let again = Instant::now();
    assert!(!rig.delete(hash(1)).await, "nobody is waited for any more");
    assert!(again.elapsed() < DEADLINE);
    rig.stop().await;
}

#[tokio::test]
async fn i03_after_a_restart_a_delete_waits_for_those_who_may_still_remember_and_a_read_does_not() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let before = Instant::now();
    rig.restart().await;
    assert_eq!(rig.read(hash(1)).await.unwrap().file.unwrap().size, 100);
    assert!(rig.delete(hash(1)).await);
    assert!(before.elapsed() >= LEASE);
    rig.stop().await;
}

#[tokio::test]
async fn i03_a_delete_whose_caller_goes_away_is_ended_all_the_same() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let held = hold(&rig.client, 0, 0).await;
    let deleting = delete(&rig.client, hash(1));
    while rig.read(hash(1)).await.unwrap().equal_nodes != 0 {
        sleep(Duration::from_millis(1)).await;
    }
    deleting.abort();
    let told = hold(&rig.client, held.holder, held.sequence).await;
    let until = Instant::now() + DEADLINE;
    let mut forgotten = told.sequence;
    while rig.read(hash(1)).await.is_ok() {
        assert!(Instant::now() < until);
        forgotten = hold(&rig.client, told.holder, forgotten).await.sequence;
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_namenode_that_stops_keeps_no_holder_waiting() {
    let rig = Rig::start().await;
    let held = hold(&rig.client, 0, 0).await;
    let mut client = rig.client.clone();
    let waiting = tokio::spawn(async move {
        let request = wire::HoldLocationsRequest {
            holder: held.holder,
            forgotten: held.sequence,
            release: false,
        };
        client.hold_locations(request).await
    });
    rig.stop().await;
    // With nothing to forget, or refused: it depends on who was first.
    drop(waiting.await.unwrap());
}
