//! Small replicas that are copied, several in a message, over real sockets and real directories.

use std::collections::BTreeSet;
use std::fs;

use crate::common::fake_namenode::FakeNamenode;
use crate::common::node::TestNode;
use crate::common::until;
use crate::common::writes::{content, copy, put};
use futures_util::future::join_all;
use richardstore_proto::{ErrorCode, MAX_WHOLE_BYTES};

#[tokio::test]
async fn i05_small_copies_keep_bytes_and_generation_and_the_damaged_one_fails_alone() {
    let namenode = FakeNamenode::start().await;
    let source = TestNode::start(&namenode).await;
    let targets = [
        TestNode::start(&namenode).await,
        TestNode::start(&namenode).await,
    ];
    let lengths = [0, 1, 4096, MAX_WHOLE_BYTES, MAX_WHOLE_BYTES + 1];
    let (mut contents, mut hashes) = (Vec::new(), Vec::new());
    for (seed, length) in (1..).zip(lengths.iter().cycle().take(40)) {
        let bytes = match length {
            0 => Vec::new(),
            length => content(seed, *length),
        };
        hashes.push(put(&source, u64::from(seed), &bytes).await);
        contents.push(bytes);
    }
    let damaged = 2;
    source.damage(&hashes[damaged], 99);
    let copies = hashes.iter().map(|hash| copy(&source, hash, &targets));
    let results = join_all(copies).await;
    for (place, result) in results.into_iter().enumerate() {
        if place == damaged {
            assert_eq!(result.unwrap_err().code, ErrorCode::Corrupt);
            continue;
        }
        let acknowledged = result.unwrap().acknowledged;
        assert_eq!(acknowledged, targets.each_ref().map(TestNode::id));
        for target in &targets {
            let path = target.replica_file(&hashes[place]).unwrap();
            assert_eq!(fs::read(path).unwrap(), contents[place]);
        }
    }
    let sound = hashes.iter().collect::<BTreeSet<_>>().len() - 1;
    for target in &targets {
        assert_eq!(target.replica_file(&hashes[damaged]), None);
        until("the copies are reported as what they were", || {
            let held = namenode.replicas(target.id());
            held.len() == sound && held.get(&hashes[3]).map(|generation| generation.0) == Some(4)
        })
        .await;
    }
}
