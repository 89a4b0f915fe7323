//! Callers that are slow, oversized, cut off, or not HTTP at all.

use std::time::Duration;

use crate::http::{PATIENCE, Served, form, form_type};

#[tokio::test]
async fn headers_over_the_limit_are_431_in_json() {
    let served = Served::start().await;
    for kilobytes in [20, 63, 100, 300] {
        let header = format!("X-Padding: {}", "x".repeat(kilobytes << 10));
        let reply = served.send("GET", "/info", &[&header], b"").await;
        reply.assert_error(431, "headers_too_large");
    }
    let many: Vec<String> = (0..500).map(|number| format!("X-{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let reply = served.send("GET", "/info", &many, b"").await;
    reply.assert_error(431, "headers_too_large");
    let path = format!("/{}", "x".repeat(20 << 10));
    served
        .get(&path)
        .await
        .assert_error(431, "headers_too_large");
    assert_eq!(served.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_400_in_json() {
    let served = Served::start().await;
    for request in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET /files/\0 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /files HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /files HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut connection = served.connect().await;
        connection.write(request).await;
        let reply = connection.reply("GET").await;
        reply.assert_error(400, "invalid_argument");
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let served = Served::start_with(|config| config.header_timeout_ms = 100).await;
    let mut silent = served.connect().await;
    let mut partial = served.connect().await;
    partial.write(b"GET / HTTP/1.1\r\nX: ").await;
    assert!(silent.is_closed().await);
    assert!(partial.is_closed().await);
}

#[tokio::test]
async fn a_thousand_sockets_that_trickle_headers_keep_nobody_out() {
    let served = Served::start_with(|config| {
        config.max_connections = 50;
        config.header_timeout_ms = 600_000;
    })
    .await;
    let hash = served.cluster.with_file(&b"abc"[..]);
    let mut trickles = Vec::new();
    for _ in 0..200 {
        let mut trickle = served.connect().await;
        trickle.write(b"GET / HTTP/1.1\r\nX: y").await;
        trickles.push(trickle);
    }
    let path = format!("/files/{hash}");
    for _ in 0..5 {
        let reply = tokio::time::timeout(Duration::from_secs(15), served.get(&path)).await;
        assert_eq!(reply.unwrap().body, b"abc");
    }
}

#[tokio::test]
async fn an_upload_under_way_keeps_its_place_among_trickling_sockets() {
    let served = Served::start_with(|config| {
        config.max_connections = 2;
        config.header_timeout_ms = 600_000;
    })
    .await;
    let mut upload = served.connect().await;
    upload
        .write(b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
        .await;
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut trickle = served.connect().await;
        trickle.write(b"GET / HTTP/1.1\r\nX: y").await;
        others.push(trickle);
    }
    assert_eq!(served.get("/healthz").await.status, 200);
    upload.write(b"bc").await;
    assert_eq!(upload.reply("POST").await.status, 201);
}

#[tokio::test]
async fn i02_a_body_that_stops_is_408_and_nothing_is_stored() {
    let served = Served::start_with(|config| config.progress_timeout_ms = 200).await;
    for head in [
        "POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".to_owned(),
        format!(
            "POST /upload HTTP/1.1\r\nHost: x\r\n{}\r\nContent-Length: 100\r\n\r\n",
            form_type()
        ),
    ] {
        let mut connection = served.connect().await;
        connection.write(head.as_bytes()).await;
        let reply = connection.reply("POST").await;
        reply.assert_error(408, "request_timeout");
        assert!(connection.is_closed().await);
    }
    assert!(served.cluster.is_empty());
}

#[tokio::test]
async fn i02_a_body_cut_short_is_400_and_nothing_is_stored() {
    use tokio::io::AsyncWriteExt;
    let served = Served::start().await;
    let form = form("file", "x", &[7; 100_000]);
    let heads = [
        ("/files", String::new(), &[7; 100][..]),
        ("/upload", format!("{}\r\n", form_type()), &form[..50_000]),
    ];
    for (path, headers, bytes) in heads {
        let mut connection = served.connect().await;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 200000\r\n\r\n");
        connection.write(head.as_bytes()).await;
        connection.write(bytes).await;
        connection.stream.shutdown().await.unwrap();
        let reply = connection.reply("POST").await;
        reply.assert_error(400, "invalid_argument");
    }
    let mut chunked = served.connect().await;
    chunked
        .write(b"POST /files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        .await;
    let reply = chunked.reply("POST").await;
    reply.assert_error(400, "invalid_argument");
    assert!(served.cluster.is_empty());
}

#[tokio::test]
async fn i02_a_form_of_countless_or_endless_parts_is_cut() {
    let served = Served::start().await;
    let part = "------boundary\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n";
    let head_without_end = format!("------boundary\r\nX: {}", "y".repeat(1 << 20));
    let large_field = form("note", "x", &[7; 1 << 20]);
    for body in [
        part.repeat(5_000).into_bytes(),
        head_without_end.into_bytes(),
        vec![b'x'; 1 << 20],
    ] {
        let reply = served.send("POST", "/upload", &[&form_type()], &body).await;
        reply.assert_error(400, "invalid_argument");
    }
    let reply = served
        .send("POST", "/upload", &[&form_type()], &large_field)
        .await;
    reply.assert_error(413, "payload_too_large");
    assert!(served.cluster.is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let served = Served::start().await;
    let hash = served.cluster.with_file(&b"abc"[..]);
    let mut connection = served.connect().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let file = format!("/files/{hash}");
    let requests = [
        get("/healthz"),
        format!("HEAD {file} HTTP/1.1\r\nHost: x\r\n\r\n"),
        "POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy".to_owned(),
        get(&file),
        get("/nonsense"),
        get("/healthz"),
    ];
    connection.write(requests.concat().as_bytes()).await;
    assert_eq!(connection.reply("GET").await.status, 200);
    assert_eq!(connection.reply("HEAD").await.status, 200);
    assert_eq!(connection.reply("POST").await.status, 201);
    assert_eq!(connection.reply("GET").await.body, b"abc");
    connection.reply("GET").await.assert_error(404, "not_found");
    assert_eq!(connection.reply("GET").await.json()["status"], "alive");
}

#[tokio::test]
async fn a_refused_upload_hears_why_although_it_still_sends() {
    let served = Served::start_with(|config| config.body_limit_bytes = 1000).await;
    let mut connection = served.connect().await;
    connection
        .write(b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 64000000\r\n\r\n")
        .await;
    // Far more than the sockets' buffers hold: a reset would have overtaken the answer.
    assert!(connection.write(&vec![7; 64_000_000]).await);
    connection
        .reply("POST")
        .await
        .assert_error(413, "payload_too_large");
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_given_up() {
    let served = Served::start_with(|config| config.progress_timeout_ms = 200).await;
    let hash = served.cluster.with_file(vec![7u8; 32 << 20]);
    let mut connection = served.connect().await;
    connection
        .request("GET", &format!("/files/{hash}"), &[], b"")
        .await;
    // The gateway counts the response as broken off, without a byte being read here.
    let counted = async {
        loop {
            let metrics = String::from_utf8(served.get("/metrics").await.body).unwrap();
            if metrics.contains("richardstore_gateway_aborted_responses_total 1\n") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    assert!(connection.reply("GET").await.broken);
}
