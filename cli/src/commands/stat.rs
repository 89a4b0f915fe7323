//! `stat`: shows a file and where its replicas are.

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::FileStatus;
use richardstore_proto::ContentHash;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::{Output, human_bytes};
use crate::session::Session;

/// Which file.
#[derive(Debug, Args)]
pub struct StatArguments {
    /// The file
    hash: ContentHash,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Prints what the namenode knows of it.
pub async fn run(arguments: StatArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let show = async {
        let located = session.client.locate(&arguments.hash).await;
        let located = located.with_context(|| format!("cannot look up {}", arguments.hash))?;
        output.line(&FileStatus::from(&located), describe)?;
        Ok(())
    };
    session.run(show).await
}

fn describe(file: &FileStatus) -> String {
    let mut text = format!(
        "hash      {}\nsize      {} ({})\nreplicas  {} of {}",
        file.hash,
        file.size,
        human_bytes(file.size),
        file.replicas.len(),
        file.replication,
    );
    for replica in &file.replicas {
        let rack = match replica.rack.as_str() {
            "" => String::new(),
            rack => format!("  rack {rack}"),
        };
        text += &format!(
            "\n  {}  {}  {}{rack}",
            replica.name,
            replica.address,
            replica.state.as_str()
        );
    }
    text
}
