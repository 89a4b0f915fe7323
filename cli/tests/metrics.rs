//! What all roles count, compared with the page that describes it, and a request followed through the logs.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::{Dev, process};
use richardstore_drills::{Content, Http, Process, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const PAGE: &str = include_str!("../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../k8s/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../k8s/alerts.yaml");
const LIMIT: Duration = Duration::from_secs(60);

async fn start(directory: &Path, name: &str, arguments: &[&str]) -> (Process, Value) {
    let mut all = vec!["--json"];
    all.extend(arguments);
    all.extend(["--listen", "127.0.0.1:0"]);
    let started = process(directory, name, &all).start("listening").await;
    let started = started.unwrap();
    let ready = serde_json::from_str(started.ready_line()).unwrap();
    (started, ready)
}

fn http(ready: &Value, field: &str) -> Http {
    Http::new(&format!("http://{}", ready[field].as_str().unwrap()))
}

async fn families(http: &Http) -> BTreeSet<String> {
    let answer = http.get("/metrics").await.unwrap();
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

/// Every word in `text` that begins as the name of a metric does, without what a histogram adds to it.
fn names(text: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words
        .filter(|word| {
            let roles = ["gateway_", "namenode_", "datanode_"];
            let rest = word.strip_prefix("richardstore_");
            rest.is_some_and(|rest| roles.iter().any(|role| rest.starts_with(role)))
        })
        .map(|word| {
            let ends = ["_bucket", "_sum", "_count"];
            let bare = ends.iter().find_map(|end| word.strip_suffix(end));
            let bare = bare.filter(|bare| known.contains(*bare));
            bare.unwrap_or(word).to_owned()
        })
        .collect()
}

#[tokio::test]
async fn every_metric_is_described_and_every_name_that_is_used_exists() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path();
    let dir = |name: &str| path.join(name).display().to_string();
    let metrics = ["--metrics-listen", "127.0.0.1:0"];
    let (nn_dir, dn_dir) = (dir("namenode"), dir("datanode"));
    let (namenode, nn) = start(
        path,
        "namenode",
        &[&["namenode", "--dir", &nn_dir][..], &metrics].concat(),
    )
    .await;
    let address = nn["listening"].as_str().unwrap();
    let of_datanode = ["datanode", "--dir", &dn_dir, "--namenode", address];
    let (datanode, dn) = start(path, "datanode", &[&of_datanode[..], &metrics].concat()).await;
    let (gateway, gw) = start(path, "gateway", &["gateway", "--namenode", address]).await;
    let (nn, dn, gw) = (
        http(&nn, "metrics"),
        http(&dn, "metrics"),
        http(&gw, "listening"),
    );
    for role in [&nn, &dn, &gw] {
        wait_until("it is ready", LIMIT, || async {
            role.get("/readyz")
                .await
                .is_ok_and(|answer| answer.status == 200)
        })
        .await
        .unwrap();
        assert_eq!(role.get("/healthz").await.unwrap().status, 200);
    }
    let content = Content::new(1, 100_000);
    let hash = gw.upload(content).await.unwrap();
    assert_eq!(
        gw.download_matches(&hash, content).await.unwrap(),
        Some(true)
    );

    let mut shown = BTreeSet::new();
    for role in [&nn, &dn, &gw] {
        shown.extend(families(role).await);
    }
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let described: BTreeSet<String> = rows
        .filter_map(|row| row.split('`').next())
        .filter(|name| name.starts_with("richardstore_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(shown, described);
    for used in [DASHBOARD, ALERTS] {
        let used = names(used, &shown);
        assert!(used.len() > 10);
        assert!(used.is_subset(&shown), "{:?}", used.difference(&shown));
    }

    let text = dn.get("/metrics").await.unwrap().body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "richardstore_datanode_received_bytes_total 100000",
        "richardstore_datanode_sent_bytes_total 100000",
        "richardstore_datanode_replicas 1",
        "richardstore_datanode_requests_total{method=\"WriteFile\",code=\"ok\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    // Without its namenode a datanode cannot do all of its work, and says so; it is alive.
    let limit = Duration::from_secs(10);
    assert!(gateway.terminate(limit).await.unwrap().success());
    assert!(namenode.terminate(limit).await.unwrap().success());
    assert_eq!(dn.get("/healthz").await.unwrap().status, 200);
    assert!(datanode.terminate(limit).await.unwrap().success());
}

#[tokio::test]
async fn one_request_id_is_in_the_logs_from_the_gateway_to_the_last_datanode() {
    let filter = "info,richardstore_gateway=debug,richardstore_datanode=debug";
    let more = ["--log", filter, "--log-format", "json"];
    let dev = Dev::start_with(&more).await;
    let id = [("x-request-id", "follow-me-7")];
    let body = Content::new(5, 200_000).bytes();
    let answer = dev
        .http
        .send(http::Method::POST, "/files", &id, body)
        .await
        .unwrap();
    assert_eq!(answer.status, 201);
    let hash = answer.json().unwrap()["hash"].as_str().unwrap().to_owned();
    let path = format!("/files/{hash}");
    let read = dev
        .http
        .call(http::Method::GET, &path, &[("x-request-id", "read-me-8")])
        .await;
    assert_eq!(read.unwrap().status, 200);
    let count = |id: &str, words: &str| {
        let log = dev.spec.log_text();
        let lines = log.lines().filter(|line| line.contains(id));
        let of_words = lines.filter(|line| {
            let parsed: Value = serde_json::from_str(line).unwrap();
            parsed["message"] == words
        });
        of_words.count()
    };
    wait_until("all have logged it", LIMIT, || async {
        count("follow-me-7", "a write has ended") == 3
            && count("follow-me-7", "answered") == 1
            && count("read-me-8", "a read begins") >= 1
            && count("read-me-8", "answered") == 1
    })
    .await
    .unwrap();
}
