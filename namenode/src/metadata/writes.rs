//! Writes in flight: handing out generations, keeping them alive, taking them back.

use redb::ReadableTable;
use richardstore_proto::{Generation, MAX_REPLICATION, NamenodeEpoch};

use super::batch::Batch;
use super::codec;
use crate::mutation::{MutationError, Reply};
use crate::record::{MAX_WRITES_PER_ALLOCATION, NodeIndex, ParkedReplica, Replica, WriteRecord};

/// Replicas that may be parked under one write: twice the longest chain, since nodes of it may have been replaced. Only a
/// datanode that misbehaves reports more.
const MAX_PARKED: usize = 2 * MAX_REPLICATION;

impl Batch<'_> {
    /// A new epoch. Clients could not renew while the namenode was away, so all writes get time again; and those that were
    /// allocated by a clock ahead of this one get no more than that.
    pub fn start_epoch(&mut self, writes_expire_at_ms: u64) -> Result<Reply, MutationError> {
        let mut others = Vec::new();
        for row in self.tables.writes.iter()? {
            let (first, frame) = row?;
            let first = Generation(first.value());
            let record = codec::decode_write(first, frame.value())?;
            if record.expires_at_ms != writes_expire_at_ms {
                others.push((first, record));
            }
        }
        for (first, before) in others {
            let mut record = before.clone();
            record.expires_at_ms = writes_expire_at_ms;
            self.replace_write(first, Some(&before), &record)?;
        }
        self.touch();
        self.counters.epoch += 1;
        Ok(Reply::Epoch(NamenodeEpoch(self.counters.epoch)))
    }

    pub fn allocate_writes(
        &mut self,
        count: u32,
        expires_at_ms: u64,
    ) -> Result<Reply, MutationError> {
        if count == 0 || count > MAX_WRITES_PER_ALLOCATION {
            return Err(MutationError::Limit {
                argument: "count",
                value: u64::from(count),
                allowed: "1 to 64",
            });
        }
        let first = Generation(self.counters.next_generation);
        self.counters.next_generation += u64::from(count);
        let record = WriteRecord {
            count,
            open: u64::MAX >> (MAX_WRITES_PER_ALLOCATION - count),
            expires_at_ms,
            parked: Vec::new(),
        };
        self.replace_write(first, None, &record)?;
        Ok(Reply::Writes { first })
    }

    pub fn renew_writes(
        &mut self,
        generations: &[Generation],
        expires_at_ms: u64,
    ) -> Result<Reply, MutationError> {
        let mut unknown = Vec::new();
        for generation in generations {
            match self.write(*generation)? {
                Some((first, before)) if before.is_open(first, *generation) => {
                    if before.expires_at_ms < expires_at_ms {
                        let mut record = before.clone();
                        record.expires_at_ms = expires_at_ms;
                        self.replace_write(first, Some(&before), &record)?;
                    }
                }
                _ => unknown.push(*generation),
            }
        }
        Ok(Reply::Renewed { unknown })
    }

    pub fn abandon_writes(
        &mut self,
        generations: &[Generation],
        now_ms: u64,
    ) -> Result<Reply, MutationError> {
        for generation in generations {
            if let Some((first, record)) = self.write(*generation)?
                && record.is_open(first, *generation)
            {
                for replica in self.close_write(first, &record, *generation)? {
                    self.settle_parked(&replica, now_ms)?;
                }
            }
        }
        Ok(Reply::Done)
    }

    /// Gives up at most `limit` allocations whose time has run out, then drops at most `limit` tombstones that waited for
    /// a write that has ended.
    pub fn expire_writes(&mut self, now_ms: u64, limit: usize) -> Result<Reply, MutationError> {
        let mut expired = Vec::new();
        for row in self.tables.writes.iter()? {
            if expired.len() >= limit {
                break;
            }
            let (first, frame) = row?;
            let first = Generation(first.value());
            let record = codec::decode_write(first, frame.value())?;
            if record.expires_at_ms <= now_ms {
                expired.push((first, record));
            }
        }
        let mut count = 0;
        for (first, before) in expired {
            count += u64::from(before.open.count_ones());
            let ended = WriteRecord {
                open: 0,
                parked: Vec::new(),
                ..before.clone()
            };
            self.replace_write(first, Some(&before), &ended)?;
            for replica in &before.parked {
                self.settle_parked(replica, now_ms)?;
            }
        }
        self.drop_spent_tombstones(limit)?;
        Ok(Reply::Expired { count })
    }

    /// Ends one write and hands out what was parked under it.
    pub fn close_write(
        &mut self,
        first: Generation,
        record: &WriteRecord,
        generation: Generation,
    ) -> Result<Vec<ParkedReplica>, MutationError> {
        let (parked, others) = record
            .parked
            .iter()
            .partition(|replica| replica.generation == generation);
        let after = WriteRecord {
            open: record.open & !record.bit(first, generation).unwrap_or(0),
            parked: others,
            ..record.clone()
        };
        self.replace_write(first, Some(record), &after)?;
        Ok(parked)
    }

    /// Parks a replica that was reported before its write ended. `false`: there is no room.
    pub fn park(
        &mut self,
        first: Generation,
        before: &WriteRecord,
        replica: ParkedReplica,
    ) -> Result<bool, MutationError> {
        if before.parked.contains(&replica) {
            return Ok(true);
        }
        let of_this_write = |known: &&ParkedReplica| known.generation == replica.generation;
        if before.parked.iter().filter(of_this_write).count() >= MAX_PARKED {
            return Ok(false);
        }
        let mut record = before.clone();
        record.parked.push(replica);
        self.replace_write(first, Some(before), &record)?;
        Ok(true)
    }

    /// Takes back a parked replica that its node has removed. `false`: none was parked.
    pub fn unpark(&mut self, replica: &ParkedReplica) -> Result<bool, MutationError> {
        let Some((first, before)) = self.write(replica.generation)? else {
            return Ok(false);
        };
        let mut record = before.clone();
        record.parked.retain(|known| known != replica);
        let was_parked = record.parked.len() != before.parked.len();
        if was_parked {
            self.replace_write(first, Some(&before), &record)?;
        }
        Ok(was_parked)
    }

    /// Takes back all that was parked for `node`: it counts in a journal that is over, perhaps with its disk. The full report tells
    /// of what is still there.
    pub fn unpark_all(&mut self, node: NodeIndex) -> Result<(), MutationError> {
        let parked = self.parked_for(node)?;
        for replica in &parked {
            self.unpark(replica)?;
        }
        Ok(())
    }

    /// All that is parked for `node`. Reads every write in flight.
    pub fn parked_for(&self, node: NodeIndex) -> Result<Vec<ParkedReplica>, MutationError> {
        let mut parked = Vec::new();
        for row in self.tables.writes.iter()? {
            let (first, frame) = row?;
            // A damaged row must not keep a node out.
            let record = codec::decode_write(Generation(first.value()), frame.value());
            let replicas = record.into_iter().flat_map(|record| record.parked);
            parked.extend(replicas.filter(|replica| replica.node == node));
        }
        Ok(parked)
    }

    /// The write of a parked replica ended without a commit of this file: where the file lives, the replica is one of
    /// its; otherwise nobody will ever ask for it, and it has to go.
    pub fn settle_parked(
        &mut self,
        parked: &ParkedReplica,
        now_ms: u64,
    ) -> Result<(), MutationError> {
        let replica = Replica {
            node: parked.node,
            generation: parked.generation,
        };
        match self.file(&parked.hash)? {
            Some(record) => self.record_replica(&parked.hash, &record, replica),
            None => {
                let holders: [NodeIndex; 1] = [parked.node];
                self.bury(&parked.hash, parked.generation, &holders, now_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{EXPIRES, Fixture, NOW, allocation, generation, hash};
    use super::*;
    use crate::mutation::Mutation;

    #[test]
    fn generations_ascend_without_gaps_and_are_never_given_twice() {
        let fixture = Fixture::new();
        let first = |number| {
            Ok(Reply::Writes {
                first: generation(number),
            })
        };
        assert_eq!(fixture.apply(allocation(64)), first(1));
        assert_eq!(fixture.apply(allocation(1)), first(65));
        fixture.expire(EXPIRES);
        assert_eq!(fixture.view().writes_open().unwrap(), 0);
        assert_eq!(fixture.apply(allocation(3)), first(66));
    }

    #[test]
    fn an_allocation_outside_its_limits_is_refused() {
        let fixture = Fixture::new();
        for count in [0, 65, u32::MAX] {
            assert!(matches!(
                fixture.apply(allocation(count)),
                Err(MutationError::Limit {
                    argument: "count",
                    ..
                })
            ));
        }
        assert_eq!(fixture.allocate(), generation(1));
    }

    #[test]
    fn writes_run_out_unless_they_are_renewed() {
        let fixture = Fixture::new();
        let (kept, lost) = (fixture.allocate(), fixture.allocate());
        let reply = fixture.apply(Mutation::RenewWrites {
            generations: vec![kept, generation(50)],
            expires_at_ms: EXPIRES + 100,
        });
        let unknown = vec![generation(50)];
        assert_eq!(reply, Ok(Reply::Renewed { unknown }));
        assert_eq!(fixture.expire(EXPIRES - 1), Reply::Expired { count: 0 });
        assert_eq!(fixture.expire(EXPIRES), Reply::Expired { count: 1 });
        let view = fixture.view();
        assert!(view.write_is_open(kept).unwrap() && !view.write_is_open(lost).unwrap());
        assert_eq!(fixture.expire(EXPIRES + 100), Reply::Expired { count: 1 });
    }

    #[test]
    fn a_start_counts_the_epoch_and_gives_writes_time_again() {
        let fixture = Fixture::new();
        let write = fixture.allocate();
        for epoch in 1..=2 {
            let reply = fixture.apply(Mutation::StartEpoch {
                now_ms: NOW,
                writes_expire_at_ms: EXPIRES + 10,
            });
            assert_eq!(reply, Ok(Reply::Epoch(NamenodeEpoch(epoch))));
        }
        assert_eq!(fixture.expire(EXPIRES), Reply::Expired { count: 0 });
        assert!(fixture.view().write_is_open(write).unwrap());
    }

    #[test]
    fn a_start_ends_the_time_of_writes_that_a_clock_ahead_allocated() {
        let fixture = Fixture::new();
        fixture.allocate();
        fixture
            .apply(Mutation::StartEpoch {
                now_ms: NOW,
                writes_expire_at_ms: EXPIRES - 10,
            })
            .unwrap();
        let expired = fixture.expire(EXPIRES - 10);
        assert_eq!(expired, Reply::Expired { count: 1 });
    }

    #[test]
    fn i02_replicas_of_an_abandoned_write_are_removed() {
        let mut fixture = Fixture::new();
        let write = fixture.allocate();
        fixture.added(2, 1, write.0);
        assert_eq!(fixture.file(1), None);
        assert_eq!(fixture.deletes(2), []);
        fixture.abandon(write);
        assert_eq!(fixture.deletes(2), [(hash(1), write)]);
        assert_eq!(fixture.buried(1), Some((1, vec![2])));
        fixture.confirm_all(2);
        assert_eq!(fixture.buried(1), None);
        fixture.abandon(write);
        assert_eq!(fixture.buried(1), None);
    }

    #[test]
    fn i02_replicas_of_an_expired_write_are_removed() {
        let mut fixture = Fixture::new();
        fixture.apply(allocation(3)).unwrap();
        fixture.added(1, 1, 1);
        fixture.added(2, 2, 3);
        assert_eq!(fixture.expire(EXPIRES), Reply::Expired { count: 3 });
        assert_eq!(fixture.deletes(1), [(hash(1), generation(1))]);
        assert_eq!(fixture.deletes(2), [(hash(2), generation(3))]);
    }

    #[test]
    fn the_replica_of_an_abandoned_write_stays_where_the_file_lives() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        let write = fixture.allocate();
        fixture.added(3, 1, write.0);
        fixture.added(2, 1, write.0);
        fixture.abandon(write);
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 2), (3, 2)]);
        assert_eq!((fixture.deletes(3), fixture.buried(1)), (vec![], None));
    }

    #[test]
    fn a_commit_takes_in_parked_replicas_and_removes_those_of_other_files() {
        let mut fixture = Fixture::new();
        let write = fixture.allocate();
        fixture.added(4, 1, write.0);
        fixture.added(3, 9, write.0);
        fixture.commit(write, 1, &[1]).unwrap();
        assert_eq!(fixture.replicas(1), [(1, 1), (4, 1)]);
        assert_eq!(fixture.deletes(3), [(hash(9), write)]);
    }

    #[test]
    fn a_replica_that_was_removed_again_is_not_taken_in() {
        let mut fixture = Fixture::new();
        let write = fixture.allocate();
        fixture.added(4, 1, write.0);
        fixture.removed(4, 1, write.0);
        fixture.commit(write, 1, &[1]).unwrap();
        assert_eq!(fixture.replicas(1), [(1, 1)]);
    }

    #[test]
    fn only_the_abandoned_write_of_an_allocation_ends() {
        let mut fixture = Fixture::new();
        fixture.apply(allocation(64)).unwrap();
        fixture.added(1, 1, 64);
        fixture.abandon(generation(63));
        assert_eq!(fixture.view().writes_open().unwrap(), 63);
        fixture.commit(generation(64), 1, &[2]).unwrap();
        assert_eq!(fixture.replicas(1), [(1, 64), (2, 64)]);
        assert_eq!(fixture.view().writes_open().unwrap(), 62);
    }

    #[test]
    fn i11_what_is_parked_under_a_write_is_bounded_and_what_has_no_room_can_not_be_committed() {
        let mut fixture = Fixture::new();
        let write = fixture.allocate();
        for file in 0..32 {
            for node in 1..=4 {
                fixture.added(node, file, write.0);
            }
        }
        assert_eq!(fixture.view().counts().unwrap().tombstones, 0);
        fixture.added(1, 99, write.0);
        assert_eq!(fixture.deletes(1), [(hash(99), write)]);
        // The delete that is on its way would take the replica of this very write.
        assert!(matches!(
            fixture.commit(write, 99, &[1]),
            Err(MutationError::DeletedMeanwhile { .. })
        ));
        fixture.commit(write, 5, &[1]).unwrap();
        assert_eq!(fixture.replicas(5).len(), 4);
    }
}
