//! The namenode as a process of its own, on a database that is there: its memory under load, and SIGKILL.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use richardstore_drills::{Process, ProcessSpec};

use super::Plan;
use super::namenode::{Callers, DEAD_AFTER_MS, LEASE, STALE_AFTER_MS, per_file};
use super::repair::address_of;
use crate::load::Load;
use crate::process_meter::ProcessMeter;
use crate::row::Row;
use crate::test_store::this_binary;

/// It is killed so long after a load began that it is in the middle of it.
const KILLED_AFTER: Duration = Duration::from_millis(500);

/// Two rows: commits with what the process takes, and from its start after SIGKILL to its first answer.
pub(super) async fn killed(
    plan: &Plan,
    directory: &Path,
    files: u64,
    filled: &mut u64,
) -> Result<Vec<Row>> {
    let spec = spec(directory)?;
    let process = spec.start("listening on").await?;
    let (callers, _) = Callers::of(&address_of(&process)?).await?;
    let meter = ProcessMeter::new(process.id().context("it runs")?);
    let before = meter.usage()?;
    let timings = callers.commit(Load::closed(plan.duration), *filled).await?;
    let used = meter.usage()?.since(before);
    *filled += (timings.operations + LEASE) * LEASE;
    let name = format!("namenode: own process, commit, at {files}");
    let under_load = per_file(name, &timings).with_usage(used, 0);
    let mut rows =
        vec![under_load.with_bytes_each(
            used.written_bytes as f64 / (timings.operations * LEASE).max(1) as f64,
        )];

    let mut process = Some((process, callers));
    let mut answers = Vec::new();
    for _ in 0..plan.repeat {
        let (running, callers) = process.take().context("one is always started again")?;
        answers.push(kill_and_ask(&spec, running, callers, files, filled).await?);
        let started = spec.start("listening on").await?;
        let (callers, _) = Callers::of(&address_of(&started)?).await?;
        process = Some((started, callers));
    }
    rows.extend(Row::median(answers));
    Ok(rows)
}

/// Kills it while it commits, starts it, and asks it for a file. The start of a process is in the figure.
async fn kill_and_ask(
    spec: &ProcessSpec,
    process: Process,
    callers: Callers,
    files: u64,
    filled: &mut u64,
) -> Result<Row> {
    let from = *filled;
    *filled += LEASE << 16;
    let load = Load::closed(KILLED_AFTER * 4);
    let committing = tokio::spawn(async move { callers.commit(load, from).await });
    tokio::time::sleep(KILLED_AFTER).await;
    process.kill().await?;
    // Ends in errors: nobody is there.
    committing.abort();
    let begun = Instant::now();
    let again = spec.start("listening on").await?;
    let callers = Callers::asking(&address_of(&again)?)?;
    callers.look_up_one(files).await?;
    let seconds = begun.elapsed().as_secs_f64();
    again.kill().await?;
    Ok(Row::rate(
        format!("namenode: SIGKILL to first answer, at {files}"),
        1,
        seconds,
        0,
    ))
}

fn spec(directory: &Path) -> Result<ProcessSpec> {
    let mut arguments: Vec<OsString> = vec!["namenode".into(), "--dir".into()];
    arguments.push(directory.join("namenode").into());
    let fixed = ["--listen", "127.0.0.1:0", "--log", "warn"].map(OsString::from);
    arguments.extend(fixed);
    let timing = [
        format!("--stale-after-ms={STALE_AFTER_MS}"),
        format!("--dead-after-ms={DEAD_AFTER_MS}"),
        "--copy-interval-ms=0".to_owned(),
    ];
    arguments.extend(timing.map(OsString::from));
    Ok(ProcessSpec {
        binary: this_binary()?,
        arguments,
        log: directory.join("namenode.log"),
    })
}
