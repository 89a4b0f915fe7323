//! The cluster's figures, health, metrics, CORS, and the description of it all.

use std::time::Duration;

use crate::http::{Connection, PATIENCE, Served};
use futures_util::future::join_all;
use richardstore_client::{Client, ClientConfig};
use richardstore_gateway::{Gateway, GatewayConfig, GatewayError};
use richardstore_runtime::Environment;

#[tokio::test]
async fn info_is_true_with_and_without_a_namenode() {
    let served = Served::start().await;
    served.cluster.with_file(&b"abc"[..]);
    let json = served.get("/info").await.json();
    assert_eq!(json["service"], "Distributed File System");
    assert_eq!(json["status"], "running");
    assert_eq!(json["namenode"], served.cluster.address.to_string());
    assert_eq!(
        (&json["files"], &json["nodes"]["live"]),
        (&1.into(), &1.into())
    );

    let away = Served::start_with(|config| config.namenode = "127.0.0.1:1".into()).await;
    let reply = away.get("/info").await;
    assert_eq!(reply.status, 200);
    let json = reply.json();
    assert_eq!(
        (&json["status"], &json["namenode"]),
        (&"unavailable".into(), &"127.0.0.1:1".into())
    );
    assert!(!json["reason"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_namenode_everything_else_is_a_503_and_the_process_is_alive() {
    let away = Served::start_with(|config| config.namenode = "127.0.0.1:1".into()).await;
    let asked = [
        ("GET", "/files"),
        ("GET", "/nodes"),
        ("GET", "/readyz"),
        ("GET", "/admin/dump/files"),
        ("POST", "/files"),
    ]
    .map(|(method, path)| away.send(method, path, &[], b"abc"));
    for reply in join_all(asked).await {
        reply.assert_error(503, "unavailable");
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(away.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn ready_is_when_a_write_can_be_placed() {
    let served = Served::start().await;
    assert_eq!(served.get("/readyz").await.status, 200);
    served.cluster.state().nodes_dead = 2;
    served.get("/readyz").await.assert_error(503, "unavailable");
}

#[tokio::test]
async fn nodes_and_tables_are_shown() {
    let served = Served::start().await;
    let nodes = served.get("/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["name"], "datanode-1");
    let dump = served.get("/admin/dump/files").await;
    assert_eq!(
        dump.header("content-type").as_deref(),
        Some("application/x-ndjson")
    );
    assert_eq!(dump.body, b"{\"hash\":1}\n{\"hash\":2}\n");
    let empty = served.get("/admin/dump/tombstones").await;
    assert_eq!(
        (empty.status, empty.body.len(), empty.broken),
        (200, 0, false)
    );
    for table in ["nonsense", "..%2Ffiles", "FILES", "%00"] {
        let reply = served.get(&format!("/admin/dump/{table}")).await;
        reply.assert_error(404, "not_found");
    }
}

#[tokio::test]
async fn the_report_and_the_reasons_are_shown() {
    let served = Served::start().await;
    let report = served.get("/admin/report").await.json();
    assert_eq!(
        (&report["status"], &report["files"]),
        (&"running".into(), &7.into())
    );
    assert_eq!(report["replicas"]["dead"], 3);
    assert_eq!(report["repair"]["copy_seconds"], 60);
    let hash = "1".repeat(64);
    let why = served.get(&format!("/admin/why/{hash}")).await.json();
    assert_eq!(
        (&why["hash"], &why["state"]),
        (&hash.into(), &"unknown".into())
    );
    assert_eq!(why["next"][0], "Nothing.");
    assert!(why["file"].is_null() && why["deleted_ms"].is_null());
    let reply = served.get("/admin/why/nonsense").await;
    reply.assert_error(400, "invalid_argument");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_errors() {
    let served = Served::start().await;
    for path in ["/nonsense", "/files/", "/files/a/b/c", "/%00", "//"] {
        served.get(path).await.assert_error(404, "not_found");
    }
    let reply = served.send("DELETE", "/upload", &[], b"").await;
    reply.assert_error(405, "method_not_allowed");
    assert_eq!(reply.header("allow").as_deref(), Some("POST"));
    let reply = served.send("BREW", "/info", &[], b"").await;
    reply.assert_error(405, "method_not_allowed");
}

#[tokio::test]
async fn the_description_has_every_method_of_every_path() {
    let served = Served::start().await;
    let description = served.get("/openapi.json").await.json();
    assert_eq!(description["openapi"], "3.1.0");
    for (path, item) in description["paths"].as_object().unwrap() {
        let filled = path
            .replace("{hash}", &"0".repeat(64))
            .replace("{table}", "files");
        let reply = served.send("BREW", &filled, &[], b"").await;
        reply.assert_error(405, "method_not_allowed");
        let allow = reply.header("allow").unwrap();
        let mut allowed: Vec<String> = allow.split(',').map(str::to_lowercase).collect();
        let mut described: Vec<String> = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
            .cloned()
            .collect();
        // Every GET is answered to HEAD; it is described where it says something of its own.
        allowed.retain(|method| method != "head" || described.contains(method));
        allowed.sort();
        described.sort();
        assert_eq!(allowed, described, "{path}");
    }
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let served = Served::start().await;
    served.send("POST", "/files", &[], &[7; 100_000]).await;
    served.get("/nonsense").await;
    let reply = served.get("/metrics").await;
    let text = String::from_utf8(reply.body.clone()).unwrap();
    for line in [
        "richardstore_gateway_requests_total{route=\"/files\",method=\"POST\",status=\"201\"} 1",
        "richardstore_gateway_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "richardstore_gateway_request_duration_seconds_count{route=\"/files\"} 1",
        "richardstore_gateway_aborted_responses_total 0",
        "richardstore_gateway_panics_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let received = text
        .lines()
        .find_map(|line| line.strip_prefix("richardstore_gateway_received_bytes_total "))
        .unwrap();
    assert!(received.parse::<u64>().unwrap() > 100_000);
}

#[tokio::test]
async fn a_request_id_is_taken_or_made() {
    let served = Served::start().await;
    let kept = served
        .send("GET", "/healthz", &["X-Request-Id: a.b-c_1"], b"")
        .await;
    assert_eq!(kept.header("x-request-id").as_deref(), Some("a.b-c_1"));
    let made = served
        .send("GET", "/nonsense", &["X-Request-Id: a b"], b"")
        .await;
    assert_eq!(made.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn other_origins_are_let_in_only_when_configured() {
    let origin = "Origin: https://example.org";
    let closed = Served::start().await;
    let reply = closed.send("GET", "/info", &[origin], b"").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let open = Served::start_with(|config| {
        config.cors_origins = vec!["https://example.org".into()];
    })
    .await;
    let reply = open.send("GET", "/info", &[origin], b"").await;
    let allowed = reply.header("access-control-allow-origin");
    assert_eq!(allowed.as_deref(), Some("https://example.org"));
    let other = open
        .send("GET", "/info", &["Origin: https://evil.example"], b"")
        .await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    let preflight = ["Access-Control-Request-Method: PUT", origin];
    let reply = open.send("OPTIONS", "/files/x", &preflight, b"").await;
    assert_eq!(reply.status, 200);
    assert!(
        reply
            .header("access-control-allow-methods")
            .unwrap()
            .contains("PUT")
    );
}

#[tokio::test]
async fn a_taken_port_and_a_bad_origin_are_clear_errors() {
    let served = Served::start().await;
    let start = |config: GatewayConfig| {
        let client = Client::new(ClientConfig::new("127.0.0.1:1"), Environment::system());
        Gateway::start(config, client, Environment::system())
    };
    let taken = start(GatewayConfig {
        listen: served.gateway.address().to_string(),
        ..GatewayConfig::default()
    });
    assert!(matches!(taken.await, Err(GatewayError::Listen(_))));
    let origin = start(GatewayConfig {
        listen: "127.0.0.1:0".into(),
        cors_origins: vec!["example.org".into()],
        ..GatewayConfig::default()
    });
    assert!(matches!(origin.await, Err(GatewayError::Origin(_))));
}

/// Sends a request's head and waits until the gateway works on it.
async fn begin_upload(served: &Served) -> Connection {
    let mut connection = served.connect().await;
    connection
        .write(
            b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    assert!(connection.head().await.unwrap().starts_with("HTTP/1.1 100"));
    connection
}

#[tokio::test]
async fn stopping_lets_an_upload_finish_and_closes_the_rest() {
    let served = Served::start().await;
    let mut idle = served.connect().await;
    idle.request("GET", "/healthz", &[], b"").await;
    idle.reply("GET").await;
    let mut partial = served.connect().await;
    partial.write(b"GET /healthz HTTP/1.1\r\nHo").await;
    let mut upload = begin_upload(&served).await;
    let address = served.gateway.address();
    let stop = tokio::spawn(served.gateway.stop(PATIENCE));
    assert!(idle.is_closed().await);
    assert!(partial.is_closed().await);
    assert!(!stop.is_finished());
    upload.write(b"abc").await;
    let reply = upload.reply("POST").await;
    assert_eq!(reply.status, 201);
    assert!(upload.is_closed().await);
    stop.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn stopping_breaks_off_what_does_not_finish_in_time() {
    let served = Served::start().await;
    let mut upload = begin_upload(&served).await;
    served.gateway.stop(Duration::from_millis(50)).await;
    assert!(upload.is_closed().await);
    assert!(served.cluster.is_empty());
}
