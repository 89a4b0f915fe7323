//! Downloads: whole, in part, conditional, and broken.

use std::sync::LazyLock;

use crate::cluster::some_bytes;
use crate::http::Served;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| some_bytes(200_000));

async fn served() -> (Served, String) {
    let served = Served::start().await;
    let hash = served.cluster.with_file(BYTES.clone()).to_hex();
    (served, hash)
}

#[tokio::test]
async fn a_download_has_all_headers_and_all_bytes_at_both_addresses() {
    let (served, hash) = served().await;
    for path in [format!("/download?hash={hash}"), format!("/files/{hash}")] {
        for method in ["GET", "HEAD"] {
            let reply = served.send(method, &path, &[], b"").await;
            assert_eq!(reply.status, 200);
            let tag = format!("\"{hash}\"");
            let disposition = format!("attachment; filename=\"{hash}\"");
            for (name, value) in [
                ("content-length", "200000"),
                ("content-type", "application/octet-stream"),
                ("etag", tag.as_str()),
                ("accept-ranges", "bytes"),
                ("content-disposition", &disposition),
                ("x-content-type-options", "nosniff"),
                ("cache-control", "private, max-age=3600, immutable"),
            ] {
                assert_eq!(
                    reply.header(name).as_deref(),
                    Some(value),
                    "{method} {name}"
                );
            }
            if method == "GET" {
                assert_eq!(reply.body, *BYTES);
            }
        }
    }
}

#[tokio::test]
async fn a_head_reply_has_no_body_and_the_connection_goes_on() {
    let (served, hash) = served().await;
    let path = format!("/files/{hash}");
    let mut connection = served.connect().await;
    connection.request("HEAD", &path, &[], b"").await;
    assert_eq!(connection.reply("HEAD").await.status, 200);
    connection.request("GET", "/healthz", &[], b"").await;
    assert_eq!(connection.reply("GET").await.json()["status"], "alive");
}

#[tokio::test]
async fn a_range_is_exactly_those_bytes() {
    let (served, hash) = served().await;
    let path = format!("/files/{hash}");
    for (range, first, last) in [
        ("bytes=100-199", 100, 199),
        ("bytes=0-0", 0, 0),
        ("bytes=199999-", 199_999, 199_999),
        ("bytes=150000-", 150_000, 199_999),
        ("bytes=-70000", 130_000, 199_999),
        ("bytes=-999999999", 0, 199_999),
    ] {
        let header = format!("Range: {range}");
        let reply = served.send("GET", &path, &[&header], b"").await;
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(
            reply.header("content-range"),
            Some(format!("bytes {first}-{last}/200000"))
        );
        assert_eq!(reply.body, BYTES[first..=last], "{range}");
    }
}

#[tokio::test]
async fn ranges_that_are_none_get_the_whole_or_416() {
    let (served, hash) = served().await;
    let path = format!("/files/{hash}");
    for range in ["bytes=0-1,5-6", "lines=1-2", "bytes=0-0,-1,9-,2-3,4-5,6-7"] {
        let reply = served
            .send("GET", &path, &[&format!("Range: {range}")], b"")
            .await;
        assert_eq!((reply.status, reply.body.len()), (200, 200_000), "{range}");
    }
    for range in ["bytes=200000-", "bytes=5-2", "bytes=-0", "bytes=x-y"] {
        let reply = served
            .send("GET", &path, &[&format!("Range: {range}")], b"")
            .await;
        reply.assert_error(416, "range_not_satisfiable");
        assert_eq!(
            reply.header("content-range").as_deref(),
            Some("bytes */200000")
        );
    }
    let head = served.send("HEAD", &path, &["Range: bytes=0-1"], b"").await;
    assert_eq!(head.header("content-length").as_deref(), Some("200000"));
}

#[tokio::test]
async fn conditions_are_answered_by_the_tag() {
    let (served, hash) = served().await;
    let path = format!("/files/{hash}");
    for condition in [
        format!("If-None-Match: \"{hash}\""),
        "If-None-Match: *".into(),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = served.send(method, &path, &[&condition], b"").await;
            assert_eq!(reply.status, 304);
            assert_eq!(reply.header("etag"), Some(format!("\"{hash}\"")));
        }
    }
    let other = served
        .send("GET", &path, &["If-None-Match: \"x\""], b"")
        .await;
    assert_eq!((other.status, other.body.len()), (200, 200_000));
    let absent = format!("/files/{}", "0".repeat(64));
    let reply = served
        .send("GET", &absent, &["If-None-Match: *"], b"")
        .await;
    reply.assert_error(404, "not_found");

    for (condition, status) in [(format!("\"{hash}\""), 206), ("\"x\"".into(), 200)] {
        let condition = format!("If-Range: {condition}");
        let reply = served
            .send("GET", &path, &["Range: bytes=0-9", &condition], b"")
            .await;
        assert_eq!(reply.status, status);
    }
}

#[tokio::test]
async fn a_wished_name_is_made_safe() {
    let (served, hash) = served().await;
    let path = format!("/download?hash={hash}&name=..%2F..%2Fetc%2Fpass%0d%0awd.txt");
    let reply = served.send("HEAD", &path, &[], b"").await;
    assert_eq!(
        reply.header("content-disposition").as_deref(),
        Some("attachment; filename=\"passwd.txt\"")
    );
}

#[tokio::test]
async fn i05_a_file_that_breaks_before_its_first_byte_is_a_503_in_json() {
    let (served, hash) = served().await;
    served.cluster.state().break_reads_after = Some(0);
    let reply = served.get(&format!("/files/{hash}")).await;
    reply.assert_error(503, "unavailable");
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn i05_a_response_that_cannot_be_completed_is_broken_off() {
    let (served, hash) = served().await;
    served.cluster.state().break_reads_after = Some(100_000);
    let reply = served.get(&format!("/files/{hash}")).await;
    assert_eq!(reply.status, 200);
    assert!(reply.broken);
    assert!(reply.body.len() < 200_000);
    assert!(BYTES.starts_with(&reply.body));
}
