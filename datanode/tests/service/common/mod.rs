//! What the tests of this crate share: a namenode that records what it hears, and datanodes on ports of the kernel.

pub mod fake_namenode;
pub mod node;
pub mod writes;

use std::time::Duration;

/// Waits until `condition` holds, at most 30 s.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "did not happen: {what}");
}
