//! `admin load` and `admin restore`: a dump of everything becomes the metadata of an empty namenode directory.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use richardstore_namenode::{DumpSummary, load, verify_dump};
use serde_json::json;

use crate::output::Output;

const BUFFER_BYTES: usize = 256 << 10;

/// From what, into what.
#[derive(Debug, Args)]
pub struct LoadArguments {
    /// A dump of everything or a copy of the metadata; - is standard input
    file: PathBuf,
    /// The directory of the namenode, without a database
    #[arg(
        long,
        env = "RICHARDSTORE_DIR",
        default_value = "./richardstore-data/namenode"
    )]
    dir: PathBuf,
    /// Replicas of files that are not in it, and come back from the datanodes' reports
    #[arg(long, env = "RICHARDSTORE_REPLICATION", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    replication: u32,
}

/// Loads it.
pub async fn run(arguments: LoadArguments, output: Output) -> Result<()> {
    let summary = tokio::task::spawn_blocking(move || load_file(&arguments)).await??;
    print(&summary, output)
}

/// Says what was loaded.
pub fn print(summary: &DumpSummary, output: Output) -> Result<()> {
    let value = json!({
        "cluster_id": summary.cluster_id.to_string(),
        "epoch": summary.epoch,
        "files": summary.files,
        "bytes": summary.bytes,
        "tombstones": summary.tombstones,
    });
    output.line(&value, |_| {
        format!(
            "cluster {}: {} files of {} bytes, {} deletes under way; what came after it is taken from the datanodes when the namenode starts",
            summary.cluster_id, summary.files, summary.bytes, summary.tombstones
        )
    })?;
    Ok(())
}

fn load_file(arguments: &LoadArguments) -> Result<DumpSummary> {
    let LoadArguments {
        file,
        dir,
        replication,
    } = arguments;
    let loaded = if file == Path::new("-") {
        load(dir, io::stdin().lock(), *replication)
    } else {
        // Whole before anything is made: a dump that is damaged at its end should not take the time of loading it.
        let open = || -> Result<_> {
            let file = File::open(file).with_context(|| format!("{}", file.display()))?;
            Ok(BufReader::with_capacity(BUFFER_BYTES, file))
        };
        verify_dump(open()?).with_context(|| format!("{}", file.display()))?;
        load(dir, open()?, *replication)
    };
    loaded.with_context(|| format!("nothing was loaded into {}", dir.display()))
}
