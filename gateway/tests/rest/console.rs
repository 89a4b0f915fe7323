//! The page: served from the binary, and unable to load or run anything of somebody else's.

use crate::http::Served;

#[tokio::test]
async fn the_page_and_what_it_loads_are_served() {
    let served = Served::start().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let reply = served.get(path).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type").as_deref(), Some(content_type));
        assert_eq!(
            reply.header("x-content-type-options").as_deref(),
            Some("nosniff")
        );
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        assert!(!reply.body.is_empty());
    }
}

#[tokio::test]
async fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
    let served = Served::start().await;
    let page = String::from_utf8(served.get("/").await.body).unwrap();
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
    for reference in page
        .split("src=\"")
        .skip(1)
        .chain(page.split("href=\"").skip(1))
    {
        let target = reference.split('"').next().unwrap();
        if target.starts_with('/') {
            assert_eq!(served.get(target).await.status, 200, "{target}");
        }
    }
}
