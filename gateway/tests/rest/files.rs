//! Files as records, and hashes that are none.

use crate::cluster::hash_of;
use crate::http::Served;

#[tokio::test]
async fn i03_a_deleted_file_is_gone() {
    let served = Served::start().await;
    let hash = served.cluster.with_file(&b"abc"[..]);
    let path = format!("/files/{hash}");
    let reply = served.send("DELETE", &path, &[], b"").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        serde_json::json!({"hash": hash.to_hex(), "deleted": true})
    );
    for (method, path) in [
        ("DELETE", path.clone()),
        ("GET", path.clone()),
        ("GET", format!("/download?hash={hash}")),
        ("GET", format!("{path}/status")),
    ] {
        served
            .send(method, &path, &[], b"")
            .await
            .assert_error(404, "not_found");
    }
    assert_eq!(served.send("HEAD", &path, &[], b"").await.status, 404);
}

#[tokio::test]
async fn a_listing_comes_in_pages() {
    let served = Served::start().await;
    let mut hashes: Vec<String> = (0..25u8)
        .map(|number| served.cluster.with_file(vec![number]).to_hex())
        .collect();
    hashes.sort();
    let mut listed = Vec::new();
    let mut path = "/files?limit=10".to_owned();
    loop {
        let json = served.get(&path).await.json();
        for file in json["files"].as_array().unwrap() {
            assert_eq!((&file["size"], &file["replicas"]), (&1.into(), &1.into()));
            listed.push(file["hash"].as_str().unwrap().to_owned());
        }
        match json["next"].as_str() {
            Some(next) => path = format!("/files?limit=10&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed, hashes);
    let prefix = &hashes[3][..5];
    let json = served.get(&format!("/files?prefix={prefix}")).await.json();
    assert_eq!(json["files"][0]["hash"], hashes[3]);
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "after=../x",
        "prefix=ABC",
        "prefix=..%2F",
        "limit=1&limit=2",
    ] {
        let reply = served.get(&format!("/files?{query}")).await;
        reply.assert_error(400, "invalid_argument");
    }
}

#[tokio::test]
async fn the_status_of_a_file_names_its_replicas() {
    let served = Served::start().await;
    let hash = served.cluster.with_file(&b"abc"[..]);
    let json = served.get(&format!("/files/{hash}/status")).await.json();
    assert_eq!((&json["size"], &json["target"]), (&3.into(), &1.into()));
    let replica = &json["replicas"][0];
    assert_eq!(
        (&replica["name"], &replica["rack"], &replica["state"]),
        (&"datanode-1".into(), &"r1".into(), &"live".into())
    );
}

#[tokio::test]
async fn only_64_lower_case_hex_digits_are_a_hash_anywhere() {
    let served = Served::start().await;
    let hash = served.cluster.with_file(&b"abc"[..]).to_hex();
    let encoded = format!("%{:x}{}", hash.as_bytes()[0], &hash[1..]);
    let bad = [
        "x".to_owned(),
        "..%2Fx".to_owned(),
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned(),
        hash.to_uppercase(),
        hash[..63].to_owned(),
        format!("{hash}0"),
        format!("{}%00", &hash[..63]),
        format!("{hash}%00"),
        format!("{}%ff", &hash[..63]),
        format!("0x{}", &hash[2..]),
        format!("{}%C3%A9", &hash[..62]),
    ];
    for bad in bad.iter().chain([&encoded]) {
        for (method, path) in [
            ("GET", format!("/files/{bad}")),
            ("PUT", format!("/files/{bad}")),
            ("DELETE", format!("/files/{bad}")),
            ("GET", format!("/files/{bad}/status")),
        ] {
            let reply = served.send(method, &path, &[], b"").await;
            reply.assert_error(400, "invalid_argument");
        }
        let head = served
            .send("HEAD", &format!("/files/{bad}"), &[], b"")
            .await;
        assert_eq!(head.status, 400);
    }
    for bad in bad.iter().map(String::as_str).chain(["../x", "", "+", "%"]) {
        let reply = served.get(&format!("/download?hash={bad}")).await;
        reply.assert_error(400, "invalid_argument");
    }
    for path in ["/download", "/download?", "/download?has=1"] {
        served.get(path).await.assert_error(400, "invalid_argument");
    }
    served
        .get("/files/../x")
        .await
        .assert_error(404, "not_found");
    assert_eq!(hash_of(b"abc").to_hex(), hash);
    assert_eq!(served.get(&format!("/files/{hash}")).await.body, b"abc");
}
