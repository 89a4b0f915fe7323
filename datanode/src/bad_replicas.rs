//! [`BadReplicas`]: damaged replicas that were seen here and of which the namenode does not know yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, ErrorCode};
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::node::Node;

/// Findings that wait: room for all suspects that the store remembers. One that finds no room is lost and made again by the
/// next read or scrub.
const MAX_WAITING: usize = 4096;

/// Findings on their way to the namenode.
#[derive(Default)]
pub(crate) struct BadReplicas {
    waiting: Mutex<BTreeMap<ContentHash, String>>,
    found: Notify,
}

impl BadReplicas {
    /// Takes note of a damaged replica.
    pub(crate) fn found(&self, hash: ContentHash, reason: String) {
        tracing::error!(%hash, reason, "a replica holds wrong bytes");
        self.queue(hash, reason);
    }

    /// Tells of `suspects` again: a namenode remembers what it was told of bad replicas only until it ends, and a replica
    /// that it holds for good is not healed.
    pub(crate) fn tell_again(&self, suspects: Vec<ContentHash>) {
        if !suspects.is_empty() {
            tracing::info!(
                count = suspects.len(),
                "a new namenode is told of the bad replicas"
            );
        }
        for hash in suspects {
            self.queue(hash, "seen under an earlier namenode".to_owned());
        }
    }

    fn queue(&self, hash: ContentHash, reason: String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.entry(hash).or_insert(reason);
            self.found.notify_one();
        }
    }

    /// How many the namenode was not told of yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn first(&self) -> Option<(ContentHash, String)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .first_key_value()
            .map(|(hash, reason)| (*hash, reason.clone()))
    }

    fn told(&self, hash: &ContentHash) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(hash);
    }
}

/// Tells the namenode of every finding, for as long as that takes.
pub(crate) async fn report_bad_replicas(node: Arc<Node>) {
    let stopping = node.tasks.stopping();
    let mut backoff = Backoff::new(node.backoff_seed());
    loop {
        let Some((hash, reason)) = node.bad_replicas.first() else {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = node.bad_replicas.found.notified() => continue,
            }
        };
        let request = wire::ReportBadReplicaRequest {
            hash: to_bytes(hash.as_bytes()),
            node_id: to_bytes(node.membership.node_id().as_bytes()),
            reason,
        };
        match node.namenode.report_bad_replica(request).await {
            // A namenode that does not know the file has nothing to heal.
            Ok(()) => {}
            Err(error) if error.code == ErrorCode::NotFound => {}
            Err(error) => {
                tracing::debug!(%hash, %error, "the namenode was not told of a bad replica yet");
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(backoff.next_wait()) => continue,
                }
            }
        }
        backoff.reset();
        node.bad_replicas.told(&hash);
    }
}
