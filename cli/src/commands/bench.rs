//! `bench`: how fast the store is, beside what the machine allows.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use richardstore_bench::{Mode, Pace, Plan, Sheet};
use tokio_util::sync::CancellationToken;

use crate::arguments::parse_byte_count;
use crate::exit::Interrupted;
use crate::output::Output;

/// Enough that the same one is not read again at once.
const PREPARED_FILES: usize = 4_000;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArgument {
    /// The bare machine: disk, hashes, gRPC, HTTP, redb
    Limits,
    /// Uploads
    Put,
    /// Downloads
    Get,
    /// Seven downloads, two uploads and a delete of ten
    Mixed,
    /// Deletes
    Delete,
    /// Uploads of what is there already
    Known,
    /// A namenode alone
    Namenode,
    /// Block reports
    Report,
    /// Making a lost datanode's replicas again
    Repair,
    /// All of these
    All,
}

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// What to measure; the limits of the machine are always measured with it
    #[arg(value_enum, default_values = ["put", "get"])]
    modes: Vec<ModeArgument>,
    /// Sizes of files
    #[arg(long, env = "RICHARDSTORE_BENCH_SIZES", default_value = "4KiB,64KiB,1MiB,64MiB", value_delimiter = ',', value_parser = parse_byte_count, value_name = "BYTES")]
    sizes: Vec<u64>,
    /// Callers at once
    #[arg(
        long,
        env = "RICHARDSTORE_BENCH_CALLERS",
        default_value = "1,16,64",
        value_delimiter = ',',
        value_name = "COUNT"
    )]
    callers: Vec<usize>,
    /// How long each figure is measured
    #[arg(
        long,
        env = "RICHARDSTORE_BENCH_SECONDS",
        default_value_t = 5.0,
        value_name = "SECONDS"
    )]
    seconds: f64,
    /// Operations a second that begin whether or not earlier ones are answered [default: the next begins with the answer]
    #[arg(long, env = "RICHARDSTORE_BENCH_RATE", value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Each figure is the median of so many
    #[arg(
        long,
        env = "RICHARDSTORE_BENCH_REPEAT",
        default_value_t = 1,
        value_name = "COUNT"
    )]
    repeat: usize,
    /// By the native client in place of HTTP
    #[arg(long, env = "RICHARDSTORE_BENCH_NATIVE")]
    native: bool,
    /// Files that the namenode alone is measured with
    #[arg(
        long,
        env = "RICHARDSTORE_BENCH_FILES",
        default_value = "1000000",
        value_delimiter = ',',
        value_name = "COUNT"
    )]
    files: Vec<u64>,
    /// Small files that a datanode is lost with; of large ones a 64th
    #[arg(
        long,
        env = "RICHARDSTORE_BENCH_REPAIR_FILES",
        default_value_t = 4096,
        value_name = "COUNT"
    )]
    repair_files: u64,
    /// Where stores are made, and removed again; on the disk that is to be measured
    #[arg(long, env = "RICHARDSTORE_BENCH_DIR", default_value = ".")]
    dir: PathBuf,
    /// A gateway that runs already, in place of a store made for this; needs --of-namenode
    #[arg(
        long,
        env = "RICHARDSTORE_BENCH_GATEWAY",
        value_name = "HOST:PORT",
        value_parser = host_port,
        requires = "existing_namenode"
    )]
    gateway: Option<String>,
    /// The namenode of that gateway
    #[arg(
        long = "of-namenode",
        env = "RICHARDSTORE_BENCH_NAMENODE",
        value_name = "HOST:PORT",
        value_parser = host_port
    )]
    existing_namenode: Option<String>,
    /// Compare with what an earlier run printed with --json
    #[arg(long, env = "RICHARDSTORE_BENCH_COMPARE", value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Every mode, very short: shows that it works and measures nothing
    #[arg(long, env = "RICHARDSTORE_BENCH_SMOKE")]
    smoke: bool,
}

/// An address, also in the form that a browser shows.
fn host_port(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    match bare.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() =>
        {
            Ok(bare.to_owned())
        }
        _ => Err("not a HOST:PORT".to_owned()),
    }
}

impl BenchArguments {
    fn plan(&self) -> Plan {
        let mut modes: Vec<Mode> = self.modes.iter().flat_map(|mode| mode.modes()).collect();
        modes.dedup();
        let plan = Plan {
            modes,
            sizes: self
                .sizes
                .iter()
                .map(|&size| usize::try_from(size.max(1)).unwrap_or(usize::MAX))
                .collect(),
            callers: self.callers.iter().map(|&count| count.max(1)).collect(),
            duration: Duration::from_secs_f64(self.seconds.clamp(0.01, 3600.0)),
            pace: self
                .rate
                .map_or(Pace::Closed, |rate| Pace::Open(rate.max(0.001))),
            native: self.native,
            repeat: self.repeat.max(1),
            namenode_files: self.files.clone(),
            prepared_files: PREPARED_FILES,
            repair_files: self.repair_files,
            place: self.dir.clone(),
            running: self.gateway.clone().zip(self.existing_namenode.clone()),
        };
        if !self.smoke {
            return plan;
        }
        Plan {
            modes: Mode::ALL.to_vec(),
            sizes: vec![4 << 10, 2 << 20],
            callers: vec![4],
            duration: Duration::from_millis(200),
            repeat: 1,
            namenode_files: vec![2_000],
            prepared_files: 32,
            repair_files: 64,
            ..plan
        }
    }
}

impl ModeArgument {
    fn modes(self) -> Vec<Mode> {
        match self {
            Self::Limits => vec![Mode::Limits],
            Self::Put => vec![Mode::Put],
            Self::Get => vec![Mode::Get],
            Self::Mixed => vec![Mode::Mixed],
            Self::Delete => vec![Mode::Delete],
            Self::Known => vec![Mode::Known],
            Self::Namenode => vec![Mode::Namenode],
            Self::Report => vec![Mode::Report],
            Self::Repair => vec![Mode::Repair],
            Self::All => Mode::ALL.to_vec(),
        }
    }
}

/// Measures, and prints the table.
pub async fn run(arguments: BenchArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let old = match &arguments.compare {
        Some(path) => Some(read_sheet(path)?),
        None => None,
    };
    let plan = arguments.plan();
    let measuring = richardstore_bench::run(&plan, |row| {
        tracing::info!(name = %row.name, per_second = row.per_second, "measured");
    });
    let sheet = tokio::select! {
        sheet = measuring => sheet?,
        () = stop.cancelled() => return Err(Interrupted.into()),
    };
    output.line(&sheet, Sheet::to_string)?;
    if let Some(old) = old {
        output.line(&sheet, |sheet| sheet.compare(&old))?;
    }
    let failed: u64 = sheet.rows.iter().map(|row| row.failed).sum();
    anyhow::ensure!(failed == 0, "{failed} operations failed");
    Ok(())
}

fn read_sheet(path: &std::path::Path) -> Result<Sheet> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no sheet", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_what_a_browser_shows() {
        for text in [
            "127.0.0.1:80",
            "http://127.0.0.1:80",
            "http://127.0.0.1:80/",
        ] {
            assert_eq!(host_port(text).as_deref(), Ok("127.0.0.1:80"));
        }
        for text in [
            "",
            ":80",
            "host",
            "host:port",
            "https://host:80",
            "host:80/path",
        ] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }
}
