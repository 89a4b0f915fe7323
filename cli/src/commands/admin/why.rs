//! `admin why`: how a hash is doing, and why.

use anyhow::{Context, Result};
use clap::Args;
use richardstore_client::WhyReport;
use richardstore_proto::ContentHash;
use tokio_util::sync::CancellationToken;

use crate::arguments::NamenodeAddress;
use crate::output::Output;
use crate::session::Session;

/// Which hash.
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// The file, also one that was deleted or never was
    hash: ContentHash,
    #[command(flatten)]
    namenode: NamenodeAddress,
}

/// Prints what is known of it.
pub async fn run(arguments: WhyArguments, output: Output, stop: CancellationToken) -> Result<()> {
    let session = Session::new(&arguments.namenode, stop);
    let show = async {
        let why = session.client.why(&arguments.hash).await;
        let why = why.with_context(|| format!("cannot look up {}", arguments.hash))?;
        output.line(&why, describe)?;
        Ok(())
    };
    session.run(show).await
}

fn describe(why: &WhyReport) -> String {
    let mut text = format!("{}: {}. {}", why.hash, why.state, why.summary);
    for (title, sentences) in [
        ("Replicas", &why.replicas),
        ("Why there", &why.placement),
        ("Ordered", &why.planned),
        ("In the way", &why.blocked),
        ("Next", &why.next),
        ("History", &why.history),
    ] {
        if !sentences.is_empty() {
            text += &format!("\n{title}");
        }
        for sentence in sentences {
            text += &format!("\n  {sentence}");
        }
    }
    text
}
