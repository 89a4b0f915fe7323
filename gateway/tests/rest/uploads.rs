//! Uploads, and every way in which one is refused.

use crate::cluster::{hash_of, some_bytes};
use crate::http::{Served, form, form_type};
use richardstore_proto::{ContentHash, ErrorCode};

#[tokio::test]
async fn i01_a_form_upload_answers_with_the_hash_and_reads_back() {
    let served = Served::start().await;
    let bytes = some_bytes(3_000_000);
    let hash = hash_of(&bytes).to_hex();
    let reply = served.upload("file", "a/b.bin", &bytes).await;
    assert_eq!(reply.status, 200);
    let json = reply.json();
    assert_eq!(json["hash"], hash);
    assert_eq!(json["size"], bytes.len());
    assert_eq!(json["replicas"], 1);
    assert_eq!(json["created"], true);
    assert_eq!(json["name"], "b.bin");
    assert_eq!(
        served.get(&format!("/download?hash={hash}")).await.body,
        bytes
    );
    let again = served.upload("file", "c", &bytes).await;
    assert_eq!(
        (again.status, &again.json()["created"]),
        (200, &false.into())
    );
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let served = Served::start().await;
    let reply = served.upload("file", "empty", b"").await;
    assert_eq!(reply.json()["hash"], ContentHash::EMPTY.to_hex());
    let path = format!("/files/{}", ContentHash::EMPTY);
    let read = served.get(&path).await;
    assert_eq!((read.status, read.body.len()), (200, 0));
    assert_eq!(served.send("POST", "/files", &[], b"").await.status, 201);
}

#[tokio::test]
async fn i02_a_form_without_its_file_is_refused_and_nothing_is_stored() {
    let served = Served::start().await;
    served
        .upload("document", "x", b"bytes")
        .await
        .assert_error(400, "invalid_argument");
    let plain = ["Content-Type: text/plain"];
    for (headers, body) in [
        (&plain[..], &b"bytes"[..]),
        (&["Content-Type: multipart/form-data"][..], b"bytes"),
        (&[][..], b"bytes"),
        (&[form_type().as_str()][..], b"no boundary in here"),
    ] {
        let reply = served.send("POST", "/upload", headers, body).await;
        reply.assert_error(400, "invalid_argument");
    }
    let whole = form("file", "x", b"bytes");
    let cut = &whole[..whole.len() - 8];
    let reply = served.send("POST", "/upload", &[&form_type()], cut).await;
    reply.assert_error(400, "invalid_argument");
    assert!(served.cluster.is_empty());
}

#[tokio::test]
async fn raw_bytes_are_created_with_a_location() {
    let served = Served::start().await;
    let reply = served.send("POST", "/files", &[], b"abc").await;
    let hash = hash_of(b"abc");
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), Some(format!("/files/{hash}")));
    assert_eq!(reply.json()["hash"], hash.to_hex());
}

#[tokio::test]
async fn a_form_sent_to_files_is_taken_apart() {
    let served = Served::start().await;
    let body = form("file", "notes.txt", b"abc");
    let reply = served.send("POST", "/files", &[&form_type()], &body).await;
    let hash = hash_of(b"abc");
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), Some(format!("/files/{hash}")));
    assert_eq!(reply.json()["name"], "notes.txt");
    let body = form("other", "x", b"abd");
    let reply = served.send("POST", "/files", &[&form_type()], &body).await;
    reply.assert_error(400, "invalid_argument");
}

#[tokio::test]
async fn a_declared_hash_is_checked() {
    let served = Served::start().await;
    let hash = hash_of(b"abc");
    let path = format!("/files/{hash}");
    let other = format!("X-Content-SHA256: {}", hash_of(b"other"));
    for reply in [
        served.send("PUT", &path, &[], b"abd").await,
        served.send("POST", "/files", &[&other], b"abc").await,
        served
            .send(
                "POST",
                "/upload",
                &[&other, &form_type()],
                &form("file", "x", b"abc"),
            )
            .await,
    ] {
        reply.assert_error(422, "hash_mismatch");
    }
    assert!(served.cluster.is_empty());
    let both = served.send("PUT", &path, &[&other], b"abc").await;
    both.assert_error(400, "invalid_argument");
    let declared = format!("X-Content-SHA256: {hash}");
    let reply = served.send("POST", "/files", &[&declared], b"abc").await;
    assert_eq!(reply.status, 201);
    let odd = served
        .send("POST", "/files", &["X-Content-SHA256: abc"], b"abc")
        .await;
    odd.assert_error(400, "invalid_argument");
}

#[tokio::test]
async fn a_put_of_new_bytes_creates_and_of_known_ones_reads_no_body() {
    let served = Served::start().await;
    let hash = hash_of(b"abc");
    let path = format!("/files/{hash}");
    let created = served.send("PUT", &path, &[], b"abc").await;
    assert_eq!(
        (created.status, &created.json()["created"]),
        (201, &true.into())
    );
    let begun = served.cluster.state().streams_begun;

    let mut connection = served.connect().await;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
    );
    assert!(connection.write(head.as_bytes()).await);
    let known = connection.reply("PUT").await;
    assert_eq!(
        (known.status, &known.json()["created"]),
        (200, &false.into())
    );
    assert_eq!(served.cluster.state().streams_begun, begun);
}

#[tokio::test]
async fn an_expected_continue_is_sent_when_the_bytes_are_wanted() {
    let served = Served::start().await;
    let path = format!("/files/{}", hash_of(b"abc"));
    let mut connection = served.connect().await;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    );
    connection.write(head.as_bytes()).await;
    let go_on = connection.head().await.unwrap();
    assert!(go_on.starts_with("HTTP/1.1 100"), "{go_on}");
    connection.write(b"abc").await;
    assert_eq!(connection.reply("PUT").await.status, 201);
}

#[tokio::test]
async fn what_the_cluster_cannot_take_says_why_and_when_to_come_back() {
    let served = Served::start().await;
    for (code, status, name) in [
        (ErrorCode::StorageFull, 507, "storage_full"),
        (
            ErrorCode::InsufficientReplicas,
            503,
            "insufficient_replicas",
        ),
        (ErrorCode::SafeMode, 503, "safe_mode"),
        (ErrorCode::Conflict, 409, "conflict"),
    ] {
        served.cluster.state().refuse_writes = Some(code);
        let reply = served.send("POST", "/files", &[], b"abc").await;
        reply.assert_error(status, name);
        assert_eq!(reply.header("retry-after").is_some(), status == 503);
    }
    assert!(served.cluster.is_empty());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_and_while_it_comes() {
    let served = Served::start_with(|config| config.body_limit_bytes = 100_000).await;
    let mut announced = served.connect().await;
    announced
        .write(b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
        .await;
    let reply = announced.reply("POST").await;
    reply.assert_error(413, "payload_too_large");

    let chunk = [b"2710\r\n".as_slice(), &[7; 10_000], b"\r\n"].concat();
    let mut endless = served.connect().await;
    endless
        .write(b"POST /files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..20 {
        endless.write(&chunk).await;
    }
    let reply = endless.reply("POST").await;
    reply.assert_error(413, "payload_too_large");
    assert_eq!(reply.header("connection").as_deref(), Some("close"));
    assert!(endless.is_closed().await);
    assert!(served.cluster.is_empty());
    let within = served.send("POST", "/files", &[], &[7; 100_000]).await;
    assert_eq!(within.status, 201);
}

#[tokio::test]
async fn the_request_id_reaches_the_datanode() {
    let served = Served::start().await;
    let reply = served
        .send("POST", "/files", &["X-Request-Id: trace-7"], b"abc")
        .await;
    assert_eq!(reply.header("x-request-id").as_deref(), Some("trace-7"));
    assert_eq!(served.cluster.state().request_ids, ["trace-7"]);
}
