//! `datanode`: one datanode in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::arguments::{DatanodeTuning, Listen, MetricsListen, NamenodeAddress};
use crate::output::Output;
use crate::role::{Role, run_until_stopped, unless_stopped};

const DATANODE_PORT: u16 = 9001;

/// Where and how.
#[derive(Debug, Args)]
pub struct DatanodeArguments {
    /// Where replicas, index and identity lie
    #[arg(
        long,
        env = "RICHARDSTORE_DIR",
        default_value = "./richardstore-data/datanode"
    )]
    dir: PathBuf,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    namenode: NamenodeAddress,
    /// A name for people [default: the directory's]
    #[arg(long, env = "POD_NAME")]
    name: Option<String>,
    /// The failure domain: replicas of a file are spread over different ones
    #[arg(long, env = "RICHARDSTORE_RACK", default_value = "")]
    rack: String,
    #[command(flatten)]
    tuning: DatanodeTuning,
    #[command(flatten)]
    metrics: MetricsListen,
}

/// Runs it until it is told to stop.
pub async fn run(
    arguments: DatanodeArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let namenode = arguments.namenode.resolve();
    let listen = arguments.listen.resolve(DATANODE_PORT);
    let name = arguments.name.unwrap_or_else(|| name_of(&arguments.dir));
    let advertise = match arguments.listen.advertise {
        None if is_unspecified(&listen) => Some(address_towards(&namenode).await?),
        advertise => advertise,
    };
    let mut config = arguments.tuning.config(arguments.dir, listen, namenode)?;
    config.advertise = advertise;
    config.metrics_listen = arguments.metrics.listen;
    config.name = name;
    config.rack = arguments.rack;
    let role = unless_stopped(&stop, Role::datanode(config)).await?;
    let ready = json!({
        "role": "datanode",
        "listening": role.address().to_string(),
        "metrics": role.metrics_address().map(|address| address.to_string()),
    });
    output.line(&ready, |_| {
        format!("datanode listening on {}", role.address())
    })?;
    run_until_stopped(vec![role], stop).await
}

fn name_of(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    name.to_string_lossy().into_owned()
}

fn is_unspecified(listen: &str) -> bool {
    let address = listen.parse::<SocketAddr>();
    address.is_ok_and(|address| address.ip().is_unspecified())
}

/// This machine's own address on the way to the namenode. "All interfaces" is nothing that others could connect to.
async fn address_towards(namenode: &str) -> Result<String> {
    let find = async {
        // Connecting a datagram socket sends nothing; it only chooses the route.
        let any = match tokio::net::lookup_host(namenode).await?.next() {
            Some(SocketAddr::V6(_)) => "[::]:0",
            _ => "0.0.0.0:0",
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(namenode).await?;
        socket.local_addr()
    };
    let local = find.await.with_context(|| {
        format!("no way to {namenode} to tell which address others reach this datanode at; name it with --advertise")
    })?;
    Ok(match local {
        SocketAddr::V4(local) => local.ip().to_string(),
        SocketAddr::V6(local) => format!("[{}]", local.ip()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_interfaces_are_advertised_as_the_one_towards_the_namenode() {
        assert!(is_unspecified("0.0.0.0:9001") && is_unspecified("[::]:9001"));
        assert!(!is_unspecified("127.0.0.1:9001") && !is_unspecified("node:9001"));
        assert_eq!(address_towards("127.0.0.1:9").await.unwrap(), "127.0.0.1");
    }

    #[test]
    fn a_datanode_is_named_after_its_directory() {
        assert_eq!(name_of(Path::new("data/datanode-2/")), "datanode-2");
        assert_eq!(name_of(Path::new("/")), "/");
    }
}
