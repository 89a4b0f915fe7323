//! Drills on the namenode, and on everything one after the other.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Ending;
use super::canaries::Canaries;
use super::scene::Scene;
use crate::{Content, Http, Node, Substrate};

/// Files that are gone before the namenode is, and must not come back from the disks of datanodes.
const DELETED: usize = 6;
const KILLS: u64 = 3;
const WORKERS: usize = 8;
/// The load has this long to get going before each kill; the exact moment is drawn.
const SHORTEST_LIFE_MS: u64 = 300;
const LONGEST_LIFE_MS: u64 = 1500;
const LARGEST_UPLOAD: u64 = 256 << 10;
/// A worker whose request failed tries again after this.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(super) async fn restart<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let since = Instant::now();
    scene.restart(Node::Namenode).await?;
    scene.until_healthy().await?;
    Ok(Ending::Recovered(since.elapsed()))
}

pub(super) async fn lost<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let deleted = scene.delete(DELETED).await?;
    // A delete that only the namenode has heard of is lost with it. From the next heartbeats on the datanodes remember it.
    for datanode in scene.substrate.datanodes() {
        scene.until_forgotten(datanode, &deleted).await?;
    }
    let since = Instant::now();
    scene.lose_namenode().await?;
    scene.rebuild_namenode().await?;
    scene.start(Node::Namenode).await?;
    scene.until_healthy().await?;
    Ok(Ending::Recovered(since.elapsed()))
}

pub(super) async fn kill_under_load<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for (_, http) in (0..WORKERS).zip(scene.view.gateways().iter().cycle()) {
        workers.spawn(work(scene.canaries.clone(), http.clone(), stop.clone()));
    }
    let before = scene.view.namenode_starts().await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        let life_ms = SHORTEST_LIFE_MS + scene.canaries.draw(LONGEST_LIFE_MS - SHORTEST_LIFE_MS);
        tokio::time::sleep(Duration::from_millis(life_ms)).await;
        let since = Instant::now();
        scene.kill(Node::Namenode).await?;
        scene.start(Node::Namenode).await?;
        scene.until_healthy().await?;
        slowest = slowest.max(since.elapsed());
    }
    // Nobody else may have noticed: uploads that have their allocation wait until it is back.
    let starts = scene.view.namenode_starts().await?.saturating_sub(before);
    ensure!(
        starts >= KILLS,
        "it was killed {KILLS} times and started {starts} times"
    );
    stop.cancel();
    while workers.join_next().await.is_some() {}
    Ok(Ending::Recovered(slowest))
}

/// Every process is restarted as for an upgrade. The time is that of the slowest one.
pub(super) async fn rolling_restart<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let mut slowest = Duration::ZERO;
    let mut nodes = scene.substrate.datanodes();
    nodes.push(Node::Namenode);
    nodes.extend(scene.substrate.gateways());
    for node in nodes {
        let since = Instant::now();
        let before = session(scene, node).await;
        scene.restart(node).await?;
        if let Some(before) = before {
            // Until it has registered again the namenode still believes in the process that is gone.
            scene
                .until_seen(node, "is back", |seen| {
                    seen["session_epoch"].as_u64() > Some(before) && seen["state"] == "live"
                })
                .await?;
        }
        scene.until_healthy().await?;
        slowest = slowest.max(since.elapsed());
    }
    Ok(Ending::Recovered(slowest))
}

/// How often a datanode has started; `None` for other nodes.
async fn session<S: Substrate>(scene: &Scene<'_, S>, node: Node) -> Option<u64> {
    match node {
        Node::Datanode(_) => scene.view.datanode(node).await.ok()?["session_epoch"].as_u64(),
        Node::Namenode | Node::Gateway(_) => None,
    }
}

/// Uploads and deletes until it is told to stop. Each worker deletes only what it uploaded itself: what is known of a file is
/// the whole truth about it.
async fn work(canaries: Canaries, http: Http, stop: CancellationToken) {
    let mut mine: Vec<Content> = Vec::new();
    while !stop.is_cancelled() {
        let answered = match mine.pop() {
            Some(content) if canaries.draw(4) == 0 => canaries.delete(&http, content).await,
            kept => {
                mine.extend(kept);
                let content = canaries.invent(LARGEST_UPLOAD);
                let acknowledged = canaries.upload(&http, content).await;
                mine.extend(acknowledged.then_some(content));
                acknowledged
            }
        };
        if !answered {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}
