//! [`run_drill`]: one drill from the first canary to the last.

use anyhow::Result;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::canaries::Canaries;
use super::probes::{Probes, Unavailable};
use super::report::seconds;
use super::scene::{Narrator, Scene};
use super::{Drill, DrillReport, Ending, Outcome};
use crate::Substrate;

/// How large a drill is.
#[derive(Debug, Clone, Copy)]
pub struct DrillOptions {
    /// Canaries that are there from the beginning.
    pub canaries: usize,
    /// Bytes of the largest of them.
    pub largest_bytes: u64,
    /// Decides their contents and the moments of faults. A seed must not be used twice on one cluster.
    pub seed: u64,
}

/// Holds a drill. It always comes to an end: what fails, and whatever `stop` interrupts, is undone and reported.
pub async fn run_drill<S: Substrate>(
    drill: Drill,
    substrate: &mut S,
    options: DrillOptions,
    narrate: Narrator<'_>,
    stop: &CancellationToken,
) -> DrillReport {
    let started = Instant::now();
    let on = substrate.name();
    let canaries = Canaries::new(options.seed);
    let mut report = match Scene::new(substrate, canaries.clone(), narrate) {
        Ok(scene) => hold(drill, on, scene, options, stop).await,
        Err(error) => DrillReport::new(drill.name(), on, Outcome::Failed, format!("{error:#}")),
    };
    report.seconds = seconds(started.elapsed());
    report
}

async fn hold<S: Substrate>(
    drill: Drill,
    on: &'static str,
    mut scene: Scene<'_, S>,
    options: DrillOptions,
    stop: &CancellationToken,
) -> DrillReport {
    let mut probes = None;
    let playing = async {
        scene.say("waiting for a healthy cluster");
        scene.until_healthy().await?;
        scene.plant(options.canaries, options.largest_bytes).await?;
        scene.until_sound().await?;
        scene.say(&format!("{} canaries are in place", options.canaries));
        probes = Some(Probes::start(&scene.canaries, scene.view.gateways()));
        drill.play(&mut scene).await
    };
    let played = tokio::select! {
        played = playing => Some(played),
        () = stop.cancelled() => None,
    };
    let mut report = DrillReport::new(drill.name(), on, Outcome::Passed, String::new());
    match played {
        Some(Ok(Ending::Recovered(time))) => report.recovery_seconds = Some(seconds(time)),
        Some(Ok(Ending::Skipped(reason))) => {
            report.outcome = Outcome::Skipped;
            report.reason = reason;
        }
        Some(Err(error)) => report.fail(format!("{error:#}")),
        None => report.outcome = Outcome::Interrupted,
    }
    let unavailable = match probes {
        Some(probes) => probes.finish().await,
        None => Unavailable::default(),
    };
    if let Err(error) = clear_up(&mut scene).await {
        report.fail(format!("{error:#}"));
    }
    report.count(scene.canaries.tally(), unavailable);
    report
}

/// Whatever happened: the cluster as it was, everything that was promised checked, and no canary left. Each of them is tried
/// where the one before failed.
async fn clear_up<S: Substrate>(scene: &mut Scene<'_, S>) -> Result<()> {
    let undone = scene.undo_all().await;
    let healthy = match scene.canaries.touched() {
        // Nothing was done to this cluster: it need not be healthy, and nobody waits until it is.
        0 => return undone,
        _ => scene.until_healthy().await,
    };
    scene.say("reading everything that was acknowledged, and removing it");
    let gateways = scene.view.gateways().to_vec();
    let checked = scene.canaries.check(&gateways).await;
    let removed = scene.canaries.remove(&gateways).await;
    undone.and(healthy).and(checked).and(removed)
}
