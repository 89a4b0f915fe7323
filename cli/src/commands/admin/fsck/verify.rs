//! [`verify_all`]: goes over all files in pages and has their datanodes prove what they hold.

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use richardstore_client::{Client, ReplicaVerdict, VerifiedReplica};
use richardstore_proto::{ContentHash, FileLocations};
use serde::Serialize;

use crate::output::Output;

/// Files that are asked for at once.
const PAGE: u32 = 1_000;
/// Files that are proven at once: each has every one of its datanodes read a whole replica.
const CONCURRENT: usize = 4;

/// What became of the replicas.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct VerifyTotals {
    /// The datanode has the bytes.
    pub proven: u64,
    /// It does not have them, or others.
    pub wrong: u64,
    /// It could not be asked.
    pub unknown: u64,
    /// Bytes of those that were proven.
    pub bytes: u64,
}

/// A replica that was not proven.
#[derive(Debug, Serialize)]
struct Unproven<'a> {
    state: &'static str,
    hash: String,
    node: &'a str,
    reason: &'a str,
}

impl VerifyTotals {
    /// Replicas that something is wrong with. One whose datanode is away is not known to be.
    pub fn problems(&self) -> u64 {
        self.wrong
    }
}

/// Lists the replicas that were not proven, and counts all.
pub async fn verify_all(client: &Client, output: Output) -> Result<VerifyTotals> {
    let mut totals = VerifyTotals::default();
    let mut after = None;
    loop {
        let page = client.list(after, "", PAGE).await;
        let page = page.context("cannot list files")?;
        after = page.files.last().map(|file| file.file.hash);
        let mut verified = stream::iter(page.files)
            .map(|file| async move {
                let replicas = client.verify(&file, nonce()).await;
                (file, replicas)
            })
            .buffer_unordered(CONCURRENT);
        while let Some((file, replicas)) = verified.next().await {
            for replica in &replicas {
                take_in(&mut totals, &file, replica, output)?;
            }
        }
        if !page.more || after.is_none() {
            return Ok(totals);
        }
    }
}

/// 32 bytes that nobody knew before.
fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    nonce[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    nonce[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    nonce
}

fn take_in(
    totals: &mut VerifyTotals,
    file: &FileLocations,
    replica: &VerifiedReplica,
    output: Output,
) -> Result<()> {
    let hash: ContentHash = file.file.hash;
    let (state, reason) = match &replica.verdict {
        ReplicaVerdict::Proven => {
            totals.proven += 1;
            totals.bytes = totals.bytes.saturating_add(file.file.size);
            return Ok(());
        }
        ReplicaVerdict::Wrong(reason) => {
            totals.wrong += 1;
            ("wrong", reason)
        }
        ReplicaVerdict::Unknown(reason) => {
            totals.unknown += 1;
            ("unknown", reason)
        }
    };
    let unproven = Unproven {
        state,
        hash: hash.to_hex(),
        node: &replica.node.name,
        reason,
    };
    output.line(&unproven, |unproven| {
        format!(
            "{}  {} on {}: {}",
            unproven.hash, unproven.state, unproven.node, unproven.reason
        )
    })?;
    Ok(())
}
