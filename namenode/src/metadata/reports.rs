//! Incremental reports, each event exactly once (I10): the position in the journal is stored in the transaction that
//! stores what the event changed.

use std::collections::BTreeSet;

use redb::ReadableTable;
use richardstore_proto::{
    ContentHash, Generation, JournalEvent, JournalId, ReplicaEntry, Sequence, SessionEpoch,
};

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
        let parked = self.parked_here(report)?;
        let mut next = expected;
        let mut newest_lost = None;
        for event in report.events {
            if event.sequence < next {
                continue;
            }
            if event.sequence > next {
                break;
            }
            if event.removed {
                let lost = self.replica_removed(report.node, &event.replica, &parked)?;
                newest_lost = newest_lost.max(lost);
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
            newest_lost,
        })
    }

    fn expected_sequence(&mut self, report: &Report<'_>) -> Result<Sequence, MutationError> {
        let node = self.present_node(report.node)?;
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

    /// A node says that it has a replica. Which of six things that means is decided in this order: it is dead; it is one
    /// of a living file's; its write is still in flight; it is from a time that a restored database does not remember; it is
    /// from a future that this database does not know; its write has ended without it.
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

        if file.is_some() || self.take_back(node, event, now_ms)? {
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

    /// The replicas of this node that are parked or that the report may park; none where it removes nothing.
    fn parked_here(
        &self,
        report: &Report<'_>,
    ) -> Result<BTreeSet<(ContentHash, Generation)>, MutationError> {
        if !report.events.iter().any(|event| event.removed) {
            return Ok(BTreeSet::new());
        }
        let parked = self.parked_for(report.node)?;
        let known = parked.iter().map(|at| (at.hash, at.generation));
        let added = report.events.iter().filter(|event| !event.removed);
        let new = added.map(|event| (event.replica.hash, event.replica.generation));
        Ok(known.chain(new).collect())
    }

    /// A node has one replica of a hash. When that goes, what is parked of it goes too, under whichever older write: a
    /// write that ran out later would bring back a replica that is not there, and another one would be trimmed for it (I6).
    /// The newest of these writes.
    fn replica_removed(
        &mut self,
        node: NodeIndex,
        replica: &ReplicaEntry,
        parked: &BTreeSet<(ContentHash, Generation)>,
    ) -> Result<Option<Generation>, MutationError> {
        let ReplicaEntry { hash, generation } = *replica;
        if let Some(record) = self.file(&hash)? {
            self.drop_replica(&hash, &record, node, generation)?;
        }
        let mut newest = None;
        for (_, generation) in parked.range((hash, Generation(0))..=(hash, generation)) {
            let replica = ParkedReplica {
                node,
                generation: *generation,
                hash,
            };
            if self.unpark(&replica)? {
                newest = Some(*generation);
            }
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Fixture, JOURNAL, event, generation, hash, node_id, registration, report,
    };
    use super::*;

    fn applied(next: u64) -> Result<Reply, MutationError> {
        Ok(Reply::Applied {
            next_sequence: Sequence(next),
            newest_lost: None,
        })
    }

    #[test]
    fn i10_the_same_report_twice_has_one_effect() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        let events = vec![event(1, 1, 1, false), event(2, 1, 1, true)];
        let mutation = report(2, 1, JOURNAL, events);
        assert_eq!(fixture.apply(mutation.clone()), applied(3));
        assert_eq!(fixture.apply(mutation), applied(3));
        let overlapping = vec![event(2, 1, 1, true), event(3, 1, 1, false)];
        assert_eq!(
            fixture.apply(report(2, 1, JOURNAL, overlapping)),
            applied(4)
        );
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 1)]);
    }

    #[test]
    fn i10_nothing_behind_a_gap_is_applied_and_the_answer_says_where_to_go_on() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.upload(2, &[1]);
        let ahead = vec![event(2, 1, 1, false)];
        assert_eq!(fixture.apply(report(2, 1, JOURNAL, ahead)), applied(1));
        let torn = vec![event(1, 1, 1, false), event(3, 2, 2, false)];
        assert_eq!(fixture.apply(report(2, 1, JOURNAL, torn)), applied(2));
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 1)]);
        assert_eq!(fixture.replicas(2), [(1, 2)]);
        assert_eq!(fixture.apply(report(2, 1, JOURNAL, vec![])), applied(2));
    }

    #[test]
    fn reports_of_an_older_session_or_another_journal_are_refused() {
        let fixture = Fixture::new();
        let other = JournalId::new([5; 16]);
        let events = vec![event(1, 1, 1, false)];
        let unknown = Err(MutationError::JournalUnknown {
            node_id: node_id(1),
        });
        assert_eq!(fixture.apply(report(1, 1, other, events.clone())), unknown);
        assert_eq!(
            fixture.apply(report(1, 2, JOURNAL, events.clone())),
            unknown
        );
        fixture.apply(registration(1, 3, JOURNAL)).unwrap();
        let fenced = Err(MutationError::Fenced {
            node_id: node_id(1),
            session_epoch: SessionEpoch(1),
            newest: SessionEpoch(3),
        });
        assert_eq!(fixture.apply(report(1, 1, JOURNAL, events.clone())), fenced);
        assert_eq!(
            fixture.apply(report(9, 1, JOURNAL, events)),
            Err(MutationError::NodeUnknown(NodeIndex(9)))
        );
    }

    #[test]
    fn i03_a_replica_under_a_tombstone_is_answered_with_a_delete() {
        let mut fixture = Fixture::new();
        let old = fixture.upload(1, &[1, 2]);
        fixture.delete(1);
        fixture.added(3, 1, old.0);
        assert_eq!(fixture.file(1), None);
        assert_eq!(fixture.buried(1), Some((1, vec![1, 2, 3])));
        assert_eq!(fixture.deletes(3), [(hash(1), old)]);
    }

    #[test]
    fn i03_a_holder_that_reports_again_has_to_confirm_again() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.delete(1);
        let (old, _) = fixture.commands(1)[0].clone();
        fixture.added(1, 1, 1);
        let (new, _) = fixture.commands(1)[0].clone();
        assert_ne!(old, new);
        // The confirmation of a command that was carried out before the replica came.
        fixture.confirm(1, vec![(old, crate::mutation::CommandEnd::Done)]);
        assert_eq!(fixture.buried(1), Some((1, vec![1])));
        fixture.confirm_all(1);
        assert_eq!(fixture.buried(1), None);
    }

    #[test]
    fn i03_an_old_replica_of_a_file_that_lives_again_is_deleted_and_the_new_ones_stay() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        fixture.delete(1);
        fixture.upload(1, &[2, 3]);
        fixture.added(4, 1, 1);
        assert_eq!(fixture.deletes(4), [(hash(1), generation(1))]);
        assert_eq!(fixture.replicas(1), [(2, 2), (3, 2)]);
    }

    #[test]
    fn i03_a_report_from_before_a_delete_that_arrives_after_all_confirmed_brings_nothing_back() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        fixture.delete(1);
        fixture.confirm_all(1);
        fixture.confirm_all(2);
        assert_eq!(fixture.buried(1), None);
        fixture.added(1, 1, 1);
        assert_eq!(fixture.file(1), None);
        assert_eq!(fixture.deletes(1), [(hash(1), generation(1))]);
        fixture.removed(1, 1, 1);
        fixture.confirm_all(1);
        assert_eq!(fixture.buried(1), None);
    }

    #[test]
    fn a_replica_of_a_living_file_is_recorded_and_never_goes_back_in_time() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.upload(1, &[1]);
        fixture.added(2, 1, 1);
        fixture.added(1, 1, 1);
        assert_eq!(fixture.replicas(1), [(1, 2), (2, 1)]);
        fixture.added(2, 1, 2);
        assert_eq!(fixture.replicas(1), [(1, 2), (2, 2)]);
    }

    #[test]
    fn a_removal_counts_only_up_to_its_generation_and_the_record_stays() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.upload(1, &[1]);
        fixture.removed(1, 1, 1);
        assert_eq!(fixture.replicas(1), [(1, 2)]);
        fixture.removed(1, 1, 2);
        assert_eq!(fixture.replicas(1), []);
        assert_eq!(fixture.view().counts().unwrap().under_replicated, 1);
        fixture.removed(1, 1, 2);
        fixture.removed(2, 7, 2);
    }

    #[test]
    fn i06_a_replica_that_was_removed_does_not_come_back_with_an_older_write_of_its_node() {
        for removed_with_the_rest in [false, true] {
            let mut fixture = Fixture::new();
            let abandoned = fixture.allocate();
            fixture.added(4, 1, abandoned.0);
            let write = fixture.upload(1, &[2, 3, 4]);
            if removed_with_the_rest {
                let again = event(2, 1, abandoned.0, false);
                let newer = event(3, 1, write.0, false);
                let gone = event(4, 1, write.0, true);
                let events = vec![again, newer, gone];
                let told = Reply::Applied {
                    next_sequence: Sequence(5),
                    newest_lost: Some(abandoned),
                };
                assert_eq!(fixture.apply(report(4, 1, JOURNAL, events)), Ok(told));
            } else {
                fixture.added(4, 1, write.0);
                fixture.removed(4, 1, write.0);
            }
            assert_eq!(fixture.replicas(1), [(2, 2), (3, 2)]);
            fixture.abandon(abandoned);
            assert_eq!(fixture.replicas(1), [(2, 2), (3, 2)]);
        }
    }

    #[test]
    fn i04_a_replica_that_was_removed_takes_nothing_of_a_newer_write_with_it() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        let write = fixture.allocate();
        fixture.added(3, 1, write.0);
        fixture.removed(3, 1, 1);
        fixture.abandon(write);
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_replica_of_a_write_that_ended_without_it_is_deleted() {
        let mut fixture = Fixture::new();
        let write = fixture.allocate();
        fixture.abandon(write);
        fixture.added(3, 1, write.0);
        assert_eq!(fixture.deletes(3), [(hash(1), write)]);
    }

    #[test]
    fn i08_a_replica_from_a_future_this_database_does_not_know_is_counted_and_never_deleted() {
        let mut fixture = Fixture::new();
        let next = fixture.allocate().0 + 1;
        fixture.added(1, 1, next);
        fixture.added(1, 2, 0);
        assert_eq!(fixture.deletes(1), []);
        assert_eq!(fixture.view().counts().unwrap().foreign_replicas, 2);
        assert_eq!((fixture.file(1), fixture.buried(1)), (None, None));
    }

    #[test]
    fn i08_a_foreign_replica_of_a_living_file_serves_it() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1]);
        fixture.added(2, 1, 999);
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 999)]);
        assert_eq!(fixture.view().counts().unwrap().foreign_replicas, 0);
    }

    #[test]
    fn i05_a_replica_of_another_size_is_not_counted() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        let mut cut = event(1, 1, 1, false);
        cut.size -= 1;
        assert_eq!(fixture.apply(report(2, 1, JOURNAL, vec![cut])), applied(2));
        assert_eq!(fixture.replicas(1), [(1, 1)]);
        assert_eq!(fixture.deletes(2), []);
    }

    #[test]
    fn i07_a_file_record_that_got_lost_is_damage_and_not_a_reason_to_delete() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        fixture.ledger.damage(|tables| {
            tables.files.remove(hash(1).as_bytes()).unwrap();
        });
        let replies = fixture
            .ledger
            .run(&[
                report(1, 1, JOURNAL, vec![event(1, 1, 1, false)]),
                super::super::fixture::allocation(1),
            ])
            .unwrap();
        assert!(matches!(replies[0], Err(MutationError::Corrupt(_))));
        assert_eq!(
            replies[1],
            Ok(Reply::Writes {
                first: Generation(2)
            })
        );
        assert_eq!(fixture.deletes(1), []);
    }
}
