//! [`NamenodeConfig`]: what an operator can set.

use std::path::PathBuf;

use richardstore_proto::MAX_REPLICATION;

/// Settings of one namenode. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamenodeConfig {
    /// Where the metadata lies.
    pub dir: PathBuf,
    /// `host:port` to listen on; port 0 lets the kernel choose.
    pub listen: String,
    /// `host:port` that others reach it at, where that is not the one it listens on.
    pub advertise: Option<String>,
    /// Replicas of a file whose writer does not say.
    pub replication: u32,
    /// Replicas that must be on disk before a write is acknowledged; fewer where the cluster has fewer datanodes.
    pub min_replication: u32,
    /// How often datanodes report.
    pub heartbeat_interval_ms: u64,
    /// A node silent for this long gets no new writes and is read last.
    pub stale_after_ms: u64,
    /// A node silent for this long is lost, and its replicas with it.
    pub dead_after_ms: u64,
    /// A write that was not committed or renewed for this long is given up.
    pub write_timeout_ms: u64,
    /// Who remembers where files are may use that for so long after it last asked, and a delete waits so long for one that is silent.
    pub location_lease_ms: u64,
    /// Bytes a second that repair may copy from and to each datanode; 0 makes no copies.
    pub repair_bytes_per_second: u64,
    /// How often the metadata is copied; 0 never does.
    pub copy_interval_ms: u64,
    /// Copies that are kept, in the directory and in the store.
    pub copies_kept: usize,
    /// Bytes of memory the database may use as cache.
    pub cache_bytes: usize,
    /// Bytes of the disk that the metadata leaves free. Below that no new files are taken.
    pub reserve_bytes: u64,
    /// `host:port` to show metrics and health at over HTTP; `None`: nowhere.
    pub metrics_listen: Option<String>,
}

impl Default for NamenodeConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("richardstore-data/namenode"),
            listen: "127.0.0.1:9000".to_owned(),
            advertise: None,
            replication: 3,
            min_replication: 2,
            heartbeat_interval_ms: 1_000,
            stale_after_ms: 5_000,
            dead_after_ms: 30_000,
            write_timeout_ms: 60_000,
            location_lease_ms: 1_000,
            repair_bytes_per_second: 100 << 20,
            copy_interval_ms: 3_600_000,
            copies_kept: 24,
            cache_bytes: 64 << 20,
            reserve_bytes: 128 << 20,
            metrics_listen: None,
        }
    }
}

/// A setting without sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {setting}: {problem}")]
pub struct ConfigError {
    /// Which.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl NamenodeConfig {
    /// Checks that the settings fit each other.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn check(&self) -> Result<(), ConfigError> {
        let most = u32::try_from(MAX_REPLICATION).unwrap_or(u32::MAX);
        let rules = [
            (
                (1..=most).contains(&self.replication),
                "replication",
                "must be 1 to 64",
            ),
            (
                (1..=self.replication).contains(&self.min_replication),
                "min_replication",
                "must be at least 1 and at most the replication",
            ),
            (
                self.heartbeat_interval_ms >= 10,
                "heartbeat_interval_ms",
                "must be at least 10",
            ),
            (
                self.stale_after_ms >= self.heartbeat_interval_ms.saturating_mul(2),
                "stale_after_ms",
                "must be at least two heartbeat intervals, or one late heartbeat makes a node stale",
            ),
            (
                self.dead_after_ms > self.stale_after_ms,
                "dead_after_ms",
                "must be longer than stale_after_ms",
            ),
            (
                self.write_timeout_ms >= 1_000,
                "write_timeout_ms",
                "must be at least 1000",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, problem)) => Err(ConfigError { setting, problem }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(NamenodeConfig::default().check(), Ok(()));
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let sound = NamenodeConfig::default;
        let wrong = [
            (
                "replication",
                NamenodeConfig {
                    replication: 65,
                    ..sound()
                },
            ),
            (
                "min_replication",
                NamenodeConfig {
                    min_replication: 4,
                    ..sound()
                },
            ),
            (
                "stale_after_ms",
                NamenodeConfig {
                    stale_after_ms: 1_500,
                    ..sound()
                },
            ),
            (
                "dead_after_ms",
                NamenodeConfig {
                    dead_after_ms: 5_000,
                    ..sound()
                },
            ),
            (
                "write_timeout_ms",
                NamenodeConfig {
                    write_timeout_ms: 0,
                    ..sound()
                },
            ),
        ];
        for (setting, config) in wrong {
            assert_eq!(config.check().unwrap_err().setting, setting);
        }
    }
}
