//! What operators see and order, from the command line of a running cluster.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::binary;
use common::cluster::Cluster;
use richardstore_drills::{Content, wait_until};
use serde_json::Value;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);

/// The exit code of an `admin` command, and what it printed.
async fn admin(cluster: &Cluster, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary())
        .arg("admin")
        .args(arguments)
        .args(["--namenode", &cluster.namenode_address()])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

/// The lines that a command prints as JSON.
async fn lines(cluster: &Cluster, arguments: &[&str]) -> (i32, Vec<Value>) {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let (code, text) = admin(cluster, &arguments).await;
    let parse = |line| serde_json::from_str(line).unwrap();
    (code, text.lines().map(parse).collect())
}

/// The one file below `root` whose name is `hash`.
fn replica(root: &Path, hash: &str) -> PathBuf {
    let shard = root.join(&hash[..2]);
    shard.join(hash)
}

#[tokio::test]
async fn i05_fsck_finds_what_is_short_and_what_is_wrong_on_the_disks() {
    let flags = ["--repair-bytes-per-second", "0", "--dead-after-ms", "15000"];
    let mut cluster = Cluster::start(3, &flags).await;
    let hash = cluster.http.upload(Content::new(1, 300_000)).await.unwrap();

    let (code, found) = lines(&cluster, &["fsck", "--verify"]).await;
    assert_eq!((code, found.len()), (0, 1), "{found:?}");
    assert_eq!(
        (&found[0]["problems"], &found[0]["files"]),
        (&0.into(), &1.into())
    );
    assert_eq!(found[0]["verified"]["proven"], 3);

    let path = replica(&cluster.replicas(2), &hash);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, found) = lines(&cluster, &["fsck", "--verify"]).await;
    assert_eq!(code, 6, "{found:?}");
    let wrong = found.iter().find(|line| line["state"] == "wrong").unwrap();
    assert_eq!(
        (&wrong["hash"], &wrong["node"]),
        (&hash.clone().into(), &"datanode-2".into())
    );
    assert_eq!(found.last().unwrap()["verified"]["proven"], 2);
    // The datanode tells the namenode, which knows it from then on without reading anything, and has it put aside.
    wait_until("the damage is known", LIMIT, || async {
        lines(&cluster, &["fsck"]).await.0 == 6
    })
    .await
    .unwrap();

    cluster.datanodes[2].take().unwrap().kill().await.unwrap();
    cluster.wait_for_live(2).await;
    wait_until("the node is dead", LIMIT, || async {
        lines(&cluster, &["report"]).await.1[0]["nodes_dead"] == 1
    })
    .await
    .unwrap();
    let (code, found) = lines(&cluster, &["fsck"]).await;
    assert_eq!((code, &found[0]["hash"]), (6, &hash.clone().into()));
    let (code, text) = admin(&cluster, &["why", &hash]).await;
    assert_eq!(code, 0);
    assert!(text.contains("It has 1 of 3 replicas"), "{text}");
    assert!(
        text.contains("Copies are switched off: repair may use 0 bytes a second."),
        "{text}"
    );
    let (code, report) = lines(&cluster, &["report"]).await;
    assert_eq!((code, &report[0]["nodes_dead"]), (0, &1.into()));
    assert_eq!(report[0]["replicas"]["dead"], 1);
    assert_eq!(report[0]["repair"]["bytes_to_copy"], 300_000);
    let (code, text) = admin(&cluster, &["report"]).await;
    assert_eq!(code, 0);
    assert!(text.contains("datanode-3  -     dead"), "{text}");
    cluster.stop().await;
}

#[tokio::test]
async fn i03_why_follows_a_delete_until_the_last_datanode_has_confirmed() {
    let mut cluster = Cluster::start(3, &[]).await;
    let hash = cluster.http.upload(Content::new(2, 1_000)).await.unwrap();
    cluster.datanodes[0].take().unwrap().kill().await.unwrap();
    let path = format!("/files/{hash}");
    let answer = cluster
        .http
        .call(http::Method::DELETE, &path, &[])
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    wait_until("two have confirmed", LIMIT, || async {
        let (_, why) = lines(&cluster, &["why", &hash]).await;
        let waiting = why[0]["planned"].as_array().unwrap().len();
        assert_eq!(why[0]["state"], "deleted");
        waiting == 1
            && why[0]["planned"][0]
                .as_str()
                .unwrap()
                .starts_with("datanode-1 ")
    })
    .await
    .unwrap();
    let spec = &cluster.datanode_specs[0];
    cluster.datanodes[0] = Some(spec.start("listening on").await.unwrap());
    wait_until("nothing is left of it", LIMIT, || async {
        lines(&cluster, &["why", &hash]).await.1[0]["state"] == "unknown"
    })
    .await
    .unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn i05_a_scrub_that_is_asked_for_finds_damage_now() {
    let cluster = Cluster::start(3, &[]).await;
    let hash = cluster.http.upload(Content::new(3, 100_000)).await.unwrap();
    let path = replica(&cluster.replicas(1), &hash);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, _) = admin(&cluster, &["scrub", "--now", "--node", "datanode-1"]).await;
    assert_eq!(code, 0);
    let aside = cluster.replicas(1).join("quarantine");
    wait_until("it is put aside", LIMIT, || async {
        std::fs::read_dir(&aside).is_ok_and(|mut entries| entries.next().is_some())
    })
    .await
    .unwrap();
    let (code, answer) = lines(&cluster, &["repair", "--now"]).await;
    assert_eq!((code, &answer[0]["halted"]), (0, &"".into()));
    wait_until("it is made anew", LIMIT, || async {
        lines(&cluster, &["fsck", "--verify"]).await.0 == 0
    })
    .await
    .unwrap();
    cluster.stop().await;
}
