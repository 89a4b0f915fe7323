//! `health`: asks a role whether it serves. For probes, which need an exit code and no HTTP or gRPC client.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use richardstore_proto::{ErrorCode, StoreError};
use richardstore_runtime::{Channels, tcp_dial};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::arguments::NamenodeAddress;
use crate::exit::Interrupted;
use crate::output::Output;

const LIMIT: Duration = Duration::from_secs(3);
/// The first line of an HTTP response is much shorter.
const STATUS_LINE_BYTES: u64 = 64;

/// Which role.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// `http://host:port` of a gateway, or `host:port` of a namenode or datanode [default: the namenode]
    #[arg(env = "RICHARDSTORE_HEALTH")]
    address: Option<String>,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Succeeds where it serves.
pub async fn run(
    arguments: HealthArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let address = arguments.address;
    let address = address.unwrap_or_else(|| arguments.namenode.resolve());
    let ask = async {
        match address.strip_prefix("http://") {
            Some(gateway) => ask_http(gateway.trim_end_matches('/')).await,
            None => ask_grpc(&address).await,
        }
    };
    let asked = tokio::select! {
        asked = tokio::time::timeout(LIMIT, ask) => asked,
        () = stop.cancelled() => return Err(Interrupted.into()),
    };
    let answer = asked.unwrap_or_else(|_| Err(away(format!("no answer within {LIMIT:?}"))));
    answer.with_context(|| format!("{address} does not serve"))?;
    output.line(&json!({"address": address, "serving": true}), |_| {
        format!("{address} serves")
    })?;
    Ok(())
}

async fn ask_grpc(address: &str) -> Result<()> {
    let channel = Channels::new(tcp_dial()).get(address)?;
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|status| away(status.message()))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(away(other.as_str_name())),
    }
}

async fn ask_http(authority: &str) -> Result<()> {
    let mut socket = TcpStream::connect(authority)
        .await
        .map_err(|error| away(error.to_string()))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket
        .take(STATUS_LINE_BYTES)
        .read_to_end(&mut answer)
        .await?;
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(away(format!("it answers {line:?}"))),
    }
}

fn away(message: impl Into<String>) -> anyhow::Error {
    StoreError::new(ErrorCode::Unavailable, message).into()
}
