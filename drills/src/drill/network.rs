//! Drills on the network.

use anyhow::Result;
use tokio::time::Instant;

use super::Ending;
use super::scene::Scene;
use crate::Substrate;

const CHANGED: usize = 6;
const LARGEST_BYTES: u64 = 64 << 10;

/// A datanode that is alive and reaches nobody: it is given up, and what it holds is not the newest when it returns.
pub(super) async fn partition<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let victim = scene.victim()?;
    scene.cut(victim).await?;
    scene.until_dead(victim).await?;
    scene.delete(CHANGED).await?;
    scene.plant(CHANGED, LARGEST_BYTES).await?;
    scene.say(&format!(
        "{CHANGED} canaries were deleted and {CHANGED} came, which it does not know"
    ));
    let since = Instant::now();
    scene.reconnect(victim).await?;
    scene
        .until_seen(victim, "is back", |seen| seen["state"] == "live")
        .await?;
    scene.until_healthy().await?;
    Ok(Ending::Recovered(since.elapsed()))
}
