//! `admin migrate`: the schema of a stopped namenode's database, and the way to the newest one and back.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use richardstore_namenode::{KeptCopy, Upgrade, UpgradeStatus};
use serde_json::{Value, json};

use crate::output::{Output, human_bytes};

/// Where, and what. Without an action it says how it stands.
#[derive(Debug, Args)]
pub struct MigrateArguments {
    /// The directory of the stopped namenode (a datanode's needs nothing: its index is made anew)
    #[arg(long, env = "RICHARDSTORE_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    action: Action,
    /// With --rollback: lose what was uploaded and deleted since the upgrade
    #[arg(long, env = "RICHARDSTORE_DISCARD_CHANGES", requires = "rollback")]
    discard_changes: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Action {
    /// Take all steps and throw the result away
    #[arg(long, env = "RICHARDSTORE_DRY_RUN")]
    dry_run: bool,
    /// Keep a copy and bring the database to this schema
    #[arg(long, env = "RICHARDSTORE_TO", value_name = "SCHEMA")]
    to: Option<u32>,
    /// Remove the copy of before: there is no way back then
    #[arg(long, env = "RICHARDSTORE_FINALIZE")]
    finalize: bool,
    /// Put the copy of before back
    #[arg(long, env = "RICHARDSTORE_ROLLBACK")]
    rollback: bool,
}

/// Does it. Blocks: nothing else runs in this process.
pub fn run(arguments: &MigrateArguments, output: Output) -> Result<()> {
    let is_datanode = arguments.dir.join("identity.json").is_file();
    if is_datanode {
        bail!(
            "{} is the directory of a datanode: replicas have no schema, and an index of another schema is made anew from \
             them when the datanode starts",
            arguments.dir.display()
        );
    }
    let upgrade = Upgrade::open(&arguments.dir)?;
    let Action {
        dry_run,
        to,
        finalize,
        rollback,
    } = arguments.action;
    if let Some(to) = to {
        let changed = upgrade.climb(to)?;
        let done = json!({"schema": to, "changed": changed});
        return Ok(output.line(&done, |_| match changed {
            true => format!(
                "the database has schema {to} now; a copy of before is kept until --finalize"
            ),
            false => format!("the database has schema {to} already"),
        })?);
    }
    if finalize {
        let removed = upgrade.finalize()?;
        let done = json!({"removed": removed.iter().map(of_copy).collect::<Vec<_>>()});
        return Ok(output.line(&done, |_| format!("{} copies were removed", removed.len()))?);
    }
    if rollback {
        let copy = upgrade.roll_back(arguments.discard_changes)?;
        let done = json!({"schema": copy.schema});
        return Ok(output.line(&done, |_| {
            format!(
                "the database has schema {} again; start the version that wrote it",
                copy.schema
            )
        })?);
    }
    if dry_run {
        upgrade.rehearse()?;
    }
    let status = upgrade.status()?;
    Ok(output.line(&of_status(&status, dry_run), |_| describe(&status, dry_run))?)
}

fn of_copy(copy: &KeptCopy) -> Value {
    json!({"schema": copy.schema, "path": copy.path, "bytes": copy.bytes})
}

fn of_status(status: &UpgradeStatus, rehearsed: bool) -> Value {
    let steps = status.steps.iter();
    let steps: Vec<Value> = steps
        .map(|(to, summary)| json!({"to": to, "summary": summary}))
        .collect();
    json!({
        "schema": status.found,
        "known": status.known,
        "steps": steps,
        "rehearsed": rehearsed,
        "copies": status.copies.iter().map(of_copy).collect::<Vec<_>>(),
    })
}

fn describe(status: &UpgradeStatus, rehearsed: bool) -> String {
    let UpgradeStatus {
        found,
        known,
        steps,
        copies,
    } = status;
    let mut lines = vec![format!("schema {found}, this build writes {known}")];
    for (to, summary) in steps {
        lines.push(format!("step to {to}: {summary}"));
    }
    if rehearsed {
        lines.push("all steps were taken and thrown away: nothing has changed".to_owned());
    }
    for copy in copies {
        lines.push(format!(
            "kept from schema {}: {} ({})",
            copy.schema,
            copy.path.display(),
            human_bytes(copy.bytes)
        ));
    }
    lines.join("\n")
}
