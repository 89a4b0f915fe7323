//! Registration of datanodes.

use richardstore_proto::{JournalId, NodeId, Sequence, SessionEpoch};

use super::batch::Batch;
use super::codec;
use crate::mutation::{MutationError, Reply};
use crate::record::{NodeAdmin, NodeIndex, NodeRecord};

/// Datanodes that one cluster may ever have.
const MAX_NODES: u32 = 65_536;

/// What a datanode says of itself when it starts.
pub(super) struct Registration<'a> {
    pub node_id: NodeId,
    pub session_epoch: SessionEpoch,
    pub name: &'a str,
    pub address: &'a str,
    pub rack: &'a str,
    pub journal_id: JournalId,
    pub now_ms: u64,
}

impl Batch<'_> {
    /// Takes in a node, or its new session. An older session than the newest is refused: of two processes with one
    /// identity, the one that started last is the node.
    pub fn register_node(&mut self, start: &Registration<'_>) -> Result<Reply, MutationError> {
        match self.node_index(&start.node_id)? {
            Some(index) => self.register_again(index, start),
            None => self.register_first(start),
        }
    }

    fn register_first(&mut self, start: &Registration<'_>) -> Result<Reply, MutationError> {
        let index = NodeIndex(self.counters.next_node);
        if index.0 > MAX_NODES {
            return Err(MutationError::Limit {
                argument: "nodes",
                value: u64::from(index.0),
                allowed: "up to 65536",
            });
        }
        self.counters.next_node += 1;
        self.add_node(NodeRecord {
            node_id: start.node_id,
            index,
            name: start.name.to_owned(),
            address: start.address.to_owned(),
            rack: start.rack.to_owned(),
            session_epoch: start.session_epoch,
            journal_id: Some(start.journal_id),
            next_sequence: Sequence(1),
            admin: NodeAdmin::InService,
            registered_ms: start.now_ms,
            replicas: 0,
            bytes: 0,
            commands: 0,
        })?;
        Ok(Reply::Registered {
            index,
            next_sequence: Sequence(1),
            journal_changed: true,
        })
    }

    fn register_again(
        &mut self,
        index: NodeIndex,
        start: &Registration<'_>,
    ) -> Result<Reply, MutationError> {
        if self.is_removed(index)? {
            let node_id = start.node_id;
            return Err(MutationError::NodeRemoved { node_id });
        }
        let node = self.node(index)?;
        if start.session_epoch < node.session_epoch {
            return Err(MutationError::Fenced {
                node_id: start.node_id,
                session_epoch: start.session_epoch,
                newest: node.session_epoch,
            });
        }
        let journal_changed = node.journal_id != Some(start.journal_id);
        if journal_changed {
            // Sequence numbers of another journal mean nothing here; a full report has to say what the node holds.
            node.journal_id = Some(start.journal_id);
            node.next_sequence = Sequence(1);
        }
        node.session_epoch = start.session_epoch;
        start.name.clone_into(&mut node.name);
        start.address.clone_into(&mut node.address);
        start.rack.clone_into(&mut node.rack);
        let next_sequence = node.next_sequence;
        self.touch();
        if journal_changed {
            self.unpark_all(index)?;
        }
        Ok(Reply::Registered {
            index,
            next_sequence,
            journal_changed,
        })
    }

    /// Takes in a new address.
    pub fn update_node(&mut self, index: NodeIndex, address: &str) -> Result<Reply, MutationError> {
        let node = self.node(index)?;
        if node.address != address {
            address.clone_into(&mut node.address);
            self.touch();
        }
        Ok(Reply::Done)
    }

    /// Takes in until when a node is expected to be away.
    pub fn set_maintenance(
        &mut self,
        index: NodeIndex,
        until_ms: Option<u64>,
    ) -> Result<Reply, MutationError> {
        self.present_node(index)?;
        match until_ms {
            Some(until_ms) => {
                let frame = codec::encode("maintenance", &until_ms)?;
                self.tables.maintenance.insert(index.0, frame.as_slice())?;
            }
            None => {
                self.tables.maintenance.remove(index.0)?;
            }
        }
        self.touch();
        Ok(Reply::Done)
    }

    /// Takes in what is wanted of a node. That it was emptied is said by a walk which may have been overtaken by the
    /// operator: it counts only while the node is being emptied.
    pub fn set_node_admin(
        &mut self,
        index: NodeIndex,
        admin: NodeAdmin,
    ) -> Result<Reply, MutationError> {
        let node = self.present_node(index)?;
        let next = match (node.admin, admin) {
            (NodeAdmin::InService, NodeAdmin::Decommissioned) => NodeAdmin::InService,
            (NodeAdmin::Decommissioned, NodeAdmin::Decommissioning) => NodeAdmin::Decommissioned,
            (_, wanted) => wanted,
        };
        if node.admin != next {
            node.admin = next;
            self.touch();
        }
        Ok(Reply::NodeAdmin { admin: next })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, JOURNAL, event, node_id, registration, report};
    use super::*;
    use crate::mutation::Mutation;
    use std::collections::BTreeMap;

    #[test]
    fn a_node_keeps_its_number_and_its_place_in_the_journal() {
        let fixture = Fixture::new();
        let events = vec![event(1, 1, 1, true)];
        fixture.apply(report(2, 1, JOURNAL, events)).unwrap();
        assert_eq!(
            fixture.apply(registration(2, 2, JOURNAL)),
            Ok(Reply::Registered {
                index: NodeIndex(2),
                next_sequence: Sequence(2),
                journal_changed: false,
            })
        );
        let node = fixture.view().node_by_id(&node_id(2)).unwrap().unwrap();
        assert_eq!(
            (node.index, node.session_epoch),
            (NodeIndex(2), SessionEpoch(2))
        );
    }

    #[test]
    fn a_new_journal_starts_at_one_and_wants_a_full_report() {
        let fixture = Fixture::new();
        let events = vec![event(1, 1, 1, true)];
        fixture.apply(report(2, 1, JOURNAL, events)).unwrap();
        assert_eq!(
            fixture.apply(registration(2, 2, JournalId::new([8; 16]))),
            Ok(Reply::Registered {
                index: NodeIndex(2),
                next_sequence: Sequence(1),
                journal_changed: true,
            })
        );
    }

    #[test]
    fn an_older_session_is_fenced_and_changes_nothing() {
        let fixture = Fixture::new();
        fixture.apply(registration(2, 5, JOURNAL)).unwrap();
        let before = fixture.view().node(NodeIndex(2)).unwrap();
        assert_eq!(
            fixture.apply(registration(2, 4, JournalId::new([8; 16]))),
            Err(MutationError::Fenced {
                node_id: node_id(2),
                session_epoch: SessionEpoch(4),
                newest: SessionEpoch(5),
            })
        );
        assert_eq!(fixture.view().node(NodeIndex(2)).unwrap(), before);
    }

    #[test]
    fn a_node_is_emptied_only_while_it_is_being_emptied_and_stays_so_until_it_is_wanted_again() {
        use NodeAdmin::{Decommissioned, Decommissioning, InService};
        let fixture = Fixture::new();
        let steps = [
            (Decommissioned, InService),
            (Decommissioning, Decommissioning),
            (InService, InService),
            (Decommissioning, Decommissioning),
            (Decommissioned, Decommissioned),
            (Decommissioning, Decommissioned),
        ];
        let set = |index, admin| {
            fixture.apply(Mutation::SetNodeAdmin {
                index: NodeIndex(index),
                admin,
            })
        };
        for (wanted, admin) in steps {
            assert_eq!(set(2, wanted), Ok(Reply::NodeAdmin { admin }));
        }
        fixture.apply(registration(2, 2, JOURNAL)).unwrap();
        let node = fixture.view().node(NodeIndex(2)).unwrap().unwrap();
        assert_eq!(
            node.admin, Decommissioned,
            "a restart of it changes nothing"
        );
        let reply = Reply::NodeAdmin { admin: InService };
        assert_eq!(set(2, InService), Ok(reply));
        let unknown = Err(MutationError::NodeUnknown(NodeIndex(9)));
        assert_eq!(set(9, Decommissioning), unknown);
    }

    #[test]
    fn maintenance_is_remembered_until_it_is_ended() {
        let fixture = Fixture::new();
        let set = |index, until_ms| {
            fixture.apply(Mutation::SetMaintenance {
                index: NodeIndex(index),
                until_ms,
            })
        };
        set(2, Some(5_000)).unwrap();
        set(3, Some(6_000)).unwrap();
        fixture.apply(registration(2, 2, JOURNAL)).unwrap();
        let both = [(NodeIndex(2), 5_000), (NodeIndex(3), 6_000)];
        assert_eq!(fixture.view().maintenance().unwrap(), BTreeMap::from(both));
        set(2, None).unwrap();
        set(2, None).unwrap();
        assert_eq!(
            fixture.view().maintenance().unwrap(),
            BTreeMap::from([both[1]])
        );
        let unknown = Err(MutationError::NodeUnknown(NodeIndex(9)));
        assert_eq!(set(9, Some(1)), unknown);
    }

    #[test]
    fn a_node_can_move() {
        let fixture = Fixture::new();
        let update = |index| Mutation::UpdateNode {
            index: NodeIndex(index),
            address: "10.0.0.9:7000".to_owned(),
        };
        fixture.apply(update(3)).unwrap();
        let node = fixture.view().node(NodeIndex(3)).unwrap().unwrap();
        assert_eq!(node.address, "10.0.0.9:7000");
        assert_eq!(
            fixture.apply(update(9)),
            Err(MutationError::NodeUnknown(NodeIndex(9)))
        );
        assert_eq!(fixture.view().nodes().unwrap().len(), 4);
    }
}
