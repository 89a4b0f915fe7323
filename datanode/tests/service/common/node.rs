//! [`TestNode`]: a real datanode on a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use richardstore_datanode::{Datanode, DatanodeConfig};
use richardstore_proto::{ContentHash, DataNodeInfo, Generation, NodeId, NodeState};
use richardstore_runtime::{Environment, Offload};
use tempfile::TempDir;

use super::fake_namenode::FakeNamenode;
use super::until;

pub struct TestNode {
    pub directory: TempDir,
    pub running: Option<Datanode>,
    namenode: String,
    offload: Offload,
    /// Takes effect at the next start.
    pub scrub_interval: Duration,
}

pub fn config(directory: &Path, namenode: &str) -> DatanodeConfig {
    DatanodeConfig {
        headroom_bytes: 0,
        ..DatanodeConfig::new(directory, "127.0.0.1:0", namenode)
    }
}

impl TestNode {
    /// Starts a datanode and waits until it has joined and made its first full report.
    pub async fn start(namenode: &FakeNamenode) -> Self {
        Self::start_on(namenode, Offload::Threads).await
    }

    /// As [`TestNode::start`], with blocking work where the test wants it.
    pub async fn start_on(namenode: &FakeNamenode, offload: Offload) -> Self {
        let mut node = Self {
            directory: tempfile::tempdir().unwrap(),
            running: None,
            namenode: namenode.address.to_string(),
            offload,
            scrub_interval: Duration::from_secs(3600),
        };
        node.restart().await;
        node.reported(namenode).await;
        node
    }

    /// Starts again what was stopped.
    pub async fn restart(&mut self) {
        let config = DatanodeConfig {
            scrub_interval: self.scrub_interval,
            ..config(self.directory.path(), &self.namenode)
        };
        let environment = Environment {
            offload: self.offload,
            ..Environment::system()
        };
        let started = Datanode::start(config, environment).await;
        self.running = Some(started.unwrap());
    }

    pub async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop(Duration::from_secs(5)).await;
    }

    /// Waits for another full report from now on.
    pub async fn reported(&self, namenode: &FakeNamenode) {
        let before = namenode.view(self.id(), |view| view.full_reports);
        let id = self.id();
        until("a full report", || {
            namenode.view(id, |view| view.full_reports) > before
        })
        .await;
    }

    pub fn id(&self) -> NodeId {
        self.running.as_ref().unwrap().node_id()
    }

    pub fn address(&self) -> String {
        self.running.as_ref().unwrap().address().to_string()
    }

    pub fn info(&self) -> DataNodeInfo {
        DataNodeInfo {
            node_id: self.id(),
            address: self.address(),
            state: NodeState::Live,
            name: String::new(),
            rack: String::new(),
            generation: Generation(0),
        }
    }

    /// The file of a replica, found as a person would find it.
    pub fn replica_file(&self, hash: &ContentHash) -> Option<PathBuf> {
        find(&self.directory.path().join("replicas"), &hash.to_hex())
    }

    /// Names in the directory of unfinished files.
    pub fn temp_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path().join("replicas/temp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    pub fn damage(&self, hash: &ContentHash, at: usize) {
        let path = self.replica_file(hash).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries.into_iter().find_map(|path| match path.is_dir() {
        true if path.file_name().is_some_and(|it| it == "trees") => None,
        true => find(&path, name),
        false => path
            .file_name()
            .is_some_and(|it| it == name)
            .then(|| path.clone()),
    })
}
