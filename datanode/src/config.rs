//! [`DatanodeConfig`]: what an operator decides about one datanode.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use richardstore_store::Layout;

/// Settings of one datanode.
#[derive(Debug, Clone)]
pub struct DatanodeConfig {
    /// Where everything is kept: identity, replicas and index.
    pub dir: PathBuf,
    /// `host:port` to listen on; port 0 lets the kernel choose.
    pub listen: String,
    /// `host:port`, or only `host`, under which others reach it. `None` is the address that was bound.
    pub advertise: Option<String>,
    /// `host:port` of the namenode.
    pub namenode: String,
    /// A name for people.
    pub name: String,
    /// The failure domain; empty is "not set".
    pub rack: String,
    /// Bytes of the volume that replicas leave free.
    pub headroom_bytes: u64,
    /// Bytes that replicas may take, whatever room the volume has. `None`: all of it, less the headroom.
    pub capacity_bytes: Option<u64>,
    /// How hashes become paths in a directory that is formatted now. `None` takes the default, or what is there.
    pub layout: Option<Layout>,
    /// Memory that the index may use for its cache, in bytes.
    pub index_cache_bytes: u64,
    /// Pipeline writes at once; more are refused as unavailable.
    pub max_writes: usize,
    /// Reads and copies at once; more are refused as unavailable.
    pub max_reads: usize,
    /// Between two full reports that nobody asked for.
    pub full_report_interval: Duration,
    /// Every replica is read whole and checked once in this time, as far as the rate allows. Zero: never.
    pub scrub_interval: Duration,
    /// Bytes that the scrub reads in a second at most. Zero: no scrub.
    pub scrub_bytes_per_second: u64,
    /// `host:port` to show metrics and health at over HTTP; `None`: nowhere.
    pub metrics_listen: Option<String>,
}

impl DatanodeConfig {
    /// Defaults for a datanode in `dir` that listens on `listen` and belongs to the namenode at `namenode`.
    pub fn new(
        dir: impl Into<PathBuf>,
        listen: impl Into<String>,
        namenode: impl Into<String>,
    ) -> Self {
        Self {
            dir: dir.into(),
            listen: listen.into(),
            advertise: None,
            namenode: namenode.into(),
            name: String::new(),
            rack: String::new(),
            headroom_bytes: 1 << 30,
            capacity_bytes: None,
            layout: None,
            index_cache_bytes: 16 << 20,
            max_writes: 256,
            max_reads: 256,
            full_report_interval: Duration::from_secs(600),
            scrub_interval: Duration::from_secs(21 * 24 * 3600),
            scrub_bytes_per_second: 32 << 20,
            metrics_listen: None,
        }
    }

    /// Whether replicas are read again by themselves.
    pub(crate) fn scrubs(&self) -> bool {
        !self.scrub_interval.is_zero() && self.scrub_bytes_per_second > 0
    }

    /// The address to tell others, given the one that was bound.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> String {
        match self.advertise.as_deref() {
            None | Some("") => bound.to_string(),
            Some(address) if has_port(address) => address.to_owned(),
            Some(host) => format!("{host}:{}", bound.port()),
        }
    }
}

fn has_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_is_advertised_with_the_bound_one() {
        let bound: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        let mut config = DatanodeConfig::new("d", "127.0.0.1:0", "127.0.0.1:1");
        assert_eq!(config.advertised(bound), "127.0.0.1:4711");
        config.advertise = Some("node-0.nodes".to_owned());
        assert_eq!(config.advertised(bound), "node-0.nodes:4711");
        config.advertise = Some("node-0.nodes:80".to_owned());
        assert_eq!(config.advertised(bound), "node-0.nodes:80");
    }
}
