//! Block reports of one datanode to a namenode that knows its files.

use std::time::Instant;

use anyhow::{Result, ensure};
use richardstore_proto::Generation;

use super::Plan;
use super::namenode::{Alone, LEASE, claims, name_of};
use crate::fake_datanode::{Claim, FakeDatanode, Holdings};
use crate::place::Place;
use crate::row::Row;

/// Replicas of which the namenode knows nothing.
const DIFFERENCES: usize = 1000;
/// Events of one incremental report, as datanodes send them.
const EVENTS: usize = 256;
const REPORTS: usize = 80;

pub(super) async fn run(plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &files in plan.namenode_files.iter().take(1) {
        let directory = Place::under(&plan.place)?;
        let mut alone = Alone::start(directory.path()).await?;
        let files = files.next_multiple_of(LEASE);
        alone.callers().fill(0, files).await?;
        let held = Holdings::new(claims(alone.callers(), files).await?);
        // Replicas that the namenode does not have for it: every range of the hashes differs.
        let more = held.with((files..).take(DIFFERENCES).map(|file| Claim {
            hash: name_of(file),
            generation: Generation(file + 1_000_000_000),
        }));
        let mut datanode = alone.datanodes.remove(0);

        let (mut agreeing, mut differing, mut incremental) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.repeat {
            let name = format!("report: full of {files}, agreeing");
            let (row, listed) = full(&mut datanode, name, &held).await?;
            ensure!(listed == 0, "{listed} entries were listed");
            agreeing.push(row);
            let name = format!("report: full of {files}, {DIFFERENCES} differ");
            let (row, listed) = full(&mut datanode, name, &more).await?;
            ensure!(listed > DIFFERENCES, "only {listed} entries were listed");
            differing.push(row);
            let known = held.claims().chunks(EVENTS).take(REPORTS);
            let begun = Instant::now();
            let mut events = 0;
            for claims in known {
                datanode.incremental_report(claims).await?;
                events += claims.len() as u64;
            }
            let seconds = begun.elapsed().as_secs_f64();
            incremental.push(Row::rate("report: incremental, events", events, seconds, 0));
        }
        rows.extend(Row::median(agreeing));
        rows.extend(Row::median(differing));
        rows.extend(Row::median(incremental));
        alone.stop().await;
    }
    Ok(rows)
}

/// A full report of `held`, and how many replicas were listed in it.
async fn full(datanode: &mut FakeDatanode, name: String, held: &Holdings) -> Result<(Row, usize)> {
    datanode.take_report_bytes();
    let begun = Instant::now();
    let listed = datanode.full_report(held).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = datanode.take_report_bytes();
    Ok((
        Row::rate(name, 1, seconds, 0).with_bytes_each(bytes as f64),
        listed,
    ))
}
