//! [`Removals`]: datanodes that are removed for good. What nobody else has is counted before, and what is recorded of them is
//! forgotten after.
//!
//! Both walk what the node held in pages. The mark that it was removed is durable, so that a restart goes on with the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use richardstore_proto::{ContentHash, Generation, StoreError};

use crate::mutation::{Mutation, Reply};
use crate::record::NodeIndex;
use crate::shared::Shared;
use crate::ticker::Ticks;

const PERIOD: Duration = Duration::from_millis(200);
/// Replicas or commands that are forgotten in one transaction.
const PAGE: usize = 1_024;
/// Files that are named; the others are counted.
const MAX_NAMED: usize = 1_000;

/// A place in what a node held.
pub type Position = (Generation, ContentHash);

/// Soft state of removals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals {
    /// Nodes that somebody wants to remove.
    pub checks: BTreeMap<NodeIndex, RemovalCheck>,
    /// Removed nodes of which something is still recorded, and how far that is forgotten.
    pub leftovers: BTreeMap<NodeIndex, Option<Position>>,
}

/// What would be lost with a node, as far as it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalCheck {
    /// The nodes that were there when it began: with others it begins anew.
    pub standing: BTreeSet<NodeIndex>,
    /// Where to go on.
    pub after: Option<Position>,
    /// Files of which no other node that is there has a replica.
    pub lost: u64,
    /// The first of them.
    pub first: Vec<ContentHash>,
}

impl RemovalCheck {
    /// One that begins, while `standing` are there.
    pub fn among(standing: BTreeSet<NodeIndex>) -> Self {
        Self {
            standing,
            ..Self::default()
        }
    }

    /// A page was walked up to `last`.
    pub fn walked(&mut self, last: Option<Position>, lost: impl IntoIterator<Item = ContentHash>) {
        self.after = last.or(self.after);
        for hash in lost {
            self.lost += 1;
            if self.first.len() < MAX_NAMED {
                self.first.push(hash);
            }
        }
    }
}

/// Forgets what removed nodes held, until the namenode stops.
pub async fn run_removals(shared: Arc<Shared>) {
    let mut ticks = Ticks::every(PERIOD, shared.tasks.stopping());
    while ticks.next().await {
        let leftovers = shared.soft().removals.leftovers.clone();
        for (index, after) in leftovers {
            if let Err(error) = forget(&shared, index, after).await {
                tracing::warn!(
                    node = index.0,
                    "a removed datanode is still on record: {error}"
                );
            }
        }
    }
}

/// Removes `index` durably and forgets one page of it.
///
/// # Errors
/// The metadata did not take it.
pub async fn forget(
    shared: &Shared,
    index: NodeIndex,
    after: Option<Position>,
) -> Result<(), StoreError> {
    let mutation = Mutation::RemoveNode {
        index,
        after,
        limit: PAGE,
        now_ms: shared.wall_ms(),
    };
    let (more, after) = match shared.metadata.submit(mutation).await? {
        Reply::Removed { more, after } => (more, after),
        other => return Err(crate::service::unexpected(&other)),
    };
    let mut soft = shared.soft();
    if more {
        soft.removals.leftovers.insert(index, after);
    } else {
        soft.removals.leftovers.remove(&index);
        tracing::info!(
            node = index.0,
            "nothing is recorded of the removed datanode any more"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_what_would_be_lost_is_counted_and_named_up_to_a_limit() {
        let mut check = RemovalCheck::default();
        let hash = ContentHash::new([1; 32]);
        let place = (Generation(3), hash);
        check.walked(Some(place), std::iter::repeat_n(hash, MAX_NAMED + 5));
        check.walked(None, [hash]);
        assert_eq!(check.after, Some(place));
        assert_eq!(check.first.len(), MAX_NAMED);
        assert_eq!(check.lost, u64::try_from(MAX_NAMED + 6).unwrap());
    }
}
