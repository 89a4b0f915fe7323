//! Nodes and files for the tests of this module.

use std::collections::BTreeSet;

use richardstore_proto::{ContentHash, Generation, NodeState};

use super::case::{Case, Holding, RepairNode};
use super::plan::Nodes;
use crate::placement::Candidate;
use crate::record::NodeIndex;

pub fn node(index: u32, state: NodeState) -> RepairNode {
    RepairNode {
        candidate: Candidate {
            index: NodeIndex(index),
            rack: String::new(),
            state,
            registered: true,
            read_only: false,
            available_bytes: 100 << 30,
            load: 0,
        },
        draining: matches!(
            state,
            NodeState::Decommissioning | NodeState::Decommissioned
        ),
        maintenance: false,
        failed: false,
        fresh: true,
        active_reads: 0,
        streams: 0,
        stream_bytes: 0,
        incoming_bytes: 0,
        allowance_bytes: 1 << 20,
    }
}

pub fn live(index: u32) -> RepairNode {
    node(index, NodeState::Live)
}

pub fn dead(index: u32) -> RepairNode {
    node(index, NodeState::Dead)
}

pub fn in_rack(rack: &str, mut node: RepairNode) -> RepairNode {
    node.candidate.rack = rack.to_owned();
    node
}

pub fn nodes(all: impl IntoIterator<Item = RepairNode>) -> Nodes {
    all.into_iter()
        .map(|node| (node.candidate.index, node))
        .collect()
}

pub fn held(index: u32) -> Holding {
    Holding {
        node: NodeIndex(index),
        generation: Generation(7),
        suspect: false,
        unsettled: false,
    }
}

pub fn bad(index: u32) -> Holding {
    Holding {
        suspect: true,
        ..held(index)
    }
}

pub fn hash(file: u8) -> ContentHash {
    ContentHash::new([file; 32])
}

pub fn case(file: u8, holdings: impl IntoIterator<Item = Holding>) -> Case {
    Case {
        hash: hash(file),
        size: 100,
        replication: 3,
        least: 2,
        generation: Generation(7),
        holdings: holdings.into_iter().collect(),
        avoid: BTreeSet::new(),
    }
}

/// The node, in maintenance.
pub fn expected(mut node: RepairNode) -> RepairNode {
    node.maintenance = true;
    if node.candidate.state == NodeState::Live {
        node.candidate.state = NodeState::Maintenance;
    }
    node
}
