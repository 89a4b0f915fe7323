//! Drills on one datanode and its disk.

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use super::Ending;
use super::scene::{NOTICE_LIMIT, Scene};
use super::view::until_clear;
use crate::hand::ReplicaState;
use crate::{Content, Substrate};

/// More than one group of the tree that reads are checked against.
const ROTTEN_BYTES: u64 = 300_000;
const ROTTEN: usize = 3;
/// Files that come and go while a node is away.
const CHANGED: usize = 6;
const LARGEST_BYTES: u64 = 64 << 10;
/// What a node that is full may still say that it has: it does not count in single bytes.
const NO_ROOM_BYTES: u64 = 64 << 10;

pub(super) async fn loss<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let victim = scene.victim()?;
    let has_spare = scene.has_spare().await?;
    let since = Instant::now();
    scene.kill(victim).await?;
    scene.until_dead(victim).await?;
    let mut recovered = None;
    if has_spare {
        scene.until_sound().await?;
        recovered = Some(since.elapsed());
        scene.say("every canary has all its replicas without it");
    } else {
        scene.say("there is no datanode to spare: files are short of a replica until it is back");
    }
    scene.start(victim).await?;
    scene.until_healthy().await?;
    Ok(Ending::Recovered(recovered.unwrap_or(since.elapsed())))
}

pub(super) async fn come_back<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let victim = scene.victim()?;
    let has_spare = scene.has_spare().await?;
    scene.kill(victim).await?;
    scene.until_dead(victim).await?;
    let deleted = scene.delete(CHANGED).await?;
    scene.plant(CHANGED, LARGEST_BYTES).await?;
    scene.say(&format!(
        "{CHANGED} canaries were deleted and {CHANGED} came, which it does not know"
    ));
    if has_spare {
        scene.until_sound().await?;
    }
    let since = Instant::now();
    scene.start(victim).await?;
    scene.until_healthy().await?;
    // What was deleted while it was away goes from its disk too.
    scene.until_forgotten(victim, &deleted).await?;
    until_trimmed(scene).await?;
    Ok(Ending::Recovered(since.elapsed()))
}

/// No canary has more replicas than it should.
async fn until_trimmed<S: Substrate>(scene: &Scene<'_, S>) -> Result<()> {
    let surplus = || async {
        for canary in scene.canaries.steady() {
            match scene.view.whereabouts(canary).await {
                Ok(found) if found.replicas.len() == found.target => {}
                Ok(found) => {
                    let (count, target) = (found.replicas.len(), found.target);
                    return Some(format!(
                        "a canary has {count} replicas and should have {target}"
                    ));
                }
                Err(error) => return Some(format!("{error:#}")),
            }
        }
        None
    };
    until_clear("the surplus is gone", NOTICE_LIMIT, surplus).await
}

pub(super) async fn disk_wipe<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let victim = scene.victim()?;
    let since = Instant::now();
    scene.wipe(victim).await?;
    scene.start(victim).await?;
    scene.until_healthy().await?;
    Ok(Ending::Recovered(since.elapsed()))
}

pub(super) async fn bit_rot<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let mut rotten = Vec::new();
    for _ in 0..ROTTEN {
        let content = Content::new(scene.canaries.draw(u64::MAX), ROTTEN_BYTES);
        scene.canaries.plant(scene.view.first(), content).await?;
        rotten.push(content);
    }
    scene.until_sound().await?;
    let since = Instant::now();
    for canary in &rotten {
        // Where readers are sent first: so it is found by a read, and not only when the scrub comes by in some days.
        let found = scene.view.whereabouts(*canary).await?;
        let name = found.live().next().context("a canary is nowhere")?;
        let node = scene.called(name)?;
        scene.damage(node, *canary).await?;
        scene.say(&format!("a bit of a replica on {node} has flipped"));
    }
    let started = Instant::now();
    while !all_found(scene, &rotten).await? {
        if started.elapsed() > NOTICE_LIMIT {
            bail!("the damage was not found");
        }
    }
    scene.until_healthy().await?;
    Ok(Ending::Recovered(since.elapsed()))
}

/// Reads the damaged ones once more through every gateway. A wrong byte is counted by the canaries. `true` when no damaged
/// replica is left in its place.
async fn all_found<S: Substrate>(scene: &mut Scene<'_, S>, rotten: &[Content]) -> Result<bool> {
    for gateway in scene.view.gateways() {
        for canary in rotten {
            scene.canaries.read(gateway, *canary).await;
        }
    }
    for datanode in scene.substrate.datanodes() {
        let found = scene.substrate.look(datanode, rotten).await?;
        if found.contains(&ReplicaState::Damaged) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) async fn full_disk<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<Ending> {
    let victim = scene.victim()?;
    if let Some(obstacle) = scene.substrate.fill_obstacle(victim).await {
        return Ok(Ending::Skipped(obstacle));
    }
    let since = Instant::now();
    scene.fill(victim).await?;
    let has_no_room = |seen: &serde_json::Value| {
        let room = seen["available_bytes"].as_u64();
        room.is_some_and(|room| room < NO_ROOM_BYTES)
    };
    scene.until_seen(victim, "is full", has_no_room).await?;
    scene.plant(CHANGED, LARGEST_BYTES).await?;
    scene.delete(CHANGED).await?;
    scene.say(&format!(
        "{CHANGED} canaries were uploaded and {CHANGED} deleted meanwhile"
    ));
    scene.free(victim).await?;
    let has_room = |seen: &serde_json::Value| !has_no_room(seen);
    scene.until_seen(victim, "has room", has_room).await?;
    scene.until_healthy().await?;
    Ok(Ending::Recovered(since.elapsed()))
}
