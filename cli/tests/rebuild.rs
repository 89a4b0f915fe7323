//! I8: the namenode's disk is gone, and files, targets and deletes come back, from a copy or from the datanodes alone.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::binary;
use common::cluster::Cluster;
use richardstore_drills::{Content, Process, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// Fast enough to see a node die within the test, slow enough for a machine that builds beside it.
const QUICK: [&str; 6] = [
    "--heartbeat-interval-ms=200",
    "--stale-after-ms=4000",
    "--dead-after-ms=8000",
    "--repair-bytes-per-second=1GiB",
    "--write-timeout-ms=5000",
    // Copies are taken when the test says so.
    "--copy-interval-ms=3600000",
];

async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    tokio::time::timeout(LIMIT, command.output())
        .await
        .unwrap()
        .unwrap()
}

async fn done(arguments: &[&str]) -> Vec<u8> {
    let output = run(arguments).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {words}");
    output.stdout
}

fn address(process: &Process) -> String {
    process.ready_line().rsplit(' ').next().unwrap().to_owned()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A dump byte by byte, in the form that a failed comparison prints best.
fn raw_lines(bytes: &[u8]) -> Vec<&str> {
    std::str::from_utf8(bytes).unwrap().split('\n').collect()
}

/// What of a file has to come back: all but when it was made, which a replica does not say.
fn files(bytes: &[u8]) -> BTreeMap<String, String> {
    let without_time = |mut file: Value| {
        let fields = file.as_object_mut().unwrap();
        fields.remove("created_ms");
        (
            fields["hash"].as_str().unwrap().to_owned(),
            file.to_string(),
        )
    };
    lines(bytes).into_iter().map(without_time).collect()
}

/// Hash, generation and holders of each tombstone.
fn tombstones(bytes: &[u8]) -> BTreeSet<(String, u64, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tombstone = |line: &Value| {
        let holders = line["holders"].as_array().unwrap();
        (
            text(&line["hash"]),
            line["generation"].as_u64().unwrap(),
            holders.iter().map(|holder| text(&holder["node"])).collect(),
        )
    };
    lines(bytes).iter().map(tombstone).collect()
}

async fn live(cluster: &Cluster, table: &str) -> Vec<u8> {
    let namenode = address(&cluster.namenode);
    done(&["admin", "dump", "--table", table, "--namenode", &namenode]).await
}

async fn live_all(cluster: &Cluster) -> Vec<u8> {
    let namenode = address(&cluster.namenode);
    done(&["admin", "dump", "--all", "--namenode", &namenode]).await
}

async fn offline(dir: &Path, table: &str) -> Vec<u8> {
    let db = dir.join("metadata.redb").display().to_string();
    done(&["admin", "dump", "--table", table, "--db", &db]).await
}

async fn offline_all(dir: &Path) -> Vec<u8> {
    let db = dir.join("metadata.redb").display().to_string();
    done(&["admin", "dump", "--all", "--db", &db]).await
}

async fn upload(cluster: &Cluster, seed: u64) -> (String, Content) {
    let content = Content::new(seed, 1_000 + 700 * seed);
    (cluster.http.upload(content).await.unwrap(), content)
}

async fn delete(cluster: &Cluster, hash: &str) {
    let path = format!("/files/{hash}");
    let answer = cluster
        .http
        .call(http::Method::DELETE, &path, &[])
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
}

/// Waits until `ready` holds of the dump of a table.
async fn wait_for(cluster: &Cluster, what: &str, table: &str, ready: impl Fn(&[u8]) -> bool) {
    let waited = wait_until(what, LIMIT, || async { ready(&live(cluster, table).await) }).await;
    if let Err(error) = waited {
        let last = String::from_utf8(live(cluster, table).await).unwrap();
        panic!("{error:#}; the last dump of {table}:\n{last}");
    }
}

/// Every file has all its replicas: on a slow disk a file is acknowledged with two, and the third is reported later.
async fn wait_until_settled(cluster: &Cluster) {
    let nodes = cluster.datanodes.len();
    wait_for(cluster, "all replicas", "files", |dump| {
        let replicas = |file: &Value| file["replicas"].as_array().unwrap().len();
        lines(dump).iter().all(|file| replicas(file) == nodes)
    })
    .await;
    wait_for(cluster, "no writes in flight", "writes", <[u8]>::is_empty).await;
    wait_for(cluster, "no commands", "commands", <[u8]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_the_same_from_a_running_namenode_and_from_the_file_of_one_that_was_killed() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    for seed in 1..=12 {
        let (hash, _) = upload(&cluster, seed).await;
        if seed % 4 == 0 {
            delete(&cluster, &hash).await;
        }
    }
    wait_until_settled(&cluster).await;
    // A third replica may still be reported between the last dump and the kill. Nobody is left to report it, and when
    // nobody is live what was said before has been taken in.
    for datanode in &mut cluster.datanodes {
        datanode.take().unwrap().kill().await.unwrap();
    }
    cluster.wait_for_live(0).await;
    let mut before = live_all(&cluster).await;
    loop {
        let again = live_all(&cluster).await;
        if again == before {
            break;
        }
        before = again;
    }
    let files_before = live(&cluster, "files").await;
    let dir = cluster.directory.path().join("namenode");
    let (busy, db) = (dir.join("metadata.redb").display().to_string(), dir.clone());
    let refused = run(&["admin", "dump", "--all", "--db", &busy]).await;
    assert_eq!(refused.status.code(), Some(24), "it is in use");
    cluster.namenode.kill().await.unwrap();

    let bytes = std::fs::read(db.join("metadata.redb")).unwrap();
    assert_eq!(raw_lines(&offline_all(&db).await), raw_lines(&before));
    assert_eq!(
        raw_lines(&offline(&db, "files").await),
        raw_lines(&files_before)
    );
    let unchanged = std::fs::read(db.join("metadata.redb")).unwrap() == bytes;
    assert!(unchanged, "a dump does not write");

    let dump = cluster.directory.path().join("all.ndjson");
    std::fs::write(&dump, &before).unwrap();
    let loaded = cluster.directory.path().join("loaded");
    let (dump, into) = (dump.display().to_string(), loaded.display().to_string());
    done(&["admin", "load", &dump, "--dir", &into]).await;
    assert_eq!(raw_lines(&offline_all(&loaded).await), raw_lines(&before));
    let again = run(&["admin", "restore", &dump, "--dir", &into]).await;
    assert_eq!(again.status.code(), Some(23), "it is not empty");
}

/// A cluster that lost its namenode, and what was known of it.
struct Lost {
    cluster: Cluster,
    kept: Vec<(String, Content)>,
    deleted: Vec<String>,
    files: BTreeMap<String, String>,
    tombstones: BTreeSet<(String, u64, Vec<String>)>,
    copy: String,
}

impl Lost {
    /// Files from before and after a copy of the metadata, and deletes of each, all while datanode 3 was away.
    async fn start() -> Self {
        let mut cluster = Cluster::start(3, &QUICK).await;
        let mut kept = Vec::new();
        for seed in 1..=10 {
            kept.push(upload(&cluster, seed).await);
        }
        wait_until_settled(&cluster).await;
        cluster.datanodes[2].take().unwrap().kill().await.unwrap();
        cluster.wait_for_live(2).await;
        let mut deleted = vec![kept.remove(0).0];
        delete(&cluster, &deleted[0]).await;
        let namenode = address(&cluster.namenode);
        let taken = done(&["--json", "admin", "backup", "--namenode", &namenode]).await;
        let taken = &lines(&taken)[0];
        assert_eq!(taken["stored"], true, "{taken}");
        let copy = cluster.directory.path().join("copy.ndjson");
        std::fs::copy(taken["path"].as_str().unwrap(), &copy).unwrap();
        // After the copy: three files come, one of them goes, and one that the copy knows.
        for seed in 11..=13 {
            kept.push(upload(&cluster, seed).await);
        }
        for at in [0, kept.len() - 2] {
            let hash = kept.remove(at).0;
            delete(&cluster, &hash).await;
            deleted.push(hash);
        }
        wait_for(
            &cluster,
            "deletes done where a node is",
            "tombstones",
            |dump| {
                let open = tombstones(dump);
                open.len() == 2 && open.iter().all(|(_, _, holders)| holders.len() == 1)
            },
        )
        .await;
        wait_for(&cluster, "no writes in flight", "writes", <[u8]>::is_empty).await;
        let before = live(&cluster, "files").await;
        let mut open = tombstones(&live(&cluster, "tombstones").await);
        // Those that wait for the node that is away. A report of the third file that comes when its delete is done has it deleted once more,
        // which may be seen here or not.
        open.retain(|(hash, _, _)| deleted[..2].contains(hash));
        let mut lost = Self {
            cluster,
            kept,
            deleted,
            files: files(&before),
            tombstones: open,
            copy: copy.display().to_string(),
        };
        lost.lose_namenode().await;
        lost
    }

    fn dir(&self) -> std::path::PathBuf {
        self.cluster.directory.path().join("namenode")
    }

    async fn lose_namenode(&mut self) {
        // Any other process takes its place until the next start.
        let gone = std::mem::replace(&mut self.cluster.namenode, {
            let path = self.cluster.directory.path();
            let dir = path.join("placeholder").display().to_string();
            let arguments = ["namenode", "--dir", &dir, "--listen", "127.0.0.1:0"];
            let spec = common::process(path, "placeholder", &arguments);
            spec.start("listening on").await.unwrap()
        });
        gone.kill().await.unwrap();
        std::fs::remove_dir_all(self.dir()).unwrap();
    }

    async fn start_namenode(&mut self) {
        let started = self.cluster.namenode_spec.start("listening on").await;
        let placeholder = std::mem::replace(&mut self.cluster.namenode, started.unwrap());
        placeholder.kill().await.unwrap();
    }

    fn datanodes(&self) -> String {
        let running = self.cluster.datanodes.iter().flatten();
        running.map(address).collect::<Vec<_>>().join(",")
    }

    /// Starts the namenode that was rebuilt, and what [`Lost::finish_running`] does.
    async fn finish(mut self) {
        self.start_namenode().await;
        self.finish_running().await;
    }

    /// Starts the datanode that was away, and checks that everything is as it was.
    async fn finish_running(mut self) {
        self.cluster.datanodes[2] = Some(
            self.cluster.datanode_specs[2]
                .start("listening on")
                .await
                .unwrap(),
        );
        self.cluster.wait_for_live(3).await;
        for (hash, content) in &self.kept {
            let read = self.cluster.http.download_matches(hash, *content).await;
            assert_eq!(read.unwrap(), Some(true), "{hash}");
        }
        wait_for(
            &self.cluster,
            "no tombstones",
            "tombstones",
            <[u8]>::is_empty,
        )
        .await;
        wait_until("every replica of a deleted file is gone", LIMIT, || async {
            let held = live(&self.cluster, "replicas").await;
            let held = String::from_utf8(held).unwrap();
            let known = self.deleted.iter().any(|hash| held.contains(hash.as_str()));
            let there = (1..=3).any(|node| {
                let root = self.cluster.replicas(node);
                let path = |hash: &String| root.join(&hash[..2]).join(hash);
                self.deleted.iter().any(|hash| path(hash).exists())
            });
            !known && !there
        })
        .await
        .unwrap();
        for hash in &self.deleted {
            let path = format!("/files/{hash}");
            assert_eq!(self.cluster.http.get(&path).await.unwrap().status, 404);
        }
        let after = files(&live(&self.cluster, "files").await);
        assert_eq!(
            after.keys().collect::<Vec<_>>(),
            self.files.keys().collect::<Vec<_>>()
        );
        self.cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i08_i03_a_namenode_is_rebuilt_from_a_copy_and_deleted_files_stay_deleted() {
    let mut lost = Lost::start().await;
    let dir = lost.dir().display().to_string();
    done(&["namenode", "rebuild", "--dir", &dir, "--copy", &lost.copy]).await;
    lost.start_namenode().await;
    // The datanodes tell of the rest.
    let expected = lost.files.clone();
    wait_for(&lost.cluster, "the files of before", "files", |dump| {
        files(dump) == expected
    })
    .await;
    let expected = lost.tombstones.clone();
    wait_for(
        &lost.cluster,
        "the deletes of before",
        "tombstones",
        |dump| tombstones(dump) == expected,
    )
    .await;
    lost.finish_running().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i08_i03_a_namenode_is_rebuilt_from_its_datanodes_and_deleted_files_stay_deleted() {
    let lost = Lost::start().await;
    let datanodes = lost.datanodes();
    let (dir, other) = (lost.dir(), lost.cluster.directory.path().join("other"));
    let (into, into_other) = (dir.display().to_string(), other.display().to_string());
    // With the newest copy that they know, read from the store.
    let from = ["--from-datanodes", &datanodes];
    let mut rebuild = vec!["--json", "namenode", "rebuild", "--dir", &into_other];
    rebuild.extend(from);
    let told = lines(&done(&rebuild).await);
    assert!(
        told[0]["base"]
            .as_str()
            .unwrap()
            .ends_with("from the store")
    );
    assert_eq!(files(&offline(&other, "files").await), lost.files);
    // And with nothing else.
    let mut rebuild = vec!["namenode", "rebuild", "--ignore-copies", "--dir", &into];
    rebuild.extend(from);
    done(&rebuild).await;
    let alone = files(&offline(&dir, "files").await);
    assert_eq!(
        alone.keys().collect::<Vec<_>>(),
        lost.files.keys().collect::<Vec<_>>()
    );
    let again = run(&rebuild).await;
    assert_eq!(again.status.code(), Some(23), "it is not empty");
    lost.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i08_a_rebuild_refuses_while_a_namenode_answers() {
    let cluster = Cluster::start(2, &QUICK).await;
    let (hash, _) = upload(&cluster, 1).await;
    let dir = cluster.directory.path().join("second");
    let into = dir.display().to_string();
    let datanode = address(cluster.datanodes[0].as_ref().unwrap());
    let rebuild = [
        "namenode",
        "rebuild",
        "--dir",
        &into,
        "--from-datanodes",
        &datanode,
    ];
    let refused = run(&rebuild).await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("answers"), "{words}");
    assert!(!dir.join("metadata.redb").exists());
    assert_eq!(
        cluster
            .http
            .get(&format!("/files/{hash}"))
            .await
            .unwrap()
            .status,
        200
    );
    cluster.stop().await;
}
