//! Removing a datanode for good: what it held is forgotten, its commands go, and no tombstone waits for it any more.
//!
//! The first page marks it as removed, in one transaction with what it changes; from then on nothing is recorded of it and it
//! is not let in again. Its number and id are kept for that: a disk that returns with files that were deleted, and whose
//! tombstones have been forgotten without it, must not be asked what it holds (I3).

use redb::ReadableTable;
use richardstore_proto::{CommandId, ContentHash, Generation};

use super::batch::Batch;
use super::codec;
use super::tables::{node_file_key, split_node_file_key};
use crate::mutation::{MutationError, Reply};
use crate::record::{CommandRecordAction, NodeIndex, NodeRecord, RemovedNode};

impl Batch<'_> {
    /// Whether the operator removed this node.
    pub fn is_removed(&self, index: NodeIndex) -> Result<bool, MutationError> {
        Ok(self.tables.removed_nodes.get(index.0)?.is_some())
    }

    /// The node of this number, to be changed in place, if it belongs to the cluster.
    pub fn present_node(&mut self, index: NodeIndex) -> Result<&mut NodeRecord, MutationError> {
        if self.is_removed(index)? {
            let node_id = self.node(index)?.node_id;
            return Err(MutationError::NodeRemoved { node_id });
        }
        self.node(index)
    }

    /// Removes a node, and at most `limit` of what is recorded of it.
    pub fn remove_node(
        &mut self,
        index: NodeIndex,
        after: Option<(Generation, ContentHash)>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Reply, MutationError> {
        self.node(index)?;
        if !self.is_removed(index)? {
            let removed = RemovedNode { removed_ms: now_ms };
            let frame = codec::encode("removed node", &removed)?;
            self.tables
                .removed_nodes
                .insert(index.0, frame.as_slice())?;
            self.tables.maintenance.remove(index.0)?;
            self.touch();
        }
        let page = self.held_by(index, after, limit)?;
        for (_, hash) in &page {
            // A row without a file is damage that others report. Here it must not be what keeps the node.
            if let Some(record) = self.file(hash)? {
                self.drop_replica(hash, &record, index, Generation(u64::MAX))?;
            }
        }
        if page.len() == limit {
            return Ok(Reply::Removed {
                more: true,
                after: page.last().copied(),
            });
        }
        let commands = self.commands_of(index, limit)?;
        for (id, action) in &commands {
            self.remove_command(index, *id)?;
            if let CommandRecordAction::Delete { hash, .. } = action {
                self.confirm_delete(hash, index, *id)?;
            }
        }
        Ok(Reply::Removed {
            more: commands.len() == limit,
            after: None,
        })
    }

    fn held_by(
        &self,
        index: NodeIndex,
        after: Option<(Generation, ContentHash)>,
        limit: usize,
    ) -> Result<Vec<(Generation, ContentHash)>, MutationError> {
        use std::ops::Bound::{Excluded, Included};
        let first = node_file_key(index, Generation(0), &ContentHash::new([0; 32]));
        let last = node_file_key(index, Generation(u64::MAX), &ContentHash::MAX);
        let behind = after.map(|(generation, hash)| node_file_key(index, generation, &hash));
        let start = behind.as_ref().map_or(Included(&first), Excluded);
        let mut page = Vec::new();
        let rows = self
            .tables
            .node_files
            .range::<&[u8; 44]>((start, Included(&last)))?;
        for row in rows.take(limit) {
            let (_, generation, hash) = split_node_file_key(row?.0.value());
            page.push((generation, hash));
        }
        Ok(page)
    }

    fn commands_of(
        &self,
        index: NodeIndex,
        limit: usize,
    ) -> Result<Vec<(CommandId, CommandRecordAction)>, MutationError> {
        let mut commands = Vec::new();
        let rows = self
            .tables
            .commands
            .range((index.0, 0)..=(index.0, u64::MAX))?;
        for row in rows.take(limit) {
            let (key, frame) = row?;
            let record = codec::decode_command(key.value(), frame.value())?;
            commands.push((CommandId(key.value().1), record.action));
        }
        Ok(commands)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Fixture, JOURNAL, NOW, event, generation, hash, node_id, registration, report,
    };
    use super::*;
    use crate::mutation::Mutation;

    fn remove(fixture: &Fixture, node: u32, limit: usize) -> usize {
        let (mut after, mut pages) = (None, 0);
        loop {
            let reply = fixture.apply(Mutation::RemoveNode {
                index: NodeIndex(node),
                after,
                limit,
                now_ms: NOW,
            });
            pages += 1;
            match reply.unwrap() {
                Reply::Removed { more: false, .. } => return pages,
                Reply::Removed { after: last, .. } => after = last,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_removed_node_is_forgotten_by_files_commands_and_tombstones() {
        let fixture = Fixture::new();
        for file in 1..=5 {
            fixture.upload(file, &[1, 2, 3]);
        }
        fixture.delete(1);
        fixture.delete(2);
        assert_eq!(remove(&fixture, 3, 2), 3, "a page at a time");
        assert_eq!(fixture.replicas(4), [(1, 4), (2, 4)]);
        assert_eq!(fixture.buried(1), Some((1, vec![1, 2])));
        assert_eq!(fixture.commands(3), []);
        let view = fixture.view();
        assert_eq!(view.counts().unwrap().under_replicated, 3);
        assert_eq!(view.nodes().unwrap().len(), 3);
        let node = view.node(NodeIndex(3)).unwrap().unwrap();
        assert_eq!((node.replicas, node.bytes, node.commands), (0, 0, 0));
        assert_eq!(view.removed_nodes().unwrap().len(), 1);
        for node in [1, 2] {
            fixture.confirm_all(node);
        }
        assert_eq!((fixture.buried(1), fixture.buried(2)), (None, None));
        assert_eq!(remove(&fixture, 3, 2), 1, "nothing is left to do");
    }

    #[test]
    fn i03_a_removed_node_that_returns_is_refused_and_brings_nothing_back() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        fixture.delete(1);
        fixture.confirm_all(1);
        remove(&fixture, 2, 100);
        assert_eq!(fixture.buried(1), None, "nobody is waited for");
        let refused = Err(MutationError::NodeRemoved {
            node_id: node_id(2),
        });
        assert_eq!(fixture.apply(registration(2, 2, JOURNAL)), refused);
        let events = vec![event(1, 1, 1, false)];
        assert_eq!(fixture.apply(report(2, 1, JOURNAL, events)), refused);
        assert_eq!((fixture.file(1), fixture.commands(2)), (None, vec![]));
    }

    #[test]
    fn what_was_on_its_way_when_a_node_was_removed_leaves_no_trace_of_it() {
        let mut fixture = Fixture::new();
        let (open, given_up) = (fixture.allocate(), fixture.allocate());
        fixture.upload(3, &[1]);
        fixture.added(4, 1, open.0);
        fixture.added(4, 2, given_up.0);
        fixture.added(4, 3, given_up.0);
        remove(&fixture, 4, 100);
        let lost = Err(MutationError::NodeRemoved {
            node_id: node_id(4),
        });
        assert_eq!(fixture.commit(open, 1, &[4]), lost);
        fixture.commit(open, 1, &[1, 4]).unwrap();
        assert_eq!(fixture.replicas(1), [(1, open.0)]);
        fixture.abandon(given_up);
        assert_eq!(fixture.replicas(3), [(1, 3)]);
        fixture.delete(1);
        assert_eq!(fixture.deletes(1), [(hash(1), open)]);
        let copy = CommandRecordAction::Replicate {
            hash: hash(3),
            targets: vec![NodeIndex(2)],
        };
        let delete = CommandRecordAction::Delete {
            hash: hash(3),
            generation: generation(3),
        };
        let commands = vec![(NodeIndex(4), copy), (NodeIndex(4), delete)];
        let issue = Mutation::IssueCommands {
            commands,
            now_ms: NOW,
        };
        fixture.apply(issue).unwrap();
        assert_eq!(fixture.commands(4), []);
    }
}
