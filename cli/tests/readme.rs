//! The README's curl examples, run as they stand.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::Dev;
use tokio::process::Command;

/// The `sh` blocks of the README that talk to the store, in order.
fn examples() -> Vec<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    readme
        .unwrap()
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.contains("curl"))
        .map(ToOwned::to_owned)
        .collect()
}

#[tokio::test]
async fn the_readme_examples_work_as_they_stand() {
    let dev = Dev::start().await;
    let url = format!("http://{}", dev.http.authority());
    let script = format!("set -eu\n{}", examples().join("\n"));
    assert!(script.contains("/upload") && script.contains("/download") && script.contains("/info"));
    // Only the address differs: the test's port comes from the kernel.
    let script = script.replace("http://localhost:8080", &url);
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dev.directory.path())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{script}\n{output:?}");
    assert!(text.contains("\"status\":\"running\""), "{text}");
    assert!(!text.contains("\"error\""), "{text}");
}
