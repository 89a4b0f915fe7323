//! [`SoftState`]: everything the namenode knows that a restart may lose, behind one lock.

use std::collections::BTreeSet;

use richardstore_proto::{ContentHash, NodeId, NodeState, NodeStats, SessionEpoch};

use crate::cluster::{Cluster, SessionRefusal, Transition};
use crate::event_log::EventLog;
use crate::file_history::FileHistory;
use crate::record::{FileRecord, NodeIndex, NodeRecord};
use crate::repair::{Drains, Outage, Removals, RepairNotes};
use crate::safe_mode::SafeMode;
use crate::suspects::Suspects;

/// A busy machine's delays below this are no pause, in milliseconds.
const SHORTEST_PAUSE_MS: u64 = 1_000;

/// The datanodes, safe mode and the replicas under suspicion. Times are monotonic milliseconds since the start.
#[derive(Debug, Clone)]
pub struct SoftState {
    /// The datanodes.
    pub cluster: Cluster,
    /// Whether commands are withheld.
    pub safe_mode: SafeMode,
    /// Replicas reported as bad.
    pub suspects: Suspects,
    /// What repair remembers.
    pub repair: RepairNotes,
    /// How far the emptying of nodes is.
    pub drains: Drains,
    /// What happened lately.
    pub events: EventLog,
    /// What happened to files lately.
    pub history: FileHistory,
    /// How far the removal of nodes is.
    pub removals: Removals,
    outage: Outage,
    waits_for_reports: bool,
    ticked_ms: u64,
}

/// What a tick brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Nodes that went or came.
    pub transitions: Vec<Transition>,
    /// Safe mode ended.
    pub safe_mode_over: bool,
    /// For how long the namenode was held up before this tick, in milliseconds, where that was long.
    pub paused_ms: Option<u64>,
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
            repair: RepairNotes::default(),
            drains: Drains::default(),
            events: EventLog::default(),
            history: FileHistory::default(),
            removals: Removals::default(),
            outage: Outage::default(),
            waits_for_reports: false,
            ticked_ms: 0,
        }
    }

    /// The metadata was restored: what nodes hold is known from their reports only, so safe mode lasts until those came.
    pub fn wait_for_reports(&mut self) {
        self.waits_for_reports = true;
    }

    /// Event: a node registered. `true` when safe mode ended by it.
    pub fn registered(&mut self, record: NodeRecord, stats: NodeStats, now_ms: u64) -> bool {
        self.cluster.registered(record, stats, now_ms);
        self.observe(now_ms)
    }

    /// Event: time passed. Ticks come far more often than nodes turn stale; where they did not, the process or its machine
    /// was stopped, and the silence of the nodes is its own.
    pub fn tick(&mut self, now_ms: u64) -> Tick {
        let gap_ms = now_ms.saturating_sub(self.ticked_ms);
        self.ticked_ms = now_ms;
        let long_ms = (self.cluster.timeouts().stale_after_ms / 2).max(SHORTEST_PAUSE_MS);
        let paused_ms = (gap_ms >= long_ms).then_some(gap_ms);
        if let Some(gap_ms) = paused_ms {
            self.cluster.excuse(gap_ms, now_ms);
            self.safe_mode.prolong(gap_ms);
        }
        Tick {
            paused_ms,
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
        node_id: &NodeId,
        session: SessionEpoch,
    ) -> Result<NodeIndex, SessionRefusal> {
        self.cluster.session(node_id, session)
    }

    /// Whether repair may order anything now.
    pub fn may_repair(&mut self, now_ms: u64) -> bool {
        let members = self.cluster.census(now_ms).members;
        let grace_ms = self.cluster.timeouts().dead_after_ms;
        let there = self.cluster.there(now_ms);
        self.outage.observe(there, members, grace_ms, now_ms);
        !self.safe_mode.is_on() && !self.outage.is_on()
    }

    /// Why nothing is copied or removed now, in words; `None`: it is.
    pub fn halted(&self, now_ms: u64) -> Option<String> {
        if let Some(reason) = self.safe_mode.reason(now_ms) {
            return Some(format!("Safe mode is on: {reason}."));
        }
        self.outage.is_on().then(|| {
            "Most datanodes are or were away: nothing is copied until they had the time to come back.".to_owned()
        })
    }

    /// Why repair rests because most nodes are away, in words; `None` where it does not.
    pub fn repair_rests(&self, now_ms: u64) -> Option<String> {
        let members = self.cluster.census(now_ms).members;
        let there = self.cluster.there(now_ms);
        self.outage.reason(there, members, now_ms)
    }

    /// Event: the operator says that it goes on as it is. Nodes that are away are lost and not waited for.
    pub fn leave_safe_mode(&mut self) {
        self.safe_mode.leave();
        self.outage.overrule();
    }

    /// Event: the operator removed a node, which is durable.
    pub fn removed(&mut self, index: NodeIndex) {
        self.cluster.remove(index);
        self.drains.remove(&index);
    }

    /// Event: a node's journal told of these files, `true` for a removal.
    pub fn reported(&mut self, events: &[(ContentHash, bool)]) {
        for (hash, removed) in events {
            if *removed {
                self.repair.touch(*hash);
            } else {
                self.repair.reported(hash);
            }
        }
    }

    /// Takes in what is on record of a file: what was feared of replicas that are not there any more is over.
    pub fn recorded(&mut self, hash: &ContentHash, record: Option<&FileRecord>) {
        let held = |node| record.is_some_and(|record| record.replica(node).is_some());
        self.suspects.keep_of(hash, held);
        self.repair.keep_of(hash, held);
        if record.is_none() {
            self.repair.healed(hash);
        }
    }

    /// Whether something else may rely on the replica of `hash` on `node`: it counts, and what is believed of the node was
    /// checked since it came.
    pub fn is_trusted(&self, hash: &ContentHash, node: NodeIndex, now_ms: u64) -> bool {
        self.is_good(hash, node, now_ms)
            && self
                .cluster
                .get(node)
                .is_some_and(|known| known.report.is_fresh())
    }

    /// The nodes that are there, and whose volumes work.
    pub fn standing(&self, now_ms: u64) -> BTreeSet<NodeIndex> {
        let timeouts = self.cluster.timeouts();
        let nodes = self.cluster.iter();
        let standing = nodes.filter(|node| node.stands(timeouts, now_ms));
        standing.map(|node| node.index).collect()
    }

    /// Whether `node` is there, if not quite well, and nothing speaks against its replica of `hash`: it can still be read.
    pub fn stands(&self, hash: &ContentHash, node: NodeIndex, now_ms: u64) -> bool {
        let timeouts = self.cluster.timeouts();
        let known = self.cluster.get(node);
        let there = known.is_some_and(|known| known.stands(timeouts, now_ms));
        there && !self.suspects.contains(hash, node) && !self.repair.is_unsettled(hash, node)
    }

    /// Whether `node` is live and nothing speaks against its replica of `hash`.
    pub fn is_good(&self, hash: &ContentHash, node: NodeIndex, now_ms: u64) -> bool {
        let timeouts = self.cluster.timeouts();
        let live = self.cluster.get(node).is_some_and(|known| {
            known.registered
                && !known.stats.volume_failed
                && known.state(timeouts, now_ms) == NodeState::Live
        });
        live && !self.suspects.contains(hash, node) && !self.repair.is_unsettled(hash, node)
    }

    fn observe(&mut self, now_ms: u64) -> bool {
        let census = self.cluster.census(now_ms);
        let back = match self.waits_for_reports {
            true => self.cluster.reported(),
            false => census.back,
        };
        self.safe_mode.observe(back, census.members, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::Timeouts;
    use crate::record::NodeAdmin;
    use richardstore_proto::Sequence;

    fn one_known_node() -> SoftState {
        let record = NodeRecord {
            node_id: NodeId::new([1; 16]),
            index: NodeIndex(1),
            name: "node-1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            rack: String::new(),
            session_epoch: SessionEpoch(1),
            journal_id: None,
            next_sequence: Sequence(1),
            admin: NodeAdmin::InService,
            registered_ms: 0,
            replicas: 0,
            bytes: 0,
            commands: 0,
        };
        let timeouts = Timeouts {
            stale_after_ms: 5_000,
            dead_after_ms: 30_000,
        };
        SoftState::at_start(Cluster::at_start(vec![record], timeouts, 1_000, 0))
    }

    #[test]
    fn a_namenode_that_was_stopped_for_an_hour_calls_no_node_dead() {
        let mut soft = one_known_node();
        assert_eq!(soft.tick(500).paused_ms, None);
        let tick = soft.tick(3_600_500);
        assert_eq!(tick.paused_ms, Some(3_600_000));
        assert_eq!(tick.transitions, []);
        assert!(soft.safe_mode.is_on(), "the time to come back counts anew");
        let mut now_ms = 3_600_500;
        while soft.cluster.census(now_ms).dead == 0 {
            now_ms += 500;
            assert_eq!(soft.tick(now_ms).paused_ms, None);
        }
        assert_eq!(now_ms, 3_630_000);
    }
}
