//! `admin fsck`: looks at every file, and at every replica where that is asked for.

mod verify;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::StreamExt;
use richardstore_client::{CheckFinding, CheckTotals, Client};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::verify::{VerifyTotals, verify_all};
use crate::arguments::NamenodeAddress;
use crate::exit::ProblemsFound;
use crate::output::{Output, human_bytes};
use crate::session::Session;

/// How thoroughly.
#[derive(Debug, Args)]
pub struct FsckArguments {
    /// Have datanodes read every replica and prove that they hold the bytes
    #[arg(long, env = "RICHARDSTORE_VERIFY")]
    verify: bool,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// The last line.
#[derive(Debug, Serialize)]
struct Summary {
    problems: u64,
    #[serde(flatten)]
    files: CheckTotals,
    verified: Option<VerifyTotals>,
}

/// Lists what is wrong, sums it up, and fails where anything is.
pub async fn run(arguments: FsckArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let work = fsck(&session.client, arguments.verify, output);
    session.run(Box::pin(work)).await
}

async fn fsck(client: &Client, verify: bool, output: Output) -> Result<()> {
    let files = check(client, output).await?;
    let verified = match verify {
        true => Some(verify_all(client, output).await?),
        false => None,
    };
    let of_files = files.files - files.healthy;
    let of_replicas = verified.as_ref().map_or(0, VerifyTotals::problems);
    let problems = of_files.saturating_add(of_replicas);
    let summary = Summary {
        problems,
        files,
        verified,
    };
    output.line(&summary, describe)?;
    match problems {
        0 => Ok(()),
        count => Err(ProblemsFound { count }.into()),
    }
}

async fn check(client: &Client, output: Output) -> Result<CheckTotals> {
    let mut parts = Box::pin(client.check().await.context("cannot check the files")?);
    while let Some(part) = parts.next().await {
        let part = part.context("the check broke off")?;
        for finding in &part.findings {
            output.line(finding, describe_finding)?;
        }
        if part.done {
            return Ok(part.totals);
        }
    }
    bail!("the check broke off")
}

fn describe_finding(finding: &CheckFinding) -> String {
    let CheckFinding {
        state,
        summary,
        file,
    } = finding;
    let on: Vec<String> = file
        .replicas
        .iter()
        .map(|replica| format!("{} {}", replica.name, replica.state.as_str()))
        .collect();
    let on = match on.is_empty() {
        true => "nowhere".to_owned(),
        false => on.join(", "),
    };
    format!("{}  {state}: {summary} On record: {on}.", file.hash)
}

fn describe(summary: &Summary) -> String {
    let files = &summary.files;
    let mut lines = vec![
        format!(
            "{}: {} files ({}), {} healthy",
            if summary.problems == 0 {
                "healthy"
            } else {
                "problems"
            },
            files.files,
            human_bytes(files.bytes),
            files.healthy
        ),
        format!(
            "{} missing, {} damaged, {} under-replicated, {} over-replicated, {} misplaced",
            files.missing,
            files.damaged,
            files.under_replicated,
            files.over_replicated,
            files.misplaced
        ),
        format!(
            "{} deletes not confirmed, {} orphaned replicas, {} foreign replicas",
            files.unconfirmed_deletes, files.orphaned_replicas, files.foreign_replicas
        ),
    ];
    if let Some(verified) = &summary.verified {
        lines.push(format!(
            "{} replicas ({}) proven, {} wrong, {} that could not be asked",
            verified.proven,
            human_bytes(verified.bytes),
            verified.wrong,
            verified.unknown
        ));
    }
    lines.join("\n")
}
