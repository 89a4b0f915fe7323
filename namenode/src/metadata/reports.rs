//! Incremental reports, each event exactly once (I10): the position in the journal is stored in the transaction that
//! stores what the event changed.

use redb::ReadableTable;
use richardstore_proto::{JournalEvent, JournalId, ReplicaEntry, Sequence, SessionEpoch};

use super::batch::Batch;
use super::tables::node_file_key;
use crate::mutation::{MutationError, Reply};
use crate::record::{NodeIndex, ParkedReplica, Replica};

/// Events of one datanode's journal.
pub(super) struct Report<'a> {
    pub node: NodeIndex,
    pub session_epoch: SessionEpoch,
    pub journal_id: JournalId,
    pub events: &'a [JournalEvent],
    pub now_ms: u64,
}

impl Batch<'_> {
    /// Applies the events that follow on what was applied before. Those that were applied are skipped; behind a gap
    /// nothing is applied, and the answer says where to go on.
    pub fn apply_report(&mut self, report: &Report<'_>) -> Result<Reply, MutationError> {
        let expected = self.expected_sequence(report)?;
        let mut next = expected;
        for event in report.events {
            if event.sequence < next {
                continue;
            }
            if event.sequence > next {
                break;
            }
            if event.removed {
                self.replica_removed(report.node, &event.replica)?;
            } else {
                self.replica_added(report.node, event, report.now_ms)?;
            }
            next = next.next();
        }
        if next != expected {
            self.node(report.node)?.next_sequence = next;
            self.touch();
        }
        Ok(Reply::Applied {
            next_sequence: next,
        })
    }

    fn expected_sequence(&mut self, report: &Report<'_>) -> Result<Sequence, MutationError> {
        let node = self.node(report.node)?;
        if report.session_epoch < node.session_epoch {
            return Err(MutationError::Fenced {
                node_id: node.node_id,
                session_epoch: report.session_epoch,
                newest: node.session_epoch,
            });
        }
        if report.session_epoch != node.session_epoch || node.journal_id != Some(report.journal_id)
        {
            return Err(MutationError::JournalUnknown {
                node_id: node.node_id,
            });
        }
        Ok(node.next_sequence)
    }

    /// A node says that it has a replica. Which of five things that means is decided in this order: it is dead; it is one
    /// of a living file's; its write is still in flight; its write has ended without it; it is from a future that this
    /// database does not know.
    fn replica_added(
        &mut self,
        node: NodeIndex,
        event: &JournalEvent,
        now_ms: u64,
    ) -> Result<(), MutationError> {
        let ReplicaEntry { hash, generation } = event.replica;
        let from_here = generation.0 != 0 && generation.0 < self.counters.next_generation;

        let buried = self.tombstone(&hash)?;
        if let Some(tombstone) = buried.filter(|tombstone| tombstone.generation >= generation) {
            return self.bury(&hash, tombstone.generation, &[node], now_ms);
        }

        let file = self.file(&hash)?;
        if let Some(record) = &file {
            let same_bytes = record.size == event.size
                && event
                    .blake3_root
                    .is_none_or(|root| root == record.blake3_root);
            if !same_bytes {
                // A replica under the right name with other bytes is no replica. Not counting it is what gets it
                // re-made; it is not deleted from here, since the datanode checks its own bytes.
                return self.drop_replica(&hash, record, node, generation);
            }
            self.record_replica(&hash, record, Replica { node, generation })?;
        }

        // Parked also when the file lives: it may be deleted before the write commits, and then the commit is what
        // this replica belongs to.
        if let Some((first, write)) = self.write(generation)?
            && write.is_open(first, generation)
        {
            let parked = ParkedReplica {
                node,
                generation,
                hash,
            };
            if self.park(first, &write, parked)? || file.is_some() {
                return Ok(());
            }
            return self.bury(&hash, generation, &[node], now_ms);
        }

        if file.is_some() {
            return Ok(());
        }
        if !from_here {
            // A generation that was never handed out: this database is older than the node. Deleting on its word would
            // destroy what only the lost part of it knew.
            self.counters.foreign_replicas += 1;
            self.touch();
            return Ok(());
        }
        self.bury_orphan(node, event.replica, now_ms)
    }

    /// A replica of a write that ended, of a file that is not there. Before it is declared dead, the reverse index is asked:
    /// where that knows the replica, the file's record is what got lost.
    fn bury_orphan(
        &mut self,
        node: NodeIndex,
        replica: ReplicaEntry,
        now_ms: u64,
    ) -> Result<(), MutationError> {
        let ReplicaEntry { hash, generation } = replica;
        let key = node_file_key(node, generation, &hash);
        if self.tables.node_files.get(&key)?.is_some() {
            return Err(MutationError::Corrupt(format!(
                "file {hash} is gone, and node {} is recorded to hold it",
                node.0
            )));
        }
        self.bury(&hash, generation, &[node], now_ms)
    }

    fn replica_removed(
        &mut self,
        node: NodeIndex,
        replica: &ReplicaEntry,
    ) -> Result<(), MutationError> {
        let ReplicaEntry { hash, generation } = *replica;
        if let Some(record) = self.file(&hash)? {
            self.drop_replica(&hash, &record, node, generation)?;
        }
        self.unpark(&ParkedReplica {
            node,
            generation,
            hash,
        })
    }
}
