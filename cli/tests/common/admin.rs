//! What an operator does to a cluster, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use richardstore_drills::Http;
use serde_json::Value;

use super::binary;
use super::cluster::Cluster;

/// Runs an admin command against the cluster's namenode: its exit code, and its lines as JSON.
pub async fn admin(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let namenode = cluster.namenode.ready_line().rsplit(' ').next().unwrap();
    let mut command = tokio::process::Command::new(binary());
    command
        .args(["--json", "admin"])
        .args(arguments)
        .args(["--namenode", namenode])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let limit = Duration::from_secs(120);
    let ended = tokio::time::timeout(limit, command.output()).await;
    let output = ended.unwrap().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let values = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), values.collect())
}

/// Nodes that hold each file, less the one of this id.
pub async fn holders_elsewhere(http: &Http, less: &str) -> BTreeMap<String, BTreeSet<String>> {
    let replicas = http.get("/admin/dump/replicas").await.unwrap();
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(replicas.body.to_vec()).unwrap().lines() {
        let replica: Value = serde_json::from_str(line).unwrap();
        let holders = all.entry(replica["hash"].as_str().unwrap().to_owned());
        let holders = holders.or_default();
        let node = replica["node"].as_str().unwrap();
        if node != less {
            holders.insert(node.to_owned());
        }
    }
    all
}
