//! What those who watch are told: every event once and in order, after a break, and after a restart.

use richardstore_proto::wire::event_log_client::EventLogClient;
use richardstore_proto::wire::{self, EventKind};
use tokio::time::timeout;
use tonic::Streaming;

use crate::fixture::{DEADLINE, Rig, hash};

struct Watch {
    stream: Streaming<wire::FollowResponse>,
    epoch: u64,
    /// Of each answer.
    gaps: Vec<bool>,
    events: Vec<wire::Event>,
}

impl Watch {
    async fn start(rig: &Rig, epoch: u64, sequence: u64) -> Self {
        let request = wire::FollowRequest { epoch, sequence };
        let mut client = EventLogClient::new(rig.channel());
        let mut watch = Self {
            stream: client.follow(request).await.unwrap().into_inner(),
            epoch: 0,
            gaps: Vec::new(),
            events: Vec::new(),
        };
        watch.read().await;
        watch
    }

    async fn read(&mut self) {
        let answer = timeout(DEADLINE, self.stream.message()).await;
        let answer = answer.expect("an answer in time").unwrap().unwrap();
        self.epoch = answer.epoch;
        self.gaps.push(answer.gap);
        self.events.extend(answer.events);
    }

    async fn until(&mut self, kind: EventKind) -> wire::Event {
        loop {
            if let Some(event) = self.events.iter().find(|event| event.kind() == kind) {
                return event.clone();
            }
            self.read().await;
        }
    }

    fn sequences(&self) -> Vec<u64> {
        self.events.iter().map(|event| event.sequence).collect()
    }
}

#[tokio::test]
async fn a_watcher_is_told_of_joins_corruptions_and_deletes_in_order() {
    let rig = Rig::start().await;
    let mut watch = Watch::start(&rig, 0, 0).await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let bad = wire::ReportBadReplicaRequest {
        hash: hash(1).as_bytes().to_vec().into(),
        node_id: nodes[1].id(),
        reason: "test".to_owned(),
    };
    rig.client.clone().report_bad_replica(bad).await.unwrap();
    assert!(rig.delete(hash(1)).await);
    assert!(!rig.delete(hash(1)).await);
    let deleted = watch.until(EventKind::FileDeleted).await;
    assert_eq!(deleted.hash, hash(1).as_bytes().to_vec());
    let corrupt = watch.until(EventKind::ReplicaCorrupt).await;
    assert_eq!(
        (corrupt.node_id, &*corrupt.node_name),
        (nodes[1].id(), "node-2")
    );
    let joined = watch.events.iter();
    let joined = joined.filter(|event| event.kind() == EventKind::NodeJoined);
    assert_eq!(joined.count(), 3);
    let first = &watch.events[0];
    assert_eq!(
        (first.kind(), first.count),
        (EventKind::NamenodeStarted, watch.epoch)
    );
    let expected: Vec<u64> = (1..=watch.events.len() as u64).collect();
    assert_eq!(watch.sequences(), expected);
    assert!(!watch.gaps.contains(&true));
    rig.stop().await;
}

#[tokio::test]
async fn a_watcher_goes_on_behind_what_it_saw_and_knows_of_a_restart() {
    let mut rig = Rig::start().await;
    rig.nodes(2).await;
    let mut watch = Watch::start(&rig, 0, 0).await;
    watch.until(EventKind::NodeJoined).await;
    let again = Watch::start(&rig, watch.epoch, 1).await;
    assert_eq!(again.gaps, [false]);
    assert_eq!(again.sequences()[0], 2);
    drop((watch, again));
    let before = rig.info().await.epoch;
    rig.restart().await;
    let after = Watch::start(&rig, before, 3).await;
    assert_eq!((after.epoch, &after.gaps[..]), (before + 1, &[true][..]));
    assert_eq!(after.events[0].kind(), EventKind::NamenodeStarted);
    rig.stop().await;
}

#[tokio::test]
async fn i11_watchers_have_a_limit_and_those_who_leave_make_room() {
    let rig = Rig::start().await;
    let mut watches = Vec::new();
    for _ in 0..256 {
        watches.push(Watch::start(&rig, 0, 0).await);
    }
    let mut client = EventLogClient::new(rig.channel());
    let refused = client.follow(wire::FollowRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unavailable);
    drop(watches);
    let room = async {
        while client.follow(wire::FollowRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, room).await.expect("room again");
    rig.stop().await;
}
