//! The stream of events: passed on as it comes, resumed where it broke, and never in the way of a stop.

use std::time::Duration;

use richardstore_proto::wire;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::http::{Connection, PATIENCE, Served};

/// Reads the body of a stream until `wanted` is in it.
async fn read_until(connection: &mut Connection, wanted: &str) -> String {
    let mut read = connection.take_unread();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if text.contains(wanted) {
                return text;
            }
            let length = connection.stream.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it ended before {wanted:?}: {text}");
            read.extend_from_slice(&buffer[..length]);
        }
    };
    timeout(PATIENCE, reading).await.expect("in time")
}

async fn listen(served: &Served, path: &str, headers: &[&str]) -> Connection {
    let mut connection = served.connect().await;
    connection.request("GET", path, headers, b"").await;
    let head = connection.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/event-stream"), "{head}");
    connection
}

#[tokio::test]
async fn events_are_passed_on_with_the_number_to_go_on_from() {
    let served = Served::start().await;
    served.cluster.tell(wire::EventKind::NodeStale);
    let mut connection = listen(&served, "/events", &[]).await;
    let text = read_until(&mut connection, "node_stale").await;
    assert!(text.contains("event: back"), "{text}");
    assert!(text.contains("id: 7-1\n"), "{text}");
    served.cluster.tell(wire::EventKind::NodeDead);
    let text = read_until(&mut connection, "node_dead").await;
    assert!(text.contains("id: 7-2\n"), "{text}");
}

#[tokio::test]
async fn a_listener_goes_on_where_it_stopped() {
    let served = Served::start().await;
    for kind in [
        wire::EventKind::NodeStale,
        wire::EventKind::NodeDead,
        wire::EventKind::NodeLive,
    ] {
        served.cluster.tell(kind);
    }
    let mut connection = listen(&served, "/events?after=7-1", &["Last-Event-ID: 7-2"]).await;
    let text = read_until(&mut connection, "node_live").await;
    assert!(!text.contains("node_dead"), "{text}");
    let mut connection = listen(&served, "/events?after=7-1", &[]).await;
    let text = read_until(&mut connection, "node_live").await;
    assert!(text.contains("node_dead") && !text.contains("node_stale"));
    let mut connection = listen(&served, "/events?after=6-9", &[]).await;
    let text = read_until(&mut connection, "node_stale").await;
    assert!(text.contains("event: gap"), "{text}");
    let reply = served.get("/events?after=nonsense").await;
    reply.assert_error(400, "invalid_argument");
}

#[tokio::test]
async fn a_listener_is_told_that_the_namenode_is_away() {
    let away = Served::start_with(|config| config.namenode = "127.0.0.1:1".into()).await;
    let mut connection = listen(&away, "/events", &[]).await;
    read_until(&mut connection, "event: away").await;
}

#[tokio::test]
async fn i11_listeners_have_a_limit_and_do_not_hold_up_a_stop() {
    let served = Served::start().await;
    let mut listeners = Vec::new();
    for _ in 0..64 {
        listeners.push(listen(&served, "/events", &[]).await);
    }
    served.get("/events").await.assert_error(503, "unavailable");
    let limit = Duration::from_secs(10);
    let stopped = timeout(limit, served.gateway.stop(PATIENCE)).await;
    stopped.expect("listeners end with the gateway");
}

#[tokio::test]
async fn i11_a_gateway_takes_one_place_at_the_namenode_whatever_the_number_of_its_listeners() {
    let served = Served::start().await;
    let mut listeners = Vec::new();
    for _ in 0..40 {
        listeners.push(listen(&served, "/events", &[]).await);
    }
    served.cluster.tell(wire::EventKind::NodeStale);
    for listener in &mut listeners {
        read_until(listener, "node_stale").await;
    }
    assert_eq!(served.cluster.state().follows, 1);
}
