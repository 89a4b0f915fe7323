//! What operators see: status, listings, dumps, health.

use std::collections::BTreeSet;
use std::time::Duration;

use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::wire::name_node_admin_client::NameNodeAdminClient;
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::{ContentHash, ErrorCode, wire};
use richardstore_runtime::{Environment, Offload};
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fixture::{Rig, answer, hash, hashes};

#[tokio::test]
async fn the_status_is_true() {
    let rig = Rig::start().await;
    let empty = rig.info().await;
    assert_eq!(
        (&*empty.status, &*empty.reason),
        ("degraded", "no datanode has registered")
    );
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let info = rig.info().await;
    assert_eq!((&*info.status, &*info.reason), ("running", ""));
    assert_eq!((info.files, info.bytes, info.nodes_live), (1, 100, 3));
    assert_eq!(info.capacity_bytes, 3 << 40);
    assert_eq!(info.address, rig.namenode().address().to_string());
    rig.stop().await;
}

#[tokio::test]
async fn a_listing_shows_every_file_once_page_by_page() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    for number in 1..=7 {
        rig.store(hash(number), &mut nodes).await;
    }
    let (mut after, mut seen) = (Vec::new(), Vec::new());
    loop {
        let request = wire::ListFilesRequest {
            after: after.clone().into(),
            limit: 3,
            prefix: String::new(),
        };
        let page = answer(rig.client.clone().list_files(request).await).unwrap();
        assert!(page.files.len() <= 3);
        for file in page.files {
            assert_eq!(file.nodes.len(), 2);
            after = file.file.unwrap().hash.to_vec();
            seen.push(after[0]);
        }
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);

    let prefix = |prefix: &str| wire::ListFilesRequest {
        prefix: prefix.to_owned(),
        ..wire::ListFilesRequest::default()
    };
    let found = answer(rig.client.clone().list_files(prefix("05")).await).unwrap();
    assert_eq!((found.files.len(), found.more), (1, false));
    let refused = answer(rig.client.clone().list_files(prefix("XY")).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn a_dump_streams_every_record_as_a_line() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    for number in 1..=20 {
        rig.store(hash(number), &mut nodes).await;
    }
    let table = "files".to_owned();
    let mut stream = answer(rig.client.clone().dump(wire::DumpRequest { table }).await).unwrap();
    let mut text = Vec::new();
    while let Some(part) = stream.next().await {
        text.extend_from_slice(&part.unwrap().lines);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count(), 20);
    assert!(text.contains(&hash(7).to_string()));

    let table = "nonsense".to_owned();
    let refused = answer(rig.client.clone().dump(wire::DumpRequest { table }).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    rig.stop().await;
}

#[tokio::test]
async fn a_dump_that_nobody_reads_does_not_hold_up_the_stop() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(2).await;
    rig.store_many(&hashes(1_000), &nodes).await;
    let table = "files".to_owned();
    let mut stream = answer(rig.client.clone().dump(wire::DumpRequest { table }).await).unwrap();
    assert!(stream.next().await.is_some());
    rig.stop().await;
}

#[tokio::test]
async fn a_stop_ends_the_streams_of_those_who_watch_the_health() {
    let rig = Rig::start().await;
    let channel = rig.channel();
    let mut health = HealthClient::new(channel);
    let service = "richardstore.v1.NameNode".to_owned();
    let request = HealthCheckRequest { service };
    let checked = health.check(request.clone()).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::Serving);
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert!(watch.next().await.unwrap().is_ok());
    rig.stop().await;
    assert!(watch.next().await.is_none_or(|answer| answer.is_err()));
}

#[tokio::test]
async fn i11_a_message_over_the_limit_is_refused() {
    let rig = Rig::start().await;
    let request = wire::DumpRequest {
        table: "x".repeat(wire::MAX_MESSAGE_BYTES + 1),
    };
    let refused = answer(rig.client.clone().dump(request).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
    assert_eq!(rig.info().await.epoch, 1, "others are served");
    rig.stop().await;
}

#[tokio::test]
async fn a_reader_that_stalls_does_not_keep_the_process() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(2).await;
    rig.store_many(&hashes(4_000), &nodes).await;
    let address = format!("http://{}", rig.namenode().address());
    // A small window stands in for a big dump: the rest waits in the namenode.
    let endpoint = Endpoint::from_shared(address)
        .unwrap()
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    let mut client = NameNodeClient::new(endpoint.connect().await.unwrap());
    let table = "files".to_owned();
    let mut stream = answer(client.dump(wire::DumpRequest { table }).await).unwrap();
    let begun = Instant::now();
    rig.abandon(Duration::from_secs(1)).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    let mut ended = None;
    while let Some(part) = stream.next().await {
        ended = Some(part.is_ok());
    }
    assert_eq!(
        ended,
        Some(false),
        "a dump that was cut does not look whole"
    );
}

#[tokio::test]
async fn a_simulation_without_threads_gets_the_same_dump() {
    let dir = tempfile::tempdir().unwrap();
    let config = NamenodeConfig {
        dir: dir.path().to_path_buf(),
        listen: "127.0.0.1:0".to_owned(),
        ..NamenodeConfig::default()
    };
    let environment = Environment {
        offload: Offload::Inline,
        ..Environment::system()
    };
    let namenode = Namenode::start(config, environment.clone()).await.unwrap();
    let address = namenode.address().to_string();
    let mut client = NameNodeClient::new(environment.channels.get(&address).unwrap());
    let table = "meta".to_owned();
    let mut stream = answer(client.dump(wire::DumpRequest { table }).await).unwrap();
    let part = stream.next().await.unwrap().unwrap();
    assert!(part.lines.starts_with(b"{\"key\":\"schema\""));
    drop(stream);
    assert!(namenode.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn nodes_are_listed_with_what_they_said_of_themselves() {
    let rig = Rig::start().await;
    rig.nodes(3).await;
    let listed = answer(
        rig.client
            .clone()
            .list_nodes(wire::ListNodesRequest {})
            .await,
    )
    .unwrap()
    .nodes;
    let names: BTreeSet<&str> = listed
        .iter()
        .map(|status| &*status.node.as_ref().unwrap().name)
        .collect();
    assert_eq!(names, BTreeSet::from(["node-1", "node-2", "node-3"]));
    for status in &listed {
        assert_eq!(status.stats.unwrap().capacity_bytes, 1 << 40);
        assert_eq!(status.last_report_age_ms, u64::MAX);
        assert_eq!(status.session_epoch, 1);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_second_namenode_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = NamenodeConfig {
        dir: dir.path().to_path_buf(),
        listen: "127.0.0.1:0".to_owned(),
        ..NamenodeConfig::default()
    };
    let first = Namenode::start(config.clone(), Environment::system())
        .await
        .unwrap();
    assert!(
        Namenode::start(config.clone(), Environment::system())
            .await
            .is_err()
    );
    assert!(first.stop(Duration::from_secs(5)).await);
    let again = Namenode::start(config, Environment::system())
        .await
        .unwrap();
    assert!(again.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn hashes_and_ids_that_do_not_parse_are_refused() {
    let rig = Rig::start().await;
    rig.nodes(1).await;
    for length in [0usize, 1, 31, 33, 64] {
        let request = wire::ReadFileRequest {
            hash: vec![7; length].into(),
        };
        let refused = answer(rig.client.clone().read_file(request).await).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{length} bytes");
    }
    let commit = wire::CommitFilesRequest {
        files: vec![wire::FileCommit::default()],
    };
    let results = answer(rig.client.clone().commit_files(commit).await)
        .unwrap()
        .results;
    assert_eq!(results[0].error_code, ErrorCode::InvalidArgument.number());
    rig.stop().await;
}

async fn history_of(rig: &Rig, file: ContentHash) -> Vec<String> {
    let hash = wire::to_bytes(file.as_bytes());
    let mut admin = NameNodeAdminClient::new(rig.channel());
    let why = answer(admin.why(wire::WhyRequest { hash }).await).unwrap();
    why.history
}

#[tokio::test]
async fn what_happened_to_a_file_is_told_after_a_restart_too() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    assert!(rig.delete(hash(1)).await);
    rig.store(hash(1), &mut nodes).await;
    let tells_all = |told: &[String]| {
        let of = |what: &str| told.iter().position(|sentence| sentence.contains(what));
        of("it was deleted") < of("made the file") && of("it was deleted").is_some()
    };
    let before = history_of(&rig, hash(1)).await;
    assert!(tells_all(&before), "{before:?}");
    rig.restart().await;
    // It is read while calls are answered already.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let after = history_of(&rig, hash(1)).await;
        if tells_all(&after) {
            break;
        }
        assert!(Instant::now() < until, "{after:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rig.stop().await;
}
