//! Settings of the roles that `dev` has too.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use richardstore_datanode::DatanodeConfig;
use richardstore_gateway::GatewayConfig;
use richardstore_namenode::NamenodeConfig;
use richardstore_store::{Depth, Layout, LayoutError};

use super::byte_count::parse_byte_count;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings of a namenode.
#[derive(Debug, Clone, Args)]
pub struct NamenodeTuning {
    /// Replicas of a file whose writer does not say
    #[arg(long, env = "RICHARDSTORE_REPLICATION", default_value_t = 3)]
    replication: u32,
    /// Replicas on disk before a write is acknowledged; fewer where there are fewer datanodes
    #[arg(long, env = "RICHARDSTORE_MIN_REPLICATION", default_value_t = 2)]
    min_replication: u32,
    /// How often datanodes report
    #[arg(
        long,
        env = "RICHARDSTORE_HEARTBEAT_INTERVAL_MS",
        default_value_t = 1_000
    )]
    heartbeat_interval_ms: u64,
    /// A datanode silent for this long gets no new writes and is read last
    #[arg(long, env = "RICHARDSTORE_STALE_AFTER_MS", default_value_t = 5_000)]
    stale_after_ms: u64,
    /// A datanode silent for this long is lost, and its replicas with it
    #[arg(long, env = "RICHARDSTORE_DEAD_AFTER_MS", default_value_t = 30_000)]
    dead_after_ms: u64,
    /// A write neither committed nor renewed for this long is given up
    #[arg(long, env = "RICHARDSTORE_WRITE_TIMEOUT_MS", default_value_t = 60_000)]
    write_timeout_ms: u64,
    /// Bytes a second that repair copies from and to each datanode; 0 makes no copies
    #[arg(long, env = "RICHARDSTORE_REPAIR_BYTES_PER_SECOND", default_value = "100MiB", value_parser = parse_byte_count, value_name = "BYTES")]
    repair_bytes_per_second: u64,
    /// How often the metadata is copied, into the directory and into the store; 0 never does
    #[arg(
        long,
        env = "RICHARDSTORE_COPY_INTERVAL_MS",
        default_value_t = 3_600_000
    )]
    copy_interval_ms: u64,
    /// Copies of the metadata that are kept
    #[arg(long, env = "RICHARDSTORE_COPIES_KEPT", default_value_t = 24)]
    copies_kept: usize,
    /// Memory for the database's cache
    #[arg(long, env = "RICHARDSTORE_CACHE", default_value = "64MiB", value_parser = parse_byte_count, value_name = "BYTES")]
    cache: u64,
    /// Room on the disk that the metadata leaves free; below it no new files are taken
    #[arg(long, env = "RICHARDSTORE_METADATA_RESERVE", default_value = "128MiB", value_parser = parse_byte_count, value_name = "BYTES")]
    metadata_reserve: u64,
}

/// Settings of a datanode.
#[derive(Debug, Clone, Args)]
pub struct DatanodeTuning {
    /// Room on the volume that replicas leave free
    #[arg(long, env = "RICHARDSTORE_HEADROOM", default_value = "1GiB", value_parser = parse_byte_count, value_name = "BYTES")]
    headroom: u64,
    /// Room that replicas may take, whatever the volume has
    #[arg(long, env = "RICHARDSTORE_CAPACITY", value_parser = parse_byte_count, value_name = "BYTES")]
    capacity: Option<u64>,
    /// Hex digits of one directory name, for a directory that is formatted now
    #[arg(
        long,
        env = "RICHARDSTORE_BLOCK_SIZE",
        requires = "depth",
        value_name = "DIGITS"
    )]
    block_size: Option<u8>,
    /// Levels of directories, or `full`, for a directory that is formatted now
    #[arg(long, env = "RICHARDSTORE_DEPTH", requires = "block_size", value_parser = parse_depth, value_name = "LEVELS")]
    depth: Option<Depth>,
    /// Memory for the index's cache
    #[arg(long, env = "RICHARDSTORE_INDEX_CACHE", default_value = "16MiB", value_parser = parse_byte_count, value_name = "BYTES")]
    index_cache: u64,
    /// Pipeline writes at once
    #[arg(long, env = "RICHARDSTORE_MAX_WRITES", default_value_t = 256)]
    max_writes: usize,
    /// Reads and copies at once
    #[arg(long, env = "RICHARDSTORE_MAX_READS", default_value_t = 256)]
    max_reads: usize,
    /// Every replica is read and checked once in so many days; 0 never does
    #[arg(
        long,
        env = "RICHARDSTORE_SCRUB_INTERVAL_DAYS",
        default_value_t = 21,
        value_name = "DAYS"
    )]
    scrub_interval_days: u32,
    /// Bytes a second that this check reads at most; 0 turns it off
    #[arg(long, env = "RICHARDSTORE_SCRUB_BYTES_PER_SECOND", default_value = "32MiB", value_parser = parse_byte_count, value_name = "BYTES")]
    scrub_bytes_per_second: u64,
}

/// Settings of a gateway.
#[derive(Debug, Clone, Args)]
pub struct GatewayTuning {
    /// Largest body of one upload
    #[arg(long, env = "RICHARDSTORE_BODY_LIMIT", default_value = "64GiB", value_parser = parse_byte_count, value_name = "BYTES")]
    body_limit: u64,
    /// Origins whose pages may call the gateway from a browser, separated by commas; `*` is all
    #[arg(
        long,
        env = "RICHARDSTORE_CORS_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    cors_origins: Vec<String>,
    /// Connections open at once
    #[arg(long, env = "RICHARDSTORE_MAX_CONNECTIONS", default_value_t = 1024)]
    max_connections: usize,
    /// How long the headers of a request may take
    #[arg(long, env = "RICHARDSTORE_HEADER_TIMEOUT_MS", default_value_t = 10_000)]
    header_timeout_ms: u64,
    /// How long a transfer may stand still
    #[arg(
        long,
        env = "RICHARDSTORE_PROGRESS_TIMEOUT_MS",
        default_value_t = 30_000
    )]
    progress_timeout_ms: u64,
    /// Least rate of an upload; 0 asks for none
    #[arg(
        long,
        env = "RICHARDSTORE_MIN_BODY_BYTES_PER_SECOND",
        default_value_t = 256
    )]
    min_body_bytes_per_second: u64,
    /// Files of which is remembered for a moment where they are; 0 asks the namenode for each download
    #[arg(long, env = "RICHARDSTORE_REMEMBERED_FILES", default_value_t = 16_384)]
    remembered_files: usize,
}

impl NamenodeTuning {
    /// The settings of a namenode in `dir`.
    pub fn config(&self, dir: PathBuf, listen: String) -> NamenodeConfig {
        NamenodeConfig {
            dir,
            listen,
            advertise: None,
            replication: self.replication,
            min_replication: self.min_replication,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            stale_after_ms: self.stale_after_ms,
            dead_after_ms: self.dead_after_ms,
            write_timeout_ms: self.write_timeout_ms,
            location_lease_ms: NamenodeConfig::default().location_lease_ms,
            copy_interval_ms: self.copy_interval_ms,
            copies_kept: self.copies_kept,
            repair_bytes_per_second: self.repair_bytes_per_second,
            cache_bytes: usize::try_from(self.cache).unwrap_or(usize::MAX),
            reserve_bytes: self.metadata_reserve,
            metrics_listen: None,
        }
    }
}

impl DatanodeTuning {
    /// The settings of a datanode in `dir`.
    pub fn config(
        &self,
        dir: PathBuf,
        listen: String,
        namenode: String,
    ) -> Result<DatanodeConfig, LayoutError> {
        let mut config = DatanodeConfig::new(dir, listen, namenode);
        config.headroom_bytes = self.headroom;
        config.capacity_bytes = self.capacity;
        config.layout = match (self.block_size, self.depth) {
            (Some(block_size), Some(depth)) => Some(Layout::new(block_size, depth)?),
            _ => None,
        };
        config.index_cache_bytes = self.index_cache;
        config.max_writes = self.max_writes;
        config.max_reads = self.max_reads;
        config.scrub_interval = DAY * self.scrub_interval_days;
        config.scrub_bytes_per_second = self.scrub_bytes_per_second;
        Ok(config)
    }
}

impl GatewayTuning {
    /// The settings of a gateway.
    pub fn config(&self, listen: String, namenode: String) -> GatewayConfig {
        GatewayConfig {
            listen,
            namenode,
            body_limit_bytes: self.body_limit,
            cors_origins: self.cors_origins.clone(),
            max_connections: self.max_connections,
            header_timeout_ms: self.header_timeout_ms,
            progress_timeout_ms: self.progress_timeout_ms,
            min_body_bytes_per_second: self.min_body_bytes_per_second,
            remembered_files: self.remembered_files,
            replication: None,
        }
    }
}

fn parse_depth(text: &str) -> Result<Depth, String> {
    match text {
        "full" => Ok(Depth::Full),
        levels => levels
            .parse()
            .map(Depth::Levels)
            .map_err(|_| "expected `full` or a number of levels".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    fn parsed<T: Args + FromArgMatches>(flags: &[&str]) -> T {
        let words = std::iter::once("role").chain(flags.iter().copied());
        let matches = T::augment_args(Command::new("role")).get_matches_from(words);
        T::from_arg_matches(&matches).unwrap()
    }

    fn datanode(flags: &[&str]) -> DatanodeConfig {
        let tuning: DatanodeTuning = parsed(flags);
        let config = tuning.config("d".into(), String::new(), String::new());
        config.unwrap()
    }

    #[test]
    fn without_flags_the_rates_are_those_of_the_roles() {
        let namenode: NamenodeTuning = parsed(&[]);
        let config = namenode.config("d".into(), String::new());
        let default = NamenodeConfig::default();
        assert_eq!(
            config.repair_bytes_per_second,
            default.repair_bytes_per_second
        );
        let default = DatanodeConfig::new("d", "", "");
        let config = datanode(&[]);
        assert_eq!(config.scrub_interval, default.scrub_interval);
        assert_eq!(
            config.scrub_bytes_per_second,
            default.scrub_bytes_per_second
        );
    }

    #[test]
    fn flags_set_the_rates_of_repair_and_scrub() {
        let namenode: NamenodeTuning = parsed(&["--repair-bytes-per-second", "5MiB"]);
        let config = namenode.config("d".into(), String::new());
        assert_eq!(config.repair_bytes_per_second, 5 << 20);
        let config = datanode(&[
            "--scrub-interval-days=7",
            "--scrub-bytes-per-second",
            "1GiB",
        ]);
        assert_eq!(config.scrub_interval, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(config.scrub_bytes_per_second, 1 << 30);
    }
}
