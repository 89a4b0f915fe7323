//! `dev`: a whole store in one process, whose parts talk to each other over real gRPC on loopback.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use richardstore_client::{Client, ClientConfig};
use richardstore_namenode::NamenodeError;
use richardstore_proto::NodeState;
use richardstore_runtime::{Environment, ServeError};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::arguments::{DatanodeTuning, GATEWAY_PORT, GatewayTuning, NamenodeTuning, with_port};
use crate::output::Output;
use crate::role::{Role, run_until_stopped, unless_stopped};

const ANY_PORT: &str = "127.0.0.1:0";
const NAMENODE_LISTEN: &str = "127.0.0.1:9000";
/// Datanodes that have not registered by then do not hold up the others.
const READY_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where and how.
#[derive(Debug, Args)]
pub struct DevArguments {
    /// Where everything lies
    #[arg(long, env = "RICHARDSTORE_DIR", default_value = "./richardstore-data")]
    dir: PathBuf,
    /// Address of the gateway; port 0 lets the kernel choose
    #[arg(
        long,
        env = "RICHARDSTORE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "HOST[:PORT]"
    )]
    listen: String,
    /// How many datanodes
    #[arg(long, env = "RICHARDSTORE_DATANODES", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    datanodes: u16,
    /// Address of the namenode [default: 127.0.0.1:9000, or another port where that is taken]
    #[arg(long, env = "RICHARDSTORE_NAMENODE_LISTEN", value_name = "HOST:PORT")]
    namenode_listen: Option<String>,
    #[command(flatten)]
    namenode: NamenodeTuning,
    #[command(flatten)]
    datanode: DatanodeTuning,
    #[command(flatten)]
    gateway: GatewayTuning,
}

/// Where everything is, as printed and as written to `dev.json`.
#[derive(Debug, Serialize)]
struct Addresses {
    url: String,
    namenode: String,
    datanodes: Vec<String>,
}

/// Runs it until it is told to stop.
pub async fn run(arguments: DevArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let mut roles = Vec::new();
    let started = unless_stopped(&stop, start(&arguments, &mut roles)).await;
    let ready = started.and_then(|addresses| {
        write_addresses(&arguments.dir, &addresses)?;
        Ok(output.line(&addresses, greeting)?)
    });
    if let Err(error) = ready {
        // Whatever is up already has to be closed in order, or its next start is a recovery.
        let done = CancellationToken::new();
        done.cancel();
        run_until_stopped(roles, done).await?;
        return Err(error);
    }
    run_until_stopped(roles, stop).await
}

async fn start(arguments: &DevArguments, roles: &mut Vec<Role>) -> Result<Addresses> {
    let dir = &arguments.dir;
    let namenode = start_namenode(arguments).await;
    roles.push(namenode.context("the namenode did not start")?);
    let namenode = roles[0].address().to_string();
    let mut datanodes = Vec::new();
    for number in 1..=arguments.datanodes {
        let name = format!("datanode-{number}");
        let tuning = &arguments.datanode;
        let mut config = tuning.config(dir.join(&name), ANY_PORT.into(), namenode.clone())?;
        config.name = name;
        let role = Role::datanode(config).await?;
        datanodes.push(role.address().to_string());
        roles.push(role);
    }
    wait_for_datanodes(&namenode, &datanodes).await;
    let config = arguments
        .gateway
        .config(with_port(&arguments.listen, GATEWAY_PORT), namenode.clone());
    let gateway = Role::gateway(config).await?;
    let url = format!("http://{}", gateway.address());
    roles.push(gateway);
    Ok(Addresses {
        url,
        namenode,
        datanodes,
    })
}

async fn start_namenode(arguments: &DevArguments) -> Result<Role, NamenodeError> {
    let config = |listen: &str| {
        let dir = arguments.dir.join("namenode");
        arguments.namenode.config(dir, listen.to_owned())
    };
    if let Some(listen) = &arguments.namenode_listen {
        return Role::namenode(config(listen)).await;
    }
    match Role::namenode(config(NAMENODE_LISTEN)).await {
        // Nobody asked for this port, so another one does as well.
        Err(NamenodeError::Serve(ServeError::Bind { .. })) => {
            Role::namenode(config(ANY_PORT)).await
        }
        started => started,
    }
}

/// Waits until the namenode knows each datanode under the address it has now: until then it would send readers and writers
/// to the ports of the last run.
async fn wait_for_datanodes(namenode: &str, datanodes: &[String]) {
    let client = Client::new(ClientConfig::new(namenode), Environment::system());
    let deadline = Instant::now() + READY_LIMIT;
    while let Err(missing) = all_registered(&client, datanodes).await {
        if Instant::now() > deadline {
            tracing::warn!("going on without all datanodes: {missing:#}");
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn all_registered(client: &Client, datanodes: &[String]) -> Result<()> {
    let nodes = client.nodes().await?;
    for address in datanodes {
        let mut live = nodes.iter().filter(|node| node.state == NodeState::Live);
        if !live.any(|node| node.address == *address) {
            bail!("the datanode at {address} is not registered");
        }
    }
    let info = client.info().await?;
    if info.status == "safe mode" {
        bail!("the namenode is in safe mode: {}", info.reason);
    }
    Ok(())
}

/// Replaced as a whole, so that a reader never sees half of it.
fn write_addresses(dir: &Path, addresses: &Addresses) -> Result<()> {
    let path = dir.join("dev.json");
    let write = || {
        let temporary = dir.join("dev.json.new");
        let mut file = std::fs::File::create(&temporary)?;
        serde_json::to_writer_pretty(&mut file, addresses)?;
        file.write_all(b"\n")?;
        std::fs::rename(&temporary, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn greeting(addresses: &Addresses) -> String {
    let Addresses { url, namenode, .. } = addresses;
    format!(
        "richardstore is ready at {url}\n\
         \n    curl -F file=@README.md {url}/upload\n    curl {url}/info\n\
         \nThe namenode listens on {namenode}. Ctrl-C stops everything; what was acknowledged stays."
    )
}
