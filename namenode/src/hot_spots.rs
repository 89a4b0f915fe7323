//! The decisions and the codec with inputs of a size that hurts, for `benches/decisions.rs`: they are private, and stay so.

use std::collections::BTreeSet;

use richardstore_proto::{Blake3Root, ContentHash, Generation, NodeState};

use crate::metadata::{ViewError, decode_file, encode_file};
use crate::placement::{Candidate, Wanted, place};
use crate::record::{FileRecord, NodeIndex, Replica};
use crate::repair::{Case, Holding, MAX_UNDER_WAY, Nodes, PAGE, ROUND_LIMITS, RepairNode, plan};

const REPLICAS: u32 = 3;
const SIZE: u64 = 4096;

/// Chains for new files among many datanodes.
pub struct Placements {
    candidates: Vec<Candidate>,
    seed: u64,
}

/// Planning of what the loss of one datanode takes, in pages as a round of repair sees the files.
pub struct Repairs {
    nodes: Nodes,
}

/// A record of a file with three replicas, and its frame.
pub struct FileFrame {
    hash: ContentHash,
    record: FileRecord,
    frame: Vec<u8>,
}

impl Placements {
    /// Among so many datanodes in 20 racks.
    pub fn among(nodes: u32) -> Self {
        Self {
            candidates: (1..=nodes).map(candidate).collect(),
            seed: 0,
        }
    }

    /// The chain of the next file: as many nodes as were found.
    pub fn place_next(&mut self) -> usize {
        self.seed += 1;
        let wanted = Wanted {
            count: 3,
            bytes: SIZE,
            seed: self.seed,
        };
        place(&self.candidates, wanted, &BTreeSet::new()).len()
    }
}

impl Repairs {
    /// Of a cluster of so many datanodes, the first of which is dead.
    pub fn in_cluster_of(nodes: u32) -> Self {
        let node = |index| {
            let mut candidate = candidate(index);
            if index == 1 {
                candidate.state = NodeState::Dead;
            }
            let node = RepairNode {
                candidate,
                draining: false,
                maintenance: false,
                failed: false,
                fresh: true,
                active_reads: 0,
                streams: 0,
                stream_bytes: 0,
                incoming_bytes: 0,
                allowance_bytes: i64::MAX / 2,
            };
            (NodeIndex(index), node)
        };
        Self {
            nodes: (1..=nodes).map(node).collect(),
        }
    }

    /// Plans for `files` files that the dead node held, a page after the other, each as if the one before had been carried
    /// out. Says how many commands came of it.
    pub fn plan_pages(&self, files: u64) -> usize {
        let page_files = u64::try_from(PAGE).unwrap_or(u64::MAX);
        let others = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX) - 1;
        let mut commands = 0;
        for first in (0..files).step_by(PAGE) {
            let until = files.min(first + page_files);
            let cases = (first..until).map(|file| case(file, others)).collect();
            let mut nodes = self.nodes.clone();
            commands += plan(cases, &mut nodes, MAX_UNDER_WAY, ROUND_LIMITS)
                .commands
                .len();
        }
        commands
    }
}

impl FileFrame {
    /// One of them.
    ///
    /// # Errors
    /// The record does not fit its frame.
    pub fn new() -> Result<Self, ViewError> {
        let hash = hash(1);
        let replica = |node| Replica {
            node: NodeIndex(node),
            generation: Generation(1_000_000),
        };
        let record = FileRecord {
            size: SIZE,
            blake3_root: Blake3Root::new([3; 32]),
            replication: REPLICAS,
            generation: Generation(1_000_000),
            created_ms: 1_700_000_000_000,
            replicas: (1..=REPLICAS).map(replica).collect(),
        };
        let frame = encode_file(&hash, &record)?;
        Ok(Self {
            hash,
            record,
            frame,
        })
    }

    /// The record as bytes.
    ///
    /// # Errors
    /// It does not fit.
    pub fn encode(&self) -> Result<Vec<u8>, ViewError> {
        encode_file(&self.hash, &self.record)
    }

    /// The bytes as a record; its size.
    ///
    /// # Errors
    /// They are damaged.
    pub fn decode(&self) -> Result<u64, ViewError> {
        Ok(decode_file(&self.hash, &self.frame)?.size)
    }
}

fn hash(number: u64) -> ContentHash {
    ContentHash::new(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

fn candidate(index: u32) -> Candidate {
    Candidate {
        index: NodeIndex(index),
        rack: format!("rack-{}", index % 20),
        state: NodeState::Live,
        registered: true,
        read_only: false,
        available_bytes: 1 << 40,
        load: u64::from(index % 7),
    }
}

/// A file on the dead node and two others.
fn case(file: u64, others: u32) -> Case {
    let other = |place: u64| {
        let span = u64::from(others);
        NodeIndex(2 + u32::try_from((file + place) % span).unwrap_or(0))
    };
    let holding = |node| Holding {
        node,
        generation: Generation(file + 1),
        suspect: false,
        unsettled: false,
    };
    let nodes: BTreeSet<NodeIndex> = [NodeIndex(1), other(0), other(1)].into();
    Case {
        hash: hash(file),
        size: SIZE,
        replication: 3,
        least: 2,
        generation: Generation(file + 1),
        holdings: nodes.into_iter().map(holding).collect(),
        avoid: BTreeSet::new(),
    }
}
