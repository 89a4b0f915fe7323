//! Registration of datanodes.

use richardstore_proto::{JournalId, NodeId, Sequence, SessionEpoch};

use super::batch::Batch;
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
}
