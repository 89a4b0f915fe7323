//! [`SoftState`]: everything the namenode knows that a restart may lose, behind one lock.

use richardstore_proto::{NodeStats, SessionEpoch};

use crate::cluster::{Cluster, SessionRefusal, Transition};
use crate::record::{NodeIndex, NodeRecord};
use crate::safe_mode::SafeMode;
use crate::suspects::Suspects;

/// The datanodes, safe mode and the replicas under suspicion. Times are monotonic milliseconds since the start.
#[derive(Debug, Clone)]
pub struct SoftState {
    /// The datanodes.
    pub cluster: Cluster,
    /// Whether commands are withheld.
    pub safe_mode: SafeMode,
    /// Replicas reported as bad.
    pub suspects: Suspects,
}

/// What a tick brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Nodes that went or came.
    pub transitions: Vec<Transition>,
    /// Safe mode ended.
    pub safe_mode_over: bool,
}

impl SoftState {
    /// At a start at time 0, with the nodes of the database in `cluster`.
    pub fn at_start(cluster: Cluster) -> Self {
        let until_ms = cluster.timeouts().dead_after_ms;
        let safe_mode = SafeMode::at_start(cluster.census(0).members, until_ms);
        Self {
            cluster,
            safe_mode,
            suspects: Suspects::default(),
        }
    }

    /// Event: a node registered. `true` when safe mode ended by it.
    pub fn registered(&mut self, record: NodeRecord, stats: NodeStats, now_ms: u64) -> bool {
        self.cluster.registered(record, stats, now_ms);
        self.observe(now_ms)
    }

    /// Event: time passed.
    pub fn tick(&mut self, now_ms: u64) -> Tick {
        Tick {
            transitions: self.cluster.tick(now_ms),
            safe_mode_over: self.observe(now_ms),
        }
    }

    /// See [`Cluster::session`].
    ///
    /// # Errors
    /// [`SessionRefusal`].
    pub fn session(
        &self,
        node_id: &richardstore_proto::NodeId,
        session: SessionEpoch,
    ) -> Result<NodeIndex, SessionRefusal> {
        self.cluster.session(node_id, session)
    }

    fn observe(&mut self, now_ms: u64) -> bool {
        let census = self.cluster.census(now_ms);
        self.safe_mode.observe(census.back, census.members, now_ms)
    }
}
