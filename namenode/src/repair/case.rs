//! [`Case`] and [`RepairNode`]: a file and the datanodes as repair sees them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::{ContentHash, Generation, NodeState};

use crate::known_node::KnownNode;
use crate::liveness::Timeouts;
use crate::placement::Candidate;
use crate::record::{FileRecord, NodeAdmin, NodeIndex};
use crate::soft_state::SoftState;

/// A replica on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Who.
    pub node: NodeIndex,
    /// Which write it came with.
    pub generation: Generation,
    /// Somebody reported it as bad.
    pub suspect: bool,
    /// The node was told to remove it and has not reported whether it did.
    pub unsettled: bool,
}

/// A file that may need something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// How many replicas there should be.
    pub replication: usize,
    /// How many of them on nodes that are not only expected back, at most the target.
    pub least: usize,
    /// The newest write; rotates among equal targets.
    pub generation: Generation,
    /// The replicas on record, ascending by node.
    pub holdings: Vec<Holding>,
    /// Nodes that the last attempts used in vain: others are tried first.
    pub avoid: BTreeSet<NodeIndex>,
}

impl Case {
    /// From what is on record and what is known besides. `least`, `avoid`: see the fields.
    pub fn of(
        soft: &SoftState,
        hash: ContentHash,
        record: &FileRecord,
        least: usize,
        avoid: Option<BTreeSet<NodeIndex>>,
    ) -> Self {
        Self {
            hash,
            size: record.size,
            replication: usize::try_from(record.replication).unwrap_or(usize::MAX),
            least,
            generation: record.generation,
            holdings: record
                .replicas
                .iter()
                .map(|replica| Holding {
                    node: replica.node,
                    generation: replica.generation,
                    suspect: soft.suspects.contains(&hash, replica.node),
                    unsettled: soft.repair.is_unsettled(&hash, replica.node),
                })
                .collect(),
            avoid: avoid.unwrap_or_default(),
        }
    }

    /// How many more good replicas there should be: up to the target with those that are expected back, and up to the least
    /// number without them.
    pub fn missing(&self, nodes: &BTreeMap<NodeIndex, RepairNode>) -> usize {
        let sound = |holding: &&Holding| !holding.suspect;
        let good = self.held(nodes, sound, RepairNode::counts);
        let expected = self.held(nodes, sound, RepairNode::is_expected_back);
        let least = self.least.min(self.replication).saturating_sub(good);
        self.replication.saturating_sub(good + expected).max(least)
    }

    /// As many replicas as there should be on nodes that count or are expected back, and none of them suspect.
    pub fn is_well(&self, nodes: &BTreeMap<NodeIndex, RepairNode>) -> bool {
        let any = |_: &&Holding| true;
        let held = self.held(nodes, any, RepairNode::counts)
            + self.held(nodes, any, RepairNode::is_expected_back);
        held == self.replication
            && self.missing(nodes) == 0
            && self.holdings.iter().all(|holding| !holding.suspect)
    }

    fn held(
        &self,
        nodes: &BTreeMap<NodeIndex, RepairNode>,
        holding: impl Fn(&&Holding) -> bool,
        node: impl Fn(&RepairNode) -> bool,
    ) -> usize {
        let on = |held: &&Holding| nodes.get(&held.node).is_some_and(&node);
        self.holdings.iter().filter(holding).filter(on).count()
    }
}

/// A datanode, and what repair has it doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairNode {
    /// As placement sees it.
    pub candidate: Candidate,
    /// It is being emptied, or was: its replicas can be read and count for nothing. Kept beside its state, in which
    /// silence outranks this.
    pub draining: bool,
    /// It is expected to be away for a time: its replicas are not lost, and nobody relies on them.
    pub maintenance: bool,
    /// Its volume failed: its replicas can perhaps be read, and count for nothing.
    pub failed: bool,
    /// What it is believed to hold was checked since it came.
    pub fresh: bool,
    /// Reads under way there.
    pub active_reads: u64,
    /// Copies under way from or to it.
    pub streams: usize,
    /// Their bytes.
    pub stream_bytes: u64,
    /// Bytes on their way to it.
    pub incoming_bytes: u64,
    /// Bytes it may begin to copy now; below 0 when it has begun with more than it had.
    pub allowance_bytes: i64,
}

/// What repair may have one node do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Copies from or to a node that are ordered and not confirmed. The datanode itself does a few of them at a time;
    /// the rest wait there, so that small files do not wait for a heartbeat each.
    pub streams: usize,
    /// Bytes of those copies. One copy is always allowed.
    pub stream_bytes: u64,
    /// Of the commands that may be under way, those kept free for files that are short.
    pub reserved: usize,
}

impl Limits {
    /// What moves may take. A file that is only in the wrong place must not stand in the way of one that is short.
    pub fn for_moves(self) -> Self {
        Self {
            streams: (self.streams / 4).max(1),
            stream_bytes: self.stream_bytes / 4,
            ..self
        }
    }
}

impl RepairNode {
    /// With nothing under way yet. `allowance_bytes`: see the field.
    pub fn of(node: &KnownNode, allowance_bytes: i64, timeouts: Timeouts, now_ms: u64) -> Self {
        Self {
            candidate: node.candidate(timeouts, now_ms),
            draining: node.admin != NodeAdmin::InService,
            maintenance: node.is_expected_away(),
            failed: node.stats.volume_failed,
            fresh: node.report.is_fresh(),
            active_reads: u64::from(node.stats.active_reads),
            streams: 0,
            stream_bytes: 0,
            incoming_bytes: 0,
            allowance_bytes,
        }
    }

    /// Its good replicas count.
    pub fn counts(&self) -> bool {
        !self.draining
            && !self.maintenance
            && !self.failed
            && matches!(self.candidate.state, NodeState::Live | NodeState::Stale)
    }

    /// Its replicas need not be made again, there or not.
    pub fn is_expected_back(&self) -> bool {
        self.maintenance && !self.draining && !self.failed
    }

    /// It takes commands now.
    pub fn takes_commands(&self) -> bool {
        self.candidate.registered
            && !matches!(self.candidate.state, NodeState::Stale | NodeState::Dead)
    }

    /// What is believed of it can be relied on when something is to be removed elsewhere.
    pub fn is_trusted(&self) -> bool {
        self.fresh
            && !self.draining
            && !self.failed
            && self.candidate.registered
            && self.candidate.state == NodeState::Live
    }

    /// It may begin a copy of `bytes`.
    pub fn has_room(&self, bytes: u64, limits: Limits) -> bool {
        let fits =
            self.streams == 0 || self.stream_bytes.saturating_add(bytes) <= limits.stream_bytes;
        self.allowance_bytes > 0 && self.streams < limits.streams && fits
    }

    /// Copies it may begin, if they are as long as those under way.
    pub fn free_streams(&self, limits: Limits) -> usize {
        let free = limits.streams.saturating_sub(self.streams);
        if !self.takes_commands() || self.allowance_bytes <= 0 {
            return 0;
        }
        if self.streams == 0 || self.stream_bytes == 0 {
            return free;
        }
        let count = u128::try_from(self.streams).unwrap_or(u128::MAX);
        let left = u128::from(limits.stream_bytes.saturating_sub(self.stream_bytes));
        let fit = left.saturating_mul(count) / u128::from(self.stream_bytes);
        free.min(usize::try_from(fit).unwrap_or(usize::MAX))
    }

    /// A copy of `bytes` goes out from it or, with `incoming`, to it.
    pub fn charge(&mut self, bytes: u64, incoming: bool) {
        self.streams += 1;
        self.stream_bytes = self.stream_bytes.saturating_add(bytes);
        if incoming {
            self.incoming_bytes = self.incoming_bytes.saturating_add(bytes);
        }
    }

    /// A copy of `bytes` begins.
    pub fn spend(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.allowance_bytes = self.allowance_bytes.saturating_sub(bytes);
    }

    /// As placement is to see it, with what is on its way to it.
    pub fn as_target(&self) -> Candidate {
        let streams = u64::try_from(self.streams).unwrap_or(u64::MAX);
        Candidate {
            available_bytes: self
                .candidate
                .available_bytes
                .saturating_sub(self.incoming_bytes),
            load: self.candidate.load.saturating_add(streams),
            ..self.candidate.clone()
        }
    }
}
