//! The console: served from the binary, and unable to load or run anything of somebody else's.

use crate::http::Served;

/// Targets of `src` and `href` in the page that the gateway itself has to answer.
fn references(page: &str) -> Vec<String> {
    let after = |name: &str| -> Vec<String> {
        let parts = page.split(name).skip(1);
        parts
            .filter_map(|part| part.split('"').next())
            .map(str::to_owned)
            .collect()
    };
    let mut targets = [after("src=\""), after("href=\"")].concat();
    targets.retain(|target| target.starts_with('/'));
    targets
}

async fn page(served: &Served) -> String {
    String::from_utf8(served.get("/").await.body).unwrap()
}

#[tokio::test]
async fn the_page_and_what_it_loads_are_served_and_cannot_be_taken_for_anything_else() {
    let served = Served::start().await;
    let page = page(&served).await;
    let mut targets = references(&page);
    assert!(targets.len() > 10, "{targets:?}");
    targets.push("/".to_owned());
    for target in targets.iter().filter(|target| *target != "/metrics") {
        let reply = served.get(target).await;
        assert_eq!(reply.status, 200, "{target}");
        if !target.starts_with("/console/") && target != "/" {
            continue;
        }
        let nosniff = reply.header("x-content-type-options");
        assert_eq!(nosniff.as_deref(), Some("nosniff"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        let content_type = reply.header("content-type").unwrap();
        let expected = match target.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(content_type, expected, "{target}");
        assert!(!reply.body.is_empty());
    }
}

#[tokio::test]
async fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
    let served = Served::start().await;
    let page = page(&served).await;
    for forbidden in [
        "<style",
        " style=",
        " onclick=",
        " onload=",
        "javascript:",
        "://",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn what_the_page_loads_is_kept_for_good_and_the_page_is_asked_for_again() {
    let served = Served::start().await;
    let reply = served.get("/").await;
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-cache"));
    let tag = reply.header("etag").unwrap();
    let again = served
        .send("GET", "/", &[&format!("If-None-Match: {tag}")], b"")
        .await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let page = page(&served).await;
    let style = references(&page)
        .into_iter()
        .find(|target| target.ends_with("style.css"))
        .unwrap();
    let kept = served.get(&style).await.header("cache-control").unwrap();
    assert!(kept.contains("immutable"), "{kept}");
    let old = served.get("/console/0000000000000000/style.css").await;
    assert_eq!(old.status, 200);
    assert_eq!(old.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(served.get("/console/x/secret.js").await.status, 404);
}

#[tokio::test]
async fn an_uploaded_page_comes_back_as_an_attachment_that_no_browser_runs() {
    let served = Served::start().await;
    let evil = b"<!doctype html><script>alert(1)</script>";
    let stored = served.upload("file", "evil.html", evil).await;
    let stored: serde_json::Value = serde_json::from_slice(&stored.body).unwrap();
    let hash = stored["hash"].as_str().unwrap();
    for path in [
        format!("/files/{hash}"),
        format!("/files/{hash}?name=evil.html"),
        format!("/download?hash={hash}&name=evil.html"),
    ] {
        let reply = served.get(&path).await;
        assert_eq!(reply.status, 200);
        let disposition = reply.header("content-disposition").unwrap();
        assert!(disposition.starts_with("attachment"), "{disposition}");
        let content_type = reply.header("content-type").unwrap();
        assert_eq!(content_type, "application/octet-stream");
        let nosniff = reply.header("x-content-type-options");
        assert_eq!(nosniff.as_deref(), Some("nosniff"));
    }
}
