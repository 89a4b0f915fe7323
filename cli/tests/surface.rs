//! The REST surface of a real process: what it answers to good input and to bad.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use common::{Dev, panics};
use http::Method;
use richardstore_drills::{Content, Http, inspect_tree};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

async fn shell(command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sends raw bytes and reads until the other side closes or `limit` passes.
async fn raw(http: &Http, request: &[u8], limit: Duration) -> String {
    let mut socket = TcpStream::connect(http.authority()).await.unwrap();
    // The store may close before it has taken everything: that is an answer too.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(limit, socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_hash_is_sha256sum_and_reads_are_whole_partial_and_conditional() {
    let dev = Dev::start().await;
    let url = format!("http://{}", dev.http.authority());
    let file = dev.directory.path().join("file");
    std::fs::write(&file, Content::new(1, 300_000).bytes()).unwrap();
    let file = file.display();
    let sum = shell(&format!("sha256sum {file} | cut -d' ' -f1")).await;
    let answer = shell(&format!("curl -sf -F file=@{file} {url}/upload")).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let hash = sum.trim();
    assert_eq!(answer["hash"], hash);
    assert_eq!(answer["size"], 300_000);
    assert_eq!(answer["replicas"], 3);

    shell(&format!(
        "curl -sf '{url}/download?hash={hash}' | cmp - {file}"
    ))
    .await;
    shell(&format!(
        "curl -sf -r 100-199 {url}/files/{hash} > {file}.part && tail -c +101 {file} | head -c 100 | cmp - {file}.part"
    ))
    .await;
    let head = dev
        .http
        .call(Method::HEAD, &format!("/files/{hash}"), &[])
        .await
        .unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), "300000");
    assert_eq!(head.header("accept-ranges"), "bytes");
    assert_eq!(head.header("etag"), format!("\"{hash}\""));
    let unchanged = dev
        .http
        .call(
            Method::GET,
            &format!("/files/{hash}"),
            &[("if-none-match", &format!("\"{hash}\""))],
        )
        .await
        .unwrap();
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
}

#[tokio::test]
async fn i01_a_file_is_readable_in_the_next_request_through_a_second_gateway_too() {
    let dev = Dev::start().await;
    let state = std::fs::read(dev.data().join("dev.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let namenode = state["namenode"].as_str().unwrap();
    let spec = common::process(
        dev.directory.path(),
        "gateway",
        &["gateway", "--listen", "127.0.0.1:0", "--namenode", namenode],
    );
    let second = spec.start("http://").await.unwrap();
    let second_http = Http::new(second.url().unwrap());
    for seed in 0..20 {
        let content = Content::new(seed, 5_000);
        let hash = dev.http.upload(content).await.unwrap();
        let found = second_http.download_matches(&hash, content).await.unwrap();
        assert_eq!(found, Some(true));
    }
    second.terminate(Duration::from_secs(30)).await.unwrap();
}

/// Method, path, headers, body, and the status it has to get.
type BadRequest = (
    Method,
    String,
    &'static [(&'static str, &'static str)],
    &'static [u8],
    u16,
);

#[tokio::test]
async fn bad_input_gets_the_right_status_a_json_error_and_stores_nothing() {
    let dev = Dev::start_with(&["--body-limit", "1000000"]).await;
    let http = &dev.http;
    let good = Content::new(1, 10);
    let hash = http.upload(good).await.unwrap();
    let upper = hash.to_uppercase();
    let short = &hash[..63];
    let absent = Content::new(99, 5).hash();
    let wrong_path = format!("/files/{absent}");
    let cases: Vec<BadRequest> = vec![
        (Method::GET, "/download?hash=../x".into(), &[], b"", 400),
        (Method::GET, "/files/..%2fx".into(), &[], b"", 400),
        (Method::GET, format!("/files/{upper}"), &[], b"", 400),
        (Method::GET, format!("/files/{short}"), &[], b"", 400),
        (Method::GET, format!("/files/{hash}0"), &[], b"", 400),
        (Method::GET, format!("/files/{short}%00"), &[], b"", 400),
        (Method::GET, "/download".into(), &[], b"", 400),
        (Method::GET, wrong_path.clone(), &[], b"", 404),
        (Method::DELETE, wrong_path.clone(), &[], b"", 404),
        (Method::GET, "/no/such/path".into(), &[], b"", 404),
        (Method::PATCH, format!("/files/{hash}"), &[], b"", 405),
        (
            Method::POST,
            "/upload".into(),
            &[("content-type", "multipart/form-data; boundary=b")],
            b"--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--\r\n",
            400,
        ),
        (
            Method::POST,
            "/upload".into(),
            &[("content-type", "text/plain")],
            b"x",
            400,
        ),
        (
            Method::GET,
            format!("/files/{hash}"),
            &[("range", "bytes=10-20")],
            b"",
            416,
        ),
        (Method::PUT, wrong_path, &[], b"other bytes", 422),
        (Method::GET, "/files?limit=many".into(), &[], b"", 400),
        (Method::GET, "/admin/dump/nothing".into(), &[], b"", 404),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = http
            .send(method.clone(), &path, headers, Bytes::from_static(body))
            .await
            .unwrap();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert!(
            answer.json().unwrap()["error"].is_string(),
            "{method} {path}"
        );
    }
    let second = Duration::from_secs(10);
    let large = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    assert!(
        raw(http, large.as_bytes(), second)
            .await
            .starts_with("HTTP/1.1 431")
    );
    let over = "POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n";
    assert!(
        raw(http, over.as_bytes(), second)
            .await
            .starts_with("HTTP/1.1 413")
    );
    let mut endless =
        b"POST /files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        endless.extend_from_slice(b"10000\r\n");
        endless.extend_from_slice(&[7; 0x10000]);
        endless.extend_from_slice(b"\r\n");
    }
    assert!(
        raw(http, &endless, second)
            .await
            .starts_with("HTTP/1.1 413")
    );
    let mut socket = TcpStream::connect(http.authority()).await.unwrap();
    socket
        .write_all(b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
        .await
        .unwrap();
    drop(socket);

    let empty = http.upload(Content::new(0, 0)).await.unwrap();
    assert_eq!(
        http.download_matches(&empty, Content::new(0, 0))
            .await
            .unwrap(),
        Some(true)
    );
    let files = http.get("/files").await.unwrap().json().unwrap();
    assert_eq!(files["files"].as_array().unwrap().len(), 2, "{files}");
    assert_eq!(
        http.download_matches(&hash, good).await.unwrap(),
        Some(true)
    );
    let data = dev.data();
    dev.process
        .terminate(Duration::from_secs(30))
        .await
        .unwrap();
    for node in 1..=3 {
        let findings = inspect_tree(&data.join(format!("datanode-{node}/replicas"))).unwrap();
        assert_eq!(
            findings.temporary.len() + findings.wrong.len(),
            0,
            "{findings:?}"
        );
        assert_eq!(findings.replicas.len(), 2);
    }
    assert_eq!(panics(&dev.spec.log_text()), Vec::<&str>::new());
}
