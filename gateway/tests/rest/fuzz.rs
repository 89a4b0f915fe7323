//! The gateway with requests that mean nothing: hashes, paths, ranges and forms that are nearly right (FAULTS 45). Each has an answer
//! that is no 500, and nothing panics.

use std::sync::Arc;

use proptest::prelude::{any, prop};
use proptest::strategy::Strategy;
use richardstore_fuzz::{fuzz, hash_like, mutated};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::http::{PATIENCE, Served, form, form_type};

const CONTENT: &[u8] = b"0123456789abcdefghij";

/// A runtime, a gateway on it, and the hash of the one file that is there.
fn served() -> (Runtime, Arc<Served>, String) {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(Served::start());
    let hash = served.cluster.with_file(CONTENT).to_string();
    (runtime, Arc::new(served), hash)
}

/// Sends `request` as it is: the status and the rest of the answer, `None` where the connection was closed without one.
async fn ask(served: &Served, request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut connection = served.connect().await;
    connection.write(request).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // A reset behind an answer that came is how a refused body ends.
    while let Ok(length @ 1..) = timeout(PATIENCE, connection.stream.read(&mut buffer))
        .await
        .expect("an answer in time")
    {
        answer.extend_from_slice(&buffer[..length]);
    }
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    Some((status, answer))
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

async fn assert_sound(served: &Served, hash: &str) {
    let metrics = served.get("/metrics").await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("richardstore_gateway_panics_total 0\n"));
    assert_eq!(served.get(&format!("/files/{hash}")).await.body, CONTENT);
}

#[test]
fn i05_a_path_with_nearly_a_hash_is_refused_and_touches_nothing() {
    let (runtime, served, hash) = served();
    let routes = vec![
        ("GET", "/files/{}"),
        ("HEAD", "/files/{}"),
        ("DELETE", "/files/{}"),
        ("PUT", "/files/{}"),
        ("GET", "/files/{}/status"),
        ("GET", "/download?hash={}"),
        ("GET", "/files?after={}"),
        ("GET", "/admin/why/{}"),
        ("GET", "/admin/dump/{}"),
        ("GET", "/{}"),
        ("GET", "/console/{}"),
    ];
    let cases = (prop::sample::select(routes), hash_like());
    fuzz(
        "paths with nearly a hash",
        400,
        &cases,
        |((method, path), text)| {
            let path = path.replace("{}", &text);
            let answer = runtime.block_on(ask(&served, &request(method, &path, "", b"abc")));
            if let Some((status, answer)) = answer {
                let text = String::from_utf8_lossy(&answer);
                assert!((200..500).contains(&status), "{method} {path:?}: {text}");
                assert!(!text.contains("root:"), "{method} {path:?}: {text}");
            }
        },
    );
    runtime.block_on(assert_sound(&served, &hash));
}

/// The bytes that a `Range` asks for, in the words of RFC 9110: `None` is all, an empty one is 416.
fn wanted(range: &str) -> Option<&'static [u8]> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Past the end is past the end, however many digits it has.
        digits.then(|| text.parse::<u128>().unwrap_or(u128::MAX))
    };
    let size = CONTENT.len() as u128;
    let set = range.strip_prefix("bytes=")?;
    if set.contains(',') {
        return None;
    }
    let Some((first, last)) = set.split_once('-') else {
        return Some(&[]);
    };
    let (first, last) = match (number(first), number(last)) {
        (None, Some(last)) if first.is_empty() => (size.saturating_sub(last), size - 1),
        (Some(at), None) if last.is_empty() => (at, size - 1),
        (Some(at), Some(last)) if at <= last => (at, last.min(size - 1)),
        _ => return Some(&[]),
    };
    let (first, last) = (
        usize::try_from(first).unwrap_or(usize::MAX),
        usize::try_from(last).unwrap(),
    );
    Some(CONTENT.get(first..=last).unwrap_or(&[]))
}

#[test]
fn a_range_gives_what_a_simple_reading_of_it_says() {
    let (runtime, served, hash) = served();
    let cases = prop::string::string_regex(
        "(bytes=(([0-9]{0,2}|[0-9]{18,40})-([0-9]{0,2}|[0-9]{18,40})|[0-9,-]{0,12}|[!-~]{0,12})|bites=0-1|[!-~]{0,20})",
    )
    .unwrap();
    fuzz("ranges", 400, &cases, |range| {
        let header = format!("Range: {range}\r\n");
        let path = format!("/files/{hash}");
        let answer = runtime.block_on(ask(&served, &request("GET", &path, &header, b"")));
        let (status, answer) = answer.expect("an answer");
        let body = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap()
            + 4;
        match wanted(&range) {
            None => assert_eq!((status, &answer[body..]), (200, CONTENT), "{range:?}"),
            Some([]) => assert_eq!(status, 416, "{range:?}"),
            Some(part) => assert_eq!((status, &answer[body..]), (206, part), "{range:?}"),
        }
    });
    runtime.block_on(assert_sound(&served, &hash));
}

#[test]
fn i02_a_form_that_is_nearly_one_is_stored_whole_or_refused() {
    let (runtime, served, hash) = served();
    let whole = form("file", "a.bin", b"some bytes\r\n--and more");
    let cases = (mutated(whole), any::<bool>());
    fuzz("forms", 400, &cases, |(body, raw)| {
        let request = match raw {
            true => request("POST", "/files", "", &body),
            false => request("POST", "/upload", &format!("{}\r\n", form_type()), &body),
        };
        let (status, _) = runtime.block_on(ask(&served, &request)).expect("an answer");
        assert!((200..500).contains(&status), "{status}");
    });
    let hostile = prop::collection::vec(any::<u8>(), 0..400).boxed();
    fuzz("requests of random bytes", 400, &hostile, |mut bytes| {
        // Ends what may look like the beginning of a request.
        bytes.extend_from_slice(b"\r\n\r\n");
        if let Some((status, _)) = runtime.block_on(ask(&served, &bytes)) {
            assert!((400..500).contains(&status), "{status}");
        }
    });
    runtime.block_on(assert_sound(&served, &hash));
}
