//! `drill`: faults on purpose, on a cluster of its own or on yours, and the account of what they cost.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use richardstore_drills::{
    Docker, Drill, DrillOptions, DrillReport, Kubernetes, Local, LocalOptions, Outcome, Random,
    Substrate, Table, run_drill,
};
use tokio_util::sync::CancellationToken;

use crate::exit::Interrupted;
use crate::output::Output;

const ALL: &str = "all";

/// Which drills, and where.
#[derive(Debug, Args)]
pub struct DrillArguments {
    /// The drill, or `all`
    #[arg(value_parser = parse_drills)]
    name: Drills,
    /// What the cluster runs on: `local` starts one of its own on this machine
    #[arg(long, env = "RICHARDSTORE_DRILL_ON", default_value = "local")]
    on: On,
    /// With `local`: where the cluster keeps everything [default: a new directory, removed afterwards]
    #[arg(long, env = "RICHARDSTORE_DIR")]
    dir: Option<PathBuf>,
    /// With `docker`: the compose project
    #[arg(long, env = "COMPOSE_PROJECT_NAME", default_value = "richardstore")]
    project: String,
    /// With `k8s`: the namespace
    #[arg(long, env = "RICHARDSTORE_NAMESPACE", default_value = "richardstore")]
    namespace: String,
    /// With `k8s`: the context in kubectl's configuration [default: the current one]
    #[arg(long, env = "RICHARDSTORE_CONTEXT")]
    context: Option<String>,
    /// With `docker` and `k8s`: `http://host:port` of a gateway; may be given more than once [default: where the compose file and the
    /// manifests have it]
    #[arg(
        long,
        env = "RICHARDSTORE_GATEWAY",
        value_delimiter = ',',
        value_name = "URL"
    )]
    gateway: Vec<String>,
    /// Canaries that are there from the beginning
    #[arg(long, env = "RICHARDSTORE_DRILL_CANARIES", default_value_t = 24)]
    canaries: usize,
    /// Bytes of the largest of them
    #[arg(long, env = "RICHARDSTORE_DRILL_LARGEST", default_value = "1MiB", value_parser = crate::arguments::parse_byte_count, value_name = "BYTES")]
    largest: u64,
}

/// What the cluster runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// Processes of a cluster made for this
    Local,
    /// The containers of k8s/compose.yaml
    Docker,
    /// The pods of the manifests in k8s/
    K8s,
}

/// One drill or all of them, as clap keeps them.
#[derive(Debug, Clone)]
struct Drills(Vec<Drill>);

fn parse_drills(name: &str) -> Result<Drills, String> {
    if name == ALL {
        return Ok(Drills(Drill::ALL.to_vec()));
    }
    match Drill::named(name) {
        Some(drill) => Ok(Drills(vec![drill])),
        None => {
            let names: Vec<_> = Drill::ALL.into_iter().map(Drill::name).collect();
            Err(format!("expected {ALL} or one of {}", names.join(", ")))
        }
    }
}

/// Holds them, one after the other, and prints what they found.
pub async fn run(arguments: DrillArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let urls = arguments.gateway.clone();
    let reports = match arguments.on {
        On::Local => {
            let options = LocalOptions {
                binary: std::env::current_exe().context("where is this binary?")?,
                directory: arguments.dir.clone(),
                small_disk: arguments.name.0.contains(&Drill::FullDisk),
            };
            let mut local = Local::start(options).await?;
            let reports = hold(&arguments, &mut local, output, &stop).await;
            local.close().await;
            reports?
        }
        On::Docker => {
            let mut docker = Docker::find(&arguments.project, urls).await?;
            hold(&arguments, &mut docker, output, &stop).await?
        }
        On::K8s => {
            let context = arguments.context.as_deref();
            let mut pods = Kubernetes::find(&arguments.namespace, context, urls).await?;
            hold(&arguments, &mut pods, output, &stop).await?
        }
    };
    if !output.is_json() {
        output.line(&reports, |reports| Table(reports).to_string())?;
    }
    let failed = reports.iter().filter(|report| !report.is_good()).count();
    if stop.is_cancelled() {
        return Err(Interrupted.into());
    }
    if failed > 0 {
        bail!("{failed} of {} drills failed", reports.len());
    }
    Ok(())
}

async fn hold(
    arguments: &DrillArguments,
    substrate: &mut impl Substrate,
    output: Output,
    stop: &CancellationToken,
) -> Result<Vec<DrillReport>> {
    let started = Instant::now();
    // Never the same contents twice on one cluster: what a canary of an earlier drill left would be taken for this one's.
    let mut seeds = Random::new(uuid::Uuid::new_v4().as_u64_pair().0);
    let mut reports = Vec::new();
    for drill in &arguments.name.0 {
        let name = drill.name();
        let narrate = |words: &str| output.progress(&line(started.elapsed(), name, words));
        let options = DrillOptions {
            canaries: arguments.canaries,
            largest_bytes: arguments.largest,
            seed: seeds.number(),
        };
        let report = run_drill(*drill, substrate, options, &narrate, stop).await;
        narrate(&match report.reason.as_str() {
            "" => report.outcome.to_string(),
            reason => format!("{}: {reason}", report.outcome),
        });
        if output.is_json() {
            output.line(&report, |_| "")?;
        }
        let interrupted = report.outcome == Outcome::Interrupted;
        reports.push(report);
        if interrupted {
            break;
        }
    }
    Ok(reports)
}

fn line(at: Duration, drill: &str, words: &str) -> String {
    format!("{:>7.1}s  {drill}: {words}", at.as_secs_f64())
}
