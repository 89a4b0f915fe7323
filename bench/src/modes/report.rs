//! Block reports of one datanode to a namenode that knows its files.

use std::time::Instant;

use anyhow::{Result, ensure};
use richardstore_proto::Generation;

use super::Plan;
use super::namenode::{Alone, claims, name_of};
use crate::fake_datanode::Claim;
use crate::row::Row;

/// Replicas of which the namenode knows nothing.
const DIFFERENCES: usize = 1000;
/// Events of one incremental report, as datanodes send them.
const EVENTS: usize = 1000;

pub(super) async fn run(plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &files in plan.namenode_files.iter().take(1) {
        let directory = tempfile::TempDir::with_prefix_in("richardstore-bench-", &plan.place)?;
        let mut alone = Alone::start(directory.path()).await?;
        let files = files.next_multiple_of(64);
        alone.fill(0, files).await?;
        let mut held = claims(&alone, files).await?;
        let mut datanode = alone.datanodes.remove(0);

        let begun = Instant::now();
        let listed = datanode.full_report(&held).await?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(listed == 0, "{listed} entries were listed");
        rows.push(Row::rate(
            format!("report: full of {files}, equal"),
            1,
            seconds,
            0,
        ));

        // Replicas that the namenode does not have for it: every range of the hashes differs.
        let spread = (files..).take(DIFFERENCES).map(|file| Claim {
            hash: name_of(file),
            generation: Generation(file + 1_000_000_000),
        });
        held.extend(spread);
        held.sort();
        let begun = Instant::now();
        let listed = datanode.full_report(&held).await?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(listed > DIFFERENCES, "only {listed} entries were listed");
        let name = format!("report: full of {files}, {DIFFERENCES} differ");
        rows.push(Row::rate(name, 1, seconds, 0));

        let known = &held[..held.len().min(EVENTS * 20)];
        let begun = Instant::now();
        for events in known.chunks(EVENTS) {
            datanode.incremental_report(events).await?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let events = known.len() as u64;
        rows.push(Row::rate("report: incremental, events", events, seconds, 0));
        alone.stop().await;
    }
    Ok(rows)
}
