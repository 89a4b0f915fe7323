//! [`Cluster`]: the datanodes as they are now. Soft state, made of events and times alone: no clock, no I/O.
//!
//! A restart of the namenode starts it from the durable records; everything else comes back with the registrations.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::{Generation, MAX_WHOLE_FILES, NodeId, NodeStats, Sequence, SessionEpoch};

use crate::known_node::KnownNode;
use crate::liveness::{Liveness, Timeouts};
use crate::placement::{Candidate, Shortage, Wanted, go_together, place, place_beside, shortage};
use crate::record::{NodeAdmin, NodeIndex, NodeRecord};

/// The datanodes by number.
#[derive(Debug, Clone)]
pub struct Cluster {
    timeouts: Timeouts,
    heartbeat_interval_ms: u64,
    nodes: BTreeMap<NodeIndex, KnownNode>,
    by_id: BTreeMap<NodeId, NodeIndex>,
    removed: BTreeSet<NodeIndex>,
    shown: BTreeMap<NodeIndex, Liveness>,
    /// The highest [`KnownNode::doubtful_before`].
    doubtful_before: Generation,
}

/// Why a datanode's call does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRefusal {
    /// It has to register first.
    Unregistered,
    /// A newer session of the same node exists.
    Fenced {
        /// The newest.
        newest: SessionEpoch,
    },
}

/// A node whose silence is read differently than at the last tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Which.
    pub index: NodeIndex,
    /// How it was.
    pub from: Liveness,
    /// How it is.
    pub to: Liveness,
}

/// The nodes, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// In the cluster: all but those that were emptied.
    pub members: u64,
    /// Members that registered since the namenode started, or are expected to be away.
    pub back: u64,
    /// Heard from lately.
    pub live: u32,
    /// Late.
    pub stale: u32,
    /// Gone.
    pub dead: u32,
    /// Heard from lately, with a volume that failed.
    pub failed: u32,
    /// In maintenance, there or not; counted nowhere else.
    pub in_maintenance: u32,
    /// Bytes of the live nodes' volumes.
    pub capacity_bytes: u64,
    /// Bytes that may still be written there.
    pub available_bytes: u64,
}

impl Cluster {
    /// The nodes of the database; all count as just heard.
    pub fn at_start(
        records: Vec<NodeRecord>,
        timeouts: Timeouts,
        heartbeat_interval_ms: u64,
        now_ms: u64,
    ) -> Self {
        let mut cluster = Self {
            timeouts,
            heartbeat_interval_ms,
            nodes: BTreeMap::new(),
            by_id: BTreeMap::new(),
            removed: BTreeSet::new(),
            shown: BTreeMap::new(),
            doubtful_before: Generation(0),
        };
        for record in records {
            cluster.insert(KnownNode::from_record(record, now_ms));
        }
        cluster
    }

    /// The silences that count as stale and dead.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Event: a node registered, and `record` is what the database now says of it. An answer that was overtaken by a
    /// newer session's changes nothing.
    pub fn registered(&mut self, record: NodeRecord, stats: NodeStats, now_ms: u64) {
        let known = self.nodes.get(&record.index);
        if known.is_some_and(|node| node.session > record.session_epoch) {
            return;
        }
        // The operator's wish arrives by its own event, and the record may have been read before it.
        let admin = known.map_or(record.admin, |node| node.admin);
        let maintenance_until_ms = known.and_then(|node| node.maintenance_until_ms);
        let mut node = KnownNode::from_record(record, now_ms);
        node.admin = admin;
        node.maintenance_until_ms = maintenance_until_ms;
        node.registered = true;
        node.forget_promises(now_ms);
        node.hear(stats, self.heartbeat_interval_ms, now_ms);
        self.insert(node);
    }

    /// Event: with that registration, the generations before `next` had been handed out.
    pub fn may_have_lost(&mut self, index: NodeIndex, next: Generation) {
        if let Some(node) = self.nodes.get_mut(&index) {
            // The answer to an older session may come late.
            node.doubtful_before = node.doubtful_before.max(next);
            self.doubtful_before = self.doubtful_before.max(next);
        }
    }

    /// Event: the node removed what it had acknowledged of a write that is still in flight (I6). A commit that names it may come
    /// later, or may have come between the removal and this.
    pub fn lost_in_flight(&mut self, index: NodeIndex, generation: Generation) {
        self.may_have_lost(index, Generation(generation.0.saturating_add(1)));
        if let Some(node) = self.nodes.get_mut(&index) {
            node.report.doubt();
        }
    }

    /// Whether what a node acknowledged of `generation` may have gone since: it registered later, or said so.
    pub fn may_be_lost(&self, generation: Generation) -> bool {
        generation < self.doubtful_before
    }

    /// Event: the node is believed to hold a replica of `generation`, by what it said of it to whoever wrote it. Where it
    /// registered since, or removed something of it, that is to be checked: its disk may be another one, and its full report
    /// may have come before.
    pub fn told_of(&mut self, index: NodeIndex, generation: Generation) {
        if let Some(node) = self.nodes.get_mut(&index)
            && generation < node.doubtful_before
        {
            tracing::debug!(node = index.0, %generation, "what it holds is to be checked again");
            node.report.doubt();
        }
    }

    /// Event: a heartbeat of a session that [`Cluster::session`] accepted. A node that was dead has to prove again what
    /// it holds.
    pub fn heartbeat(&mut self, index: NodeIndex, stats: NodeStats, now_ms: u64) {
        let Some(node) = self.nodes.get_mut(&index) else {
            return;
        };
        if node.liveness(self.timeouts, now_ms) == Liveness::Dead {
            node.report.doubt();
        }
        node.hear(stats, self.heartbeat_interval_ms, now_ms);
    }

    /// Event: a node has another address.
    pub fn moved(&mut self, index: NodeIndex, address: String) {
        if let Some(node) = self.nodes.get_mut(&index) {
            node.address = address;
        }
    }

    /// Event: a node was removed for good, which is durable. An answer to its registration that comes late does not bring it
    /// back.
    pub fn remove(&mut self, index: NodeIndex) {
        self.removed.insert(index);
        self.shown.remove(&index);
        if let Some(node) = self.nodes.remove(&index) {
            self.by_id.remove(&node.node_id);
        }
    }

    /// Event: something else is wanted of a node, which is durable.
    pub fn set_admin(&mut self, index: NodeIndex, admin: NodeAdmin) {
        if let Some(node) = self.nodes.get_mut(&index) {
            node.admin = admin;
        }
    }

    /// Event: a node is expected to be away until then, or is not any more, which is durable.
    pub fn set_maintenance(&mut self, index: NodeIndex, until_ms: Option<u64>) {
        if let Some(node) = self.nodes.get_mut(&index) {
            node.maintenance_until_ms = until_ms;
        }
    }

    /// Event: journal events of a node before `next` have been applied. `true` when what is believed of it is fresh by
    /// this.
    pub fn applied(&mut self, index: NodeIndex, next: Sequence, now_ms: u64) -> bool {
        self.nodes
            .get_mut(&index)
            .is_some_and(|node| node.report.applied(next, now_ms))
    }

    /// Event: the namenode itself was held up for `gap_ms`. It cannot know who was silent in that time.
    pub fn excuse(&mut self, gap_ms: u64, now_ms: u64) {
        for node in self.nodes.values_mut() {
            node.excuse(gap_ms, now_ms);
        }
    }

    /// Event: time passed. Who is heard or missed now and was not at the last tick.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for (&index, node) in &self.nodes {
            let to = node.liveness(self.timeouts, now_ms);
            let from = self.shown.insert(index, to).unwrap_or(Liveness::Live);
            if from != to {
                transitions.push(Transition { index, from, to });
            }
        }
        transitions
    }

    /// Chooses nodes for a write and counts it on each of them.
    pub fn place(
        &mut self,
        wanted: &[Wanted],
        excluded: &BTreeSet<NodeIndex>,
        now_ms: u64,
    ) -> Vec<Vec<NodeIndex>> {
        let mut candidates = self.candidates(now_ms);
        let mut chains: Vec<Vec<NodeIndex>> = Vec::with_capacity(wanted.len());
        for (at, &one) in wanted.iter().enumerate() {
            let goes_with = (at % MAX_WHOLE_FILES > 0).then(|| (&wanted[at - 1], &chains[at - 1]));
            let chain = match goes_with {
                Some((before, chain)) if go_together(before, &one, chain, &candidates) => {
                    chain.clone()
                }
                _ => place(&candidates, one, excluded),
            };
            for candidate in &mut candidates {
                if chain.contains(&candidate.index) {
                    candidate.load += 1;
                    candidate.available_bytes = candidate.available_bytes.saturating_sub(one.bytes);
                }
            }
            self.promise(&chain, one.bytes);
            chains.push(chain);
        }
        chains
    }

    /// Chooses nodes for more replicas of a write that the nodes in `beside` have, and counts it on each.
    pub fn place_beside(
        &mut self,
        wanted: Wanted,
        excluded: &BTreeSet<NodeIndex>,
        beside: &BTreeSet<NodeIndex>,
        now_ms: u64,
    ) -> Vec<NodeIndex> {
        let racks: Vec<&str> = beside
            .iter()
            .filter_map(|index| self.nodes.get(index))
            .map(|node| node.rack.as_str())
            .collect();
        let excluded = excluded.union(beside).copied().collect();
        let chain = place_beside(&self.candidates(now_ms), wanted, &excluded, &racks);
        self.promise(&chain, wanted.bytes);
        chain
    }

    fn promise(&mut self, chain: &[NodeIndex], bytes: u64) {
        for index in chain {
            if let Some(node) = self.nodes.get_mut(index) {
                node.promise(bytes);
            }
        }
    }

    /// What there is too little of to put a write of `bytes` on `needed` nodes; see [`shortage`].
    pub fn shortage(
        &self,
        bytes: u64,
        excluded: &BTreeSet<NodeIndex>,
        needed: usize,
        now_ms: u64,
    ) -> Option<Shortage> {
        shortage(&self.candidates(now_ms), bytes, excluded, needed)
    }

    /// The number of the node that calls, if `session` is its registered one.
    ///
    /// # Errors
    /// [`SessionRefusal`]: it has to register, or a newer one has.
    pub fn session(
        &self,
        node_id: &NodeId,
        session: SessionEpoch,
    ) -> Result<NodeIndex, SessionRefusal> {
        let node = self.by_id(node_id).ok_or(SessionRefusal::Unregistered)?;
        if session < node.session {
            return Err(SessionRefusal::Fenced {
                newest: node.session,
            });
        }
        if !node.registered || session > node.session {
            return Err(SessionRefusal::Unregistered);
        }
        Ok(node.index)
    }

    /// The nodes, counted.
    pub fn census(&self, now_ms: u64) -> Census {
        let mut census = Census::default();
        for node in self.nodes.values() {
            if node.admin != NodeAdmin::Decommissioned {
                census.members += 1;
                census.back += u64::from(node.registered || node.is_expected_away());
            }
            let liveness = node.liveness(self.timeouts, now_ms);
            if node.is_expected_away() {
                census.in_maintenance += 1;
                if liveness != Liveness::Live {
                    continue;
                }
            }
            match liveness {
                Liveness::Live => {
                    census.live += u32::from(!node.is_expected_away());
                    census.failed += u32::from(node.stats.volume_failed);
                }
                // An emptied node that was switched off is no fault.
                Liveness::Stale | Liveness::Dead if node.admin == NodeAdmin::Decommissioned => {
                    continue;
                }
                Liveness::Stale => census.stale += 1,
                Liveness::Dead => {
                    census.dead += 1;
                    continue;
                }
            }
            census.capacity_bytes = census
                .capacity_bytes
                .saturating_add(node.stats.capacity_bytes);
            census.available_bytes = census
                .available_bytes
                .saturating_add(node.stats.available_bytes);
        }
        census
    }

    /// Of the members, those whose reports are fresh, or that are expected to be away.
    pub fn reported(&self) -> u64 {
        let reported = self.nodes.values().filter(|node| {
            let reported = node.registered && node.report.is_fresh();
            node.admin != NodeAdmin::Decommissioned && (reported || node.is_expected_away())
        });
        u64::try_from(reported.count()).unwrap_or(u64::MAX)
    }

    /// Of the members, those that are not dead, or are expected to be away: that they are is no sign of an outage.
    pub fn there(&self, now_ms: u64) -> u64 {
        let there = self.nodes.values().filter(|node| {
            node.admin != NodeAdmin::Decommissioned
                && (node.is_expected_away()
                    || node.liveness(self.timeouts, now_ms) != Liveness::Dead)
        });
        u64::try_from(there.count()).unwrap_or(u64::MAX)
    }

    /// All nodes, by number.
    pub fn iter(&self) -> impl Iterator<Item = &KnownNode> {
        self.nodes.values()
    }

    /// A node by its number.
    pub fn get(&self, index: NodeIndex) -> Option<&KnownNode> {
        self.nodes.get(&index)
    }

    /// A node by its number, to note something.
    pub fn get_mut(&mut self, index: NodeIndex) -> Option<&mut KnownNode> {
        self.nodes.get_mut(&index)
    }

    /// A node by its identity.
    pub fn by_id(&self, node_id: &NodeId) -> Option<&KnownNode> {
        self.nodes.get(self.by_id.get(node_id)?)
    }

    /// The nodes that an operator means by `text`: the one with that id, or all of that name.
    pub fn named(&self, text: &str) -> Vec<&KnownNode> {
        let id = text.parse::<NodeId>().ok();
        if let Some(node) = id.and_then(|id| self.by_id(&id)) {
            return vec![node];
        }
        self.iter().filter(|node| node.name == text).collect()
    }

    fn candidates(&self, now_ms: u64) -> Vec<Candidate> {
        self.nodes
            .values()
            .map(|node| node.candidate(self.timeouts, now_ms))
            .collect()
    }

    fn insert(&mut self, node: KnownNode) {
        if self.removed.contains(&node.index) {
            return;
        }
        self.by_id.insert(node.node_id, node.index);
        self.nodes.insert(node.index, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::{Generation, NodeState};

    const TIMEOUTS: Timeouts = Timeouts {
        stale_after_ms: 5_000,
        dead_after_ms: 30_000,
    };

    fn record(number: u32, session: u64) -> NodeRecord {
        NodeRecord {
            node_id: id(number),
            index: NodeIndex(number),
            name: format!("node-{number}"),
            address: format!("127.0.0.1:{number}"),
            rack: String::new(),
            session_epoch: SessionEpoch(session),
            journal_id: None,
            next_sequence: Sequence(1),
            admin: NodeAdmin::InService,
            registered_ms: 0,
            replicas: 0,
            bytes: 0,
            commands: 0,
        }
    }

    fn id(number: u32) -> NodeId {
        NodeId::new([u8::try_from(number).unwrap(); 16])
    }

    fn stats() -> NodeStats {
        NodeStats {
            capacity_bytes: 1 << 40,
            available_bytes: 1 << 39,
            ..NodeStats::default()
        }
    }

    fn cluster(known: u32) -> Cluster {
        let records = (1..=known).map(|number| record(number, 1)).collect();
        Cluster::at_start(records, TIMEOUTS, 1_000, 0)
    }

    fn wanted(count: usize) -> Wanted {
        Wanted {
            count,
            bytes: 100,
            seed: 1,
        }
    }

    #[test]
    fn i07_after_a_restart_every_known_node_has_a_full_dead_timeout() {
        let mut cluster = cluster(1);
        assert_eq!(cluster.tick(4_999), []);
        assert_eq!(cluster.census(29_999).stale, 1);
        assert_eq!(cluster.census(30_000).dead, 1);
        let expected = Transition {
            index: NodeIndex(1),
            from: Liveness::Live,
            to: Liveness::Dead,
        };
        assert_eq!(cluster.tick(30_000), [expected]);
        assert_eq!(cluster.tick(30_001), []);
    }

    #[test]
    fn nothing_is_placed_on_a_known_node_before_it_has_registered() {
        let mut cluster = cluster(2);
        cluster.registered(record(2, 2), stats(), 10);
        let chains = cluster.place(&[wanted(2)], &BTreeSet::new(), 10);
        assert_eq!(chains, [vec![NodeIndex(2)]]);
    }

    #[test]
    fn i10_an_older_session_is_fenced_and_a_newer_one_has_to_register() {
        let mut cluster = cluster(1);
        let unregistered = Err(SessionRefusal::Unregistered);
        assert_eq!(cluster.session(&id(1), SessionEpoch(1)), unregistered);
        assert_eq!(cluster.session(&id(9), SessionEpoch(1)), unregistered);
        cluster.registered(record(1, 2), stats(), 10);
        let newest = SessionEpoch(2);
        assert_eq!(
            cluster.session(&id(1), SessionEpoch(1)),
            Err(SessionRefusal::Fenced { newest })
        );
        assert_eq!(cluster.session(&id(1), newest), Ok(NodeIndex(1)));
        assert_eq!(cluster.session(&id(1), SessionEpoch(3)), unregistered);
    }

    #[test]
    fn i10_a_registration_that_was_overtaken_changes_nothing() {
        let mut cluster = cluster(1);
        cluster.registered(record(1, 5), stats(), 10);
        cluster.registered(record(1, 4), NodeStats::default(), 11);
        assert_eq!(cluster.get(NodeIndex(1)).unwrap().session, SessionEpoch(5));
        assert_eq!(cluster.get(NodeIndex(1)).unwrap().stats, stats());
    }

    #[test]
    fn a_node_in_maintenance_is_neither_missed_nor_waited_for() {
        let mut cluster = cluster(2);
        cluster.set_maintenance(NodeIndex(1), Some(5));
        let census = cluster.census(30_000);
        assert_eq!((census.in_maintenance, census.dead), (1, 1));
        assert_eq!((census.members, census.back), (2, 1));
        assert_eq!(cluster.there(30_000), 1);
        cluster.registered(record(1, 2), stats(), 30_000);
        let state = |cluster: &Cluster, now_ms| {
            let node = cluster.get(NodeIndex(1)).unwrap();
            (
                node.state(TIMEOUTS, now_ms),
                node.info(Generation(0), TIMEOUTS, now_ms).state,
            )
        };
        let maintenance = NodeState::Maintenance;
        assert_eq!(state(&cluster, 30_000), (maintenance, maintenance));
        assert_eq!(state(&cluster, 90_000), (NodeState::Dead, maintenance));
        assert!(cluster.place(&[wanted(2)], &BTreeSet::new(), 30_000)[0].is_empty());
        cluster.set_maintenance(NodeIndex(1), None);
        assert_eq!(state(&cluster, 90_000), (NodeState::Dead, NodeState::Dead));
        assert_eq!(cluster.census(90_000).dead, 2);
    }

    #[test]
    fn a_removed_node_is_not_brought_back_by_an_answer_that_comes_late() {
        let mut cluster = cluster(2);
        cluster.remove(NodeIndex(1));
        cluster.registered(record(1, 2), stats(), 10);
        assert_eq!(cluster.census(10).members, 1);
        let unregistered = Err(SessionRefusal::Unregistered);
        assert_eq!(cluster.session(&id(1), SessionEpoch(2)), unregistered);
    }

    #[test]
    fn a_node_back_from_the_dead_has_to_report_again() {
        let mut cluster = cluster(1);
        let index = NodeIndex(1);
        cluster.registered(record(1, 2), stats(), 0);
        let report = &mut cluster.get_mut(index).unwrap().report;
        report.end(Sequence(1), Sequence(1), 0);
        cluster.heartbeat(index, stats(), 29_999);
        assert!(cluster.get(index).unwrap().report.is_fresh());
        cluster.heartbeat(index, stats(), 60_000);
        assert!(!cluster.get(index).unwrap().report.is_fresh());
        assert!(cluster.get(index).unwrap().report.wanted(60_000));
    }

    #[test]
    fn promised_space_counts_until_the_node_counts_it_itself() {
        let mut cluster = cluster(1);
        let index = NodeIndex(1);
        let small = NodeStats {
            available_bytes: 150,
            ..stats()
        };
        cluster.registered(record(1, 2), small, 0);
        let none: [Vec<NodeIndex>; 1] = [vec![]];
        let chains = cluster.place(&[wanted(1), wanted(1)], &BTreeSet::new(), 0);
        assert_eq!(chains, [vec![index], vec![]]);
        let place =
            |cluster: &mut Cluster, now_ms| cluster.place(&[wanted(1)], &BTreeSet::new(), now_ms);
        // Sent early, it may have been made before the client came.
        cluster.heartbeat(index, small, 10);
        assert_eq!(place(&mut cluster, 10), none);
        // The next one says what is really there: room for one more.
        cluster.heartbeat(index, small, 1_000);
        assert_eq!(place(&mut cluster, 1_000), [vec![index]]);
        assert_eq!(place(&mut cluster, 1_000), none);
        assert_eq!(
            cluster.get(index).unwrap().candidate(TIMEOUTS, 1_000).load,
            2
        );
    }

    #[test]
    fn a_batch_of_writes_is_spread() {
        let mut cluster = cluster(0);
        for number in 1..=4 {
            cluster.registered(record(number, 1), stats(), 0);
        }
        let large = 1 << 20;
        let batch: Vec<Wanted> = (0..64)
            .map(|seed| Wanted {
                seed,
                bytes: large,
                ..wanted(1)
            })
            .collect();
        cluster.place(&batch, &BTreeSet::new(), 0);
        for node in cluster.nodes.values() {
            assert!((14..=18).contains(&node.candidate(TIMEOUTS, 0).load));
        }
    }

    #[test]
    fn small_files_of_a_batch_go_together_and_the_batches_are_spread() {
        let mut cluster = cluster(0);
        for number in 1..=4 {
            cluster.registered(record(number, 1), stats(), 0);
        }
        let batch: Vec<Wanted> = (0..128)
            .map(|seed| Wanted {
                seed,
                bytes: 4096,
                ..wanted(1)
            })
            .collect();
        let chains = cluster.place(&batch, &BTreeSet::new(), 0);
        for together in chains.chunks(MAX_WHOLE_FILES) {
            assert!(together.iter().all(|chain| *chain == together[0]));
        }
        for node in cluster.nodes.values() {
            assert_eq!(node.candidate(TIMEOUTS, 0).load, MAX_WHOLE_FILES as u64);
        }
    }

    #[test]
    fn a_registration_does_not_undo_what_the_operator_wants() {
        let mut cluster = cluster(1);
        cluster.set_admin(NodeIndex(1), NodeAdmin::Decommissioning);
        cluster.registered(record(1, 2), stats(), 0);
        let node = cluster.get(NodeIndex(1)).unwrap();
        assert_eq!(node.admin, NodeAdmin::Decommissioning);
        assert!(cluster.place(&[wanted(1)], &BTreeSet::new(), 0)[0].is_empty());
        assert_eq!(cluster.named("node-1").len(), 1);
        assert_eq!(cluster.named(&id(1).to_string()).len(), 1);
        assert!(cluster.named("node-2").is_empty());
    }

    #[test]
    fn an_emptied_node_is_no_member_and_no_loss() {
        let mut cluster = cluster(1);
        let mut emptied = record(2, 1);
        emptied.admin = NodeAdmin::Decommissioned;
        cluster.registered(emptied, stats(), 0);
        let census = cluster.census(90_000);
        assert_eq!((census.members, census.dead), (1, 1));
        let census = cluster.census(10_000);
        assert_eq!((census.stale, census.dead), (1, 0), "only the other one");
    }
}
