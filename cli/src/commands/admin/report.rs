//! `admin report`: the cluster at a glance.

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::{ClusterReport, NodeStatus};
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::{Output, human_bytes};
use crate::session::Session;

/// Which cluster.
#[derive(Debug, Args)]
pub struct ReportArguments {
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Prints it.
pub async fn run(
    arguments: ReportArguments,
    output: Output,
    stop: CancellationToken,
) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let show = async {
        let report = session.client.report().await;
        output.line(&report.context("cannot ask for the report")?, describe)?;
        Ok(())
    };
    session.run(show).await
}

fn describe(report: &ClusterReport) -> String {
    let ClusterReport {
        info,
        replicas,
        repair,
        ..
    } = report;
    let status = match info.reason.as_str() {
        "" => info.status.clone(),
        reason => format!("{}: {reason}", info.status),
    };
    let mut lines = vec![
        format!("status     {status}"),
        format!(
            "cluster    {} (namenode {}, version {}, start {})",
            info.cluster_id, info.address, info.version, info.epoch
        ),
        format!(
            "files      {} ({}), {} with too few replicas on record, {} with too many",
            info.files,
            human_bytes(info.bytes),
            info.under_replicated,
            report.over_replicated
        ),
        format!(
            "replicas   {} live, {} stale, {} leaving, {} dead",
            replicas.live, replicas.stale, replicas.leaving, replicas.dead
        ),
        format!(
            "repair     {} files being copied, {} waiting; at most {} to copy, at least {} s",
            repair.copying,
            repair.waiting,
            human_bytes(repair.bytes_to_copy),
            repair.copy_seconds
        ),
        format!(
            "pending    {} commands, {} deletes, {} uploads",
            info.commands_pending, info.tombstones, info.writes_in_flight
        ),
        format!(
            "space      {} of {} free",
            human_bytes(info.available_bytes),
            human_bytes(info.capacity_bytes)
        ),
    ];
    if report.foreign_replicas > 0 {
        lines.push(format!(
            "foreign    {} replicas are newer than this database: it is an old copy",
            report.foreign_replicas
        ));
    }
    if !report.nodes.is_empty() {
        lines.push(String::new());
        lines.extend(table(&report.nodes));
    }
    lines.join("\n")
}

/// One row a datanode, as wide as it has to be.
fn table(nodes: &[NodeStatus]) -> Vec<String> {
    let head = [
        "datanode", "rack", "state", "files", "used", "free", "commands", "heard", "address",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(nodes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            line.join("  ").trim_end().to_owned()
        })
        .collect()
}

fn row(node: &NodeStatus) -> [String; 9] {
    let read_only = if node.read_only { ", read only" } else { "" };
    [
        node.name.clone(),
        match node.rack.as_str() {
            "" => "-".to_owned(),
            rack => rack.to_owned(),
        },
        format!("{}{read_only}", node.state.as_str()),
        node.replicas.to_string(),
        human_bytes(node.used_bytes),
        human_bytes(node.available_bytes),
        node.commands_pending.to_string(),
        format!("{:.1} s ago", node.last_heartbeat_age_ms as f64 / 1_000.0),
        node.address.clone(),
    ]
}
