//! Every role as a process of its own, and one of them killed at a bad moment.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::cluster::Cluster;
use richardstore_drills::{Content, inspect_tree, wait_until};
use tokio::task::JoinSet;

const NODES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i02_a_datanode_killed_in_mid_upload_means_success_or_a_clean_503_and_no_ghost() {
    let mut cluster = Cluster::start(NODES, &[]).await;
    let steady = Content::new(1, 400_000);
    let steady_hash = cluster.http.upload(steady).await.unwrap();

    let mut uploads = JoinSet::new();
    for seed in 0..12 {
        let (http, content) = (cluster.http.clone(), Content::new(100 + seed, 24 << 20));
        uploads.spawn(async move { (content, http.upload(content).await) });
    }
    // In mid-upload: a temp file has begun to grow on the node that is about to die.
    let temporary = cluster.directory.path().join("datanode-2/replicas/temp");
    wait_until("an upload under way", Duration::from_secs(30), || async {
        std::fs::read_dir(&temporary)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.metadata().is_ok_and(|data| data.len() > 1 << 20))
    })
    .await
    .unwrap();
    cluster.datanodes[1].take().unwrap().kill().await.unwrap();

    let (mut whole, mut refused) = (0, 0);
    let mut outcomes = Vec::new();
    while let Some(upload) = uploads.join_next().await {
        // Reads go on throughout.
        let steady_read = cluster.http.download_matches(&steady_hash, steady).await;
        assert_eq!(steady_read.unwrap(), Some(true));
        let (content, answer) = upload.unwrap();
        match answer {
            Ok(hash) => {
                whole += 1;
                outcomes.push((hash, content, Some(true)));
            }
            Err(error) => {
                assert!(error.to_string().contains("503"), "{error:#}");
                refused += 1;
                outcomes.push((content.hash(), content, None));
            }
        }
    }
    println!("datanode killed in mid-upload: {whole} succeeded, {refused} refused with 503");
    for (hash, content, expected) in &outcomes {
        let found = cluster.http.download_matches(hash, *content).await.unwrap();
        assert_eq!(found, *expected, "{hash}");
    }

    let spec = &cluster.datanode_specs[1];
    cluster.datanodes[1] = Some(spec.start("listening on").await.unwrap());
    cluster.wait_for_live(NODES).await;
    // Refused uploads leave nothing: their replicas are deleted by command, on the returned node too.
    let acknowledged: Vec<String> = outcomes
        .iter()
        .filter(|(_, _, expected)| expected.is_some())
        .map(|(hash, ..)| hash.clone())
        .chain([steady_hash])
        .collect();
    let directory = cluster.directory.path().to_owned();
    wait_until("no ghost on any node", Duration::from_secs(90), || async {
        (1..=NODES).all(|node| {
            inspect_tree(&directory.join(format!("datanode-{node}/replicas"))).is_ok_and(|found| {
                found
                    .replicas
                    .iter()
                    .all(|hash| acknowledged.contains(hash))
                    && found.temporary.is_empty()
            })
        })
    })
    .await
    .unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i07_datanodes_outlive_a_namenode_outage_and_take_part_again_by_themselves() {
    let mut cluster = Cluster::start(NODES, &[]).await;
    let before = Content::new(1, 70_000);
    let hash = cluster.http.upload(before).await.unwrap();
    cluster.namenode.kill().await.unwrap();
    let info = cluster.http.get("/info").await.unwrap().json().unwrap();
    assert_eq!(info["status"], "unavailable");
    let refused = cluster.http.get(&format!("/files/{hash}")).await.unwrap();
    assert_eq!(refused.status.as_u16(), 503);
    cluster.namenode = cluster.namenode_spec.start("listening on").await.unwrap();
    cluster.wait_for_live(NODES).await;
    let found = cluster.http.download_matches(&hash, before).await.unwrap();
    assert_eq!(found, Some(true));
    let after = Content::new(2, 70_000);
    let hash = cluster.http.upload(after).await.unwrap();
    let found = cluster.http.download_matches(&hash, after).await.unwrap();
    assert_eq!(found, Some(true));
    cluster.stop().await;
}
