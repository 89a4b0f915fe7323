//! [`Standing`]: what the replicas of a file are worth together. Pure. `admin why` and `admin fsck` judge by the same.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{HolderFacts, NodeFacts};
use super::words::counted;
use crate::record::NodeIndex;

/// Repair spreads a file over so many racks, and moves none that lies in as many.
const RACKS_ENOUGH: usize = 2;

/// How a file is doing, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileState {
    /// Nobody who holds it is there.
    Missing,
    /// A replica was reported as bad and not made anew yet.
    Damaged,
    /// Too few replicas count.
    UnderReplicated,
    /// More than wanted count.
    OverReplicated,
    /// Enough of them, in fewer racks than there could be.
    Misplaced,
    /// As it should be.
    Healthy,
}

impl FileState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::UnderReplicated => "under-replicated",
            Self::OverReplicated => "over-replicated",
            Self::Misplaced => "misplaced",
            Self::Healthy => "healthy",
        }
    }
}

/// The replicas of a file, sorted by what they are worth.
#[derive(Debug)]
pub struct Standing<'a> {
    target: usize,
    good: Vec<&'a NodeFacts>,
    readable: usize,
    suspect: usize,
    racks_to_use: usize,
}

/// The racks that have a datanode whose replicas count.
pub fn racks_there(nodes: &BTreeMap<NodeIndex, NodeFacts>) -> usize {
    let there = nodes.values().filter(|node| node.counts);
    let racks: BTreeSet<&str> = there.map(|node| node.rack.as_str()).collect();
    racks.len()
}

impl<'a> Standing<'a> {
    /// Of a file with `replication` replicas wanted, in a cluster of `nodes` in as many racks as [`racks_there`] says.
    pub fn of(
        nodes: &'a BTreeMap<NodeIndex, NodeFacts>,
        racks_there: usize,
        replication: u32,
        holders: &[HolderFacts],
    ) -> Self {
        let target = usize::try_from(replication).unwrap_or(usize::MAX);
        let mut standing = Self {
            target,
            good: Vec::with_capacity(holders.len()),
            readable: 0,
            suspect: holders.iter().filter(|holder| holder.suspect).count(),
            racks_to_use: racks_there.min(target).min(RACKS_ENOUGH),
        };
        for holder in holders {
            let Some(node) = nodes.get(&holder.node) else {
                continue;
            };
            standing.readable += usize::from(node.is_readable());
            if node.counts && !holder.suspect {
                standing.good.push(node);
            }
        }
        standing
    }

    /// The racks of the good replicas, and who is in them.
    pub fn racks(&self) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut racks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in &self.good {
            racks.entry(&node.rack).or_default().push(&node.name);
        }
        racks
    }

    /// Racks that its replicas could be in.
    pub fn racks_to_use(&self) -> usize {
        self.racks_to_use
    }

    /// Fewer replicas count than there should be.
    pub fn is_short(&self) -> bool {
        self.good.len() < self.target
    }

    /// The one word.
    pub fn state(&self) -> FileState {
        if self.readable == 0 {
            FileState::Missing
        } else if self.suspect > 0 {
            FileState::Damaged
        } else if self.is_short() {
            FileState::UnderReplicated
        } else if self.good.len() > self.target {
            FileState::OverReplicated
        } else if self.racks().len() < self.racks_to_use {
            FileState::Misplaced
        } else {
            FileState::Healthy
        }
    }

    /// The one sentence.
    pub fn summary(&self) -> String {
        let (good, target) = (self.good.len(), self.target);
        match self.state() {
            FileState::Missing => {
                "No datanode that holds it is there: it cannot be read until one of them returns."
                    .to_owned()
            }
            FileState::Damaged if good == 0 => "All its replicas that can be reached were reported as bad: reads of it fail, and there is no good copy to repair it from.".to_owned(),
            FileState::Damaged => format!(
                "It has {good} of {target} replicas and {} besides that somebody reported as bad.",
                self.suspect
            ),
            FileState::UnderReplicated if good == 0 => format!(
                "It can be read, and none of its replicas counts towards the {target} it should have."
            ),
            FileState::UnderReplicated => format!("It has {good} of {target} replicas."),
            FileState::OverReplicated => {
                format!("It has {good} replicas and should have {target}.")
            }
            FileState::Misplaced => format!(
                "It has all of its {target} replicas, in {} where {} would do.",
                counted(self.racks().len(), "rack"),
                self.racks_to_use
            ),
            FileState::Healthy => format!("It has all of its {target} replicas."),
        }
    }
}
