//! The datanode's calls with messages that mean nothing: nothing panics, nothing is left behind, and no file outside of the store is
//! touched (FAULTS 45).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::fake_namenode::{CLUSTER, FakeNamenode};
use crate::common::node::TestNode;
use crate::common::until;
use crate::common::writes::{connect, content, put, read, trailer_of};
use bytes::Bytes;
use prost::Message;
use richardstore_fuzz::{count_panics, fuzz, message, mutated, mutated_of};
use richardstore_proto::wire;
use richardstore_proto::wire::data_node_admin_client::DataNodeAdminClient;
use richardstore_proto::wire::data_node_inventory_client::DataNodeInventoryClient;
use richardstore_proto::{Blake3Root, Generation, WholeFile, WholeFiles, WriteTrailer};
use richardstore_runtime::{Channels, tcp_dial};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// No call takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Every file below `directory` that is not the index's, nor the scrub's, which notes now and then how far it is.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            match entry.file_type() {
                _ if name == "index" || name == "scrub.json" || name == "scrub.json.new" => {}
                Ok(kind) if kind.is_dir() => waiting.push(path),
                _ => drop(found.insert(path)),
            }
        }
    }
    found
}

async fn call_all(node: &TestNode, messages: &[Vec<u8>]) {
    let mut client = connect(node);
    let parts = messages
        .iter()
        .filter_map(|bytes| wire::WriteFileRequestPart::decode(&bytes[..]).ok());
    let parts: Vec<_> = parts.collect();
    let written = timeout(LIMIT, client.write_file(tokio_stream::iter(parts))).await;
    // Nothing that has no trailer with the right hash is a file.
    assert!(written.expect("an answer").is_err());
    let channel = Channels::new(tcp_dial()).get(&node.address()).unwrap();
    let mut admin = DataNodeAdminClient::new(channel.clone());
    let mut inventory = DataNodeInventoryClient::new(channel);
    for bytes in messages {
        if let Ok(request) = wire::ReadReplicaRequest::decode(&bytes[..]) {
            let answer = timeout(LIMIT, client.read_file(request)).await;
            drop(answer.expect("an answer"));
        }
        if let Ok(request) = wire::ReadFilesRequest::decode(&bytes[..]) {
            let answer = timeout(LIMIT, client.read_files(request)).await;
            drop(answer.expect("an answer"));
        }
        if let Ok(request) = wire::WriteFilesRequest::decode(&bytes[..]) {
            let answer = timeout(LIMIT, client.write_files(request)).await;
            if let Ok(answer) = answer.expect("an answer") {
                let results = answer.into_inner().results;
                assert!(results.iter().all(|result| result.written.is_none()));
            }
        }
        if let Ok(request) = wire::CopyFileRequest::decode(&bytes[..]) {
            let answer = timeout(LIMIT, client.copy_file(request)).await;
            assert!(answer.expect("an answer").is_err());
        }
        if let Ok(request) = wire::ProveReplicaRequest::decode(&bytes[..]) {
            let answer = timeout(LIMIT, admin.prove_replica(request)).await;
            drop(answer.expect("an answer"));
        }
        if let Ok(request) = wire::InventoryRequest::decode(&bytes[..]) {
            let answer = timeout(LIMIT, inventory.inventory(request)).await;
            drop(answer.expect("an answer"));
        }
    }
}

/// A message with small files that are not quite what it says.
fn nearly_whole() -> Vec<u8> {
    let file = |text: &'static [u8]| {
        let trailer = trailer_of(text);
        WholeFile {
            generation: Generation(9),
            request_id: "fuzz".to_owned(),
            data: Bytes::from_static(text),
            trailer: WriteTrailer {
                blake3_root: Blake3Root::new([7; 32]),
                ..trailer
            },
        }
    };
    let whole = WholeFiles {
        chain: Vec::new(),
        cluster_id: CLUSTER,
        files: vec![file(b"one"), file(b"two")],
        copies: false,
    };
    wire::WriteFilesRequest::from(whole).encode_to_vec()
}

/// Bytes of a part of a write: a header, a chunk or a trailer of what another message says.
fn parts() -> impl proptest::strategy::Strategy<Value = Vec<Vec<u8>>> {
    use proptest::strategy::Strategy;
    let part = (1..4_u8, mutated_of(message())).prop_map(|(number, inner)| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend_from_slice(&inner);
        bytes
    });
    let any = proptest::prop_oneof![
        2 => part,
        1 => mutated_of(message()),
        2 => mutated(nearly_whole()),
    ];
    proptest::collection::vec(any, 0..5)
}

#[test]
fn i05_no_call_makes_the_datanode_panic_or_leave_its_directory() {
    let (runtime, panics) = (Runtime::new().unwrap(), count_panics());
    let (_namenode, node, hash) = runtime.block_on(async {
        let namenode = FakeNamenode::start().await;
        let node = TestNode::start(&namenode).await;
        let hash = put(&node, 1, &content(1, 100_000)).await;
        (namenode, node, hash)
    });
    let before = files(node.directory.path());
    fuzz("calls to a datanode", 150, &parts(), |messages| {
        runtime.block_on(call_all(&node, &messages));
        assert_eq!(panics.load(Ordering::SeqCst), 0);
    });
    runtime.block_on(async {
        let changed = || {
            let now = files(node.directory.path());
            before.symmetric_difference(&now).cloned().collect()
        };
        let mut left: Vec<PathBuf> = changed();
        until("nothing of it is left", || {
            let before = std::mem::replace(&mut left, changed());
            if before != left {
                eprintln!("not as it was: {left:?}");
            }
            left.is_empty()
        })
        .await;
        let (bytes, ended) = read(&node, &hash, 0, 0).await;
        assert_eq!((bytes, ended), (content(1, 100_000), Ok(())));
    });
}
