//! Committing and deleting files.

use std::collections::BTreeMap;

use richardstore_proto::{Blake3Root, ContentHash, Generation, MAX_REPLICATION, NodeId};

use super::batch::Batch;
use crate::mutation::{MutationError, Reply};
use crate::record::{FileRecord, NodeIndex, ParkedReplica, Replica, WriteRecord};

/// What a client says it has written.
pub(super) struct Commit<'a> {
    pub generation: Generation,
    pub hash: ContentHash,
    pub size: u64,
    pub blake3_root: Blake3Root,
    pub replication: u32,
    pub nodes: &'a [NodeId],
    pub now_ms: u64,
}

impl Batch<'_> {
    /// Makes a written file readable: a new record, or more replicas for the one that is there.
    pub fn commit_file(&mut self, commit: &Commit<'_>) -> Result<Reply, MutationError> {
        check_limits(commit)?;
        let existing = self.file(&commit.hash)?;
        let Some((first, write)) = self.open_write(commit.generation)? else {
            return already_committed(commit, existing.as_ref());
        };
        let buried = self.tombstone(&commit.hash)?;
        if buried.is_some_and(|tombstone| tombstone.generation >= commit.generation) {
            // The delete came later than this write began, and its commands may remove the replicas of it.
            return Err(MutationError::DeletedMeanwhile {
                hash: commit.hash,
                generation: commit.generation,
            });
        }
        check_same_bytes(commit, existing.as_ref())?;
        let mut holders = Vec::with_capacity(commit.nodes.len());
        for node_id in commit.nodes {
            let index = self
                .node_index(node_id)?
                .ok_or(MutationError::NodeIdUnknown(*node_id))?;
            if !self.is_removed(index)? {
                holders.push(index);
            }
        }
        if holders.is_empty() {
            let node_id = commit
                .nodes
                .first()
                .copied()
                .unwrap_or(NodeId::new([0; 16]));
            return Err(MutationError::NodeRemoved { node_id });
        }

        let parked = self.close_write(first, &write, commit.generation)?;
        let (same, other): (Vec<ParkedReplica>, Vec<ParkedReplica>) = parked
            .into_iter()
            .partition(|replica| replica.hash == commit.hash);
        for replica in &same {
            if !self.is_removed(replica.node)? {
                holders.push(replica.node);
            }
        }
        let record = committed(commit, existing.as_ref(), &holders);
        self.replace_file(&commit.hash, existing.as_ref(), Some(&record))?;
        for stray in other {
            self.settle_parked(&stray, commit.now_ms)?;
        }
        Ok(Reply::Committed {
            created: existing.is_none(),
            replicas: u32::try_from(record.replicas.len()).unwrap_or(u32::MAX),
            created_ms: record.created_ms,
        })
    }

    /// Removes a file. Tombstone and delete commands come in the same transaction, so nothing can fall between.
    pub fn delete_file(&mut self, hash: &ContentHash, now_ms: u64) -> Result<Reply, MutationError> {
        let Some(record) = self.file(hash)? else {
            return Ok(Reply::Deleted { existed: false });
        };
        let mut generation = record.generation;
        for replica in &record.replicas {
            // A write in flight is left out: it is a re-upload that may yet commit, and must survive (I4). So is one
            // this database never handed out: what it belongs to is not known here.
            let finished = replica.generation.0 < self.counters.next_generation
                && !self.write_is_open(replica.generation)?;
            if finished {
                generation = generation.max(replica.generation);
            }
        }
        let generation = self.remember_delete(hash, generation)?;
        let holders: Vec<NodeIndex> = record.replicas.iter().map(|replica| replica.node).collect();
        self.replace_file(hash, Some(&record), None)?;
        self.bury(hash, generation, &holders, now_ms)?;
        Ok(Reply::Deleted { existed: true })
    }

    /// Records that `node` holds a replica of this file from `generation`, unless a newer one is recorded.
    pub fn record_replica(
        &mut self,
        hash: &ContentHash,
        record: &FileRecord,
        replica: Replica,
    ) -> Result<(), MutationError> {
        if self.is_removed(replica.node)? {
            return Ok(());
        }
        let mut after = record.clone();
        match after
            .replicas
            .binary_search_by_key(&replica.node, |known| known.node)
        {
            Ok(at) if after.replicas[at].generation >= replica.generation => return Ok(()),
            Ok(at) => after.replicas[at] = replica,
            Err(at) => after.replicas.insert(at, replica),
        }
        self.replace_file(hash, Some(record), Some(&after))
    }

    /// Forgets the replica of `node` unless it is newer than `up_to`. The record stays even without any replica: a file
    /// whose replicas are all lost is unreadable, not deleted.
    pub fn drop_replica(
        &mut self,
        hash: &ContentHash,
        record: &FileRecord,
        node: NodeIndex,
        up_to: Generation,
    ) -> Result<(), MutationError> {
        let mut after = record.clone();
        after
            .replicas
            .retain(|known| known.node != node || known.generation > up_to);
        if after.replicas.len() == record.replicas.len() {
            return Ok(());
        }
        self.replace_file(hash, Some(record), Some(&after))
    }

    fn open_write(
        &self,
        generation: Generation,
    ) -> Result<Option<(Generation, WriteRecord)>, MutationError> {
        Ok(self
            .write(generation)?
            .filter(|(first, record)| record.is_open(*first, generation)))
    }
}

fn check_limits(commit: &Commit<'_>) -> Result<(), MutationError> {
    let limits = [
        ("replication", u64::from(commit.replication)),
        (
            "nodes",
            u64::try_from(commit.nodes.len()).unwrap_or(u64::MAX),
        ),
    ];
    let most = u64::try_from(MAX_REPLICATION).unwrap_or(u64::MAX);
    match limits
        .iter()
        .find(|(_, value)| *value == 0 || *value > most)
    {
        Some((argument, value)) => Err(MutationError::Limit {
            argument,
            value: *value,
            allowed: "1 to 64",
        }),
        None => Ok(()),
    }
}

/// The write is not in flight: either this is the retry of a commit whose reply was lost, or it comes too late.
fn already_committed(
    commit: &Commit<'_>,
    existing: Option<&FileRecord>,
) -> Result<Reply, MutationError> {
    match existing {
        Some(record) if record.generation >= commit.generation => {
            check_same_bytes(commit, existing)?;
            Ok(Reply::Committed {
                created: false,
                replicas: u32::try_from(record.replicas.len()).unwrap_or(u32::MAX),
                created_ms: record.created_ms,
            })
        }
        _ => Err(MutationError::WriteUnknown {
            generation: commit.generation,
        }),
    }
}

fn check_same_bytes(
    commit: &Commit<'_>,
    existing: Option<&FileRecord>,
) -> Result<(), MutationError> {
    match existing {
        Some(record) if record.size != commit.size || record.blake3_root != commit.blake3_root => {
            Err(MutationError::SizeConflict {
                hash: commit.hash,
                size: record.size,
                blake3_root: record.blake3_root,
            })
        }
        _ => Ok(()),
    }
}

/// The record after the commit: replicas of before and now, each with the newest generation it is known with.
fn committed(
    commit: &Commit<'_>,
    existing: Option<&FileRecord>,
    holders: &[NodeIndex],
) -> FileRecord {
    let mut replicas: BTreeMap<NodeIndex, Generation> = existing
        .into_iter()
        .flat_map(|record| &record.replicas)
        .map(|replica| (replica.node, replica.generation))
        .collect();
    for node in holders {
        let generation = replicas.entry(*node).or_insert(commit.generation);
        *generation = (*generation).max(commit.generation);
    }
    FileRecord {
        size: commit.size,
        blake3_root: commit.blake3_root,
        // A re-upload that asks for less does not take protection away.
        replication: existing.map_or(commit.replication, |record| {
            record.replication.max(commit.replication)
        }),
        generation: existing.map_or(commit.generation, |record| {
            record.generation.max(commit.generation)
        }),
        created_ms: existing.map_or(commit.now_ms, |record| record.created_ms),
        replicas: replicas
            .into_iter()
            .map(|(node, generation)| Replica { node, generation })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Fixture, NOW, ROOT, SIZE, commit, deletion, generation, hash, node_id,
    };
    use super::*;
    use crate::mutation::Mutation;

    fn committed(created: bool, replicas: u32) -> Result<Reply, MutationError> {
        Ok(Reply::Committed {
            created,
            replicas,
            created_ms: NOW,
        })
    }

    #[test]
    fn a_commit_makes_the_file_readable_with_every_node_that_acknowledged() {
        let fixture = Fixture::new();
        let write = fixture.allocate();
        assert_eq!(fixture.commit(write, 1, &[3, 1, 2, 1]), committed(true, 3));
        let record = fixture.file(1).unwrap();
        assert_eq!((record.size, record.blake3_root), (SIZE, ROOT));
        assert_eq!((record.replication, record.generation), (3, write));
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(fixture.view().counts().unwrap().under_replicated, 0);
    }

    #[test]
    fn a_second_upload_adds_replicas_and_keeps_the_creation_time() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        assert_eq!(fixture.view().counts().unwrap().under_replicated, 1);
        let write = fixture.allocate();
        let reply = fixture.apply(Mutation::CommitFile {
            generation: write,
            hash: hash(1),
            size: SIZE,
            blake3_root: ROOT,
            replication: 2,
            nodes: vec![node_id(2), node_id(3)],
            now_ms: NOW + 50,
        });
        assert_eq!(reply, committed(false, 3));
        assert_eq!(fixture.replicas(1), [(1, 1), (2, 2), (3, 2)]);
        let record = fixture.file(1).unwrap();
        // Asking for less does not take protection away.
        assert_eq!((record.generation, record.replication), (write, 3));
        assert_eq!(fixture.view().counts().unwrap().bytes, SIZE);
    }

    #[test]
    fn a_commit_whose_reply_was_lost_gets_success_again() {
        let fixture = Fixture::new();
        let write = fixture.upload(1, &[1, 2, 3]);
        assert_eq!(fixture.commit(write, 1, &[1, 2, 3]), committed(false, 3));
        fixture.upload(1, &[1, 2, 3]);
        assert_eq!(fixture.commit(write, 1, &[1, 2, 3]), committed(false, 3));
        assert_eq!(fixture.replicas(1), [(1, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn a_commit_of_a_write_that_ended_is_refused() {
        let fixture = Fixture::new();
        let write = fixture.allocate();
        fixture.abandon(write);
        let unknown = Err(MutationError::WriteUnknown { generation: write });
        assert_eq!(fixture.commit(write, 1, &[1, 2]), unknown);
        let never = generation(77);
        assert_eq!(
            fixture.commit(never, 1, &[1, 2]),
            Err(MutationError::WriteUnknown { generation: never })
        );
        assert_eq!(fixture.file(1), None);
    }

    #[test]
    fn i03_a_write_that_began_before_the_delete_does_not_bring_the_file_back() {
        let fixture = Fixture::new();
        let slow = fixture.allocate();
        fixture.upload(1, &[1, 2, 3]);
        fixture.delete(1);
        let refused = Err(MutationError::DeletedMeanwhile {
            hash: hash(1),
            generation: slow,
        });
        assert_eq!(fixture.commit(slow, 1, &[1, 2]), refused);
        assert_eq!(fixture.file(1), None);
        assert!(fixture.view().write_is_open(slow).unwrap());
    }

    #[test]
    fn i01_a_write_older_than_a_delete_is_refused_after_the_last_confirmation_too() {
        // Its replicas were removed by the delete commands: accepted, the file would have none.
        let fixture = Fixture::new();
        let slow = fixture.allocate();
        fixture.upload(1, &[1, 2, 3]);
        fixture.delete(1);
        for node in 1..=3 {
            fixture.confirm_all(node);
        }
        assert!(fixture.commit(slow, 1, &[1, 2, 3]).is_err());
        assert_eq!(fixture.file(1), None);
    }

    #[test]
    fn i04_a_reupload_survives_the_delete_it_overtakes() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        let again = fixture.allocate();
        // Published and reported under the new write, not committed yet.
        fixture.added(1, 1, again.0);
        fixture.delete(1);
        assert_eq!(fixture.deletes(1), [(hash(1), generation(1))]);
        assert_eq!(fixture.commit(again, 1, &[2, 3]), committed(true, 3));
        assert_eq!(fixture.replicas(1), [(1, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn i04_a_reupload_after_a_delete_survives_late_confirmations() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        fixture.delete(1);
        fixture.upload(1, &[1, 2, 3]);
        assert_eq!(fixture.buried(1), Some((1, vec![1, 2, 3])));
        for node in 1..=3 {
            fixture.confirm_all(node);
        }
        assert_eq!(fixture.buried(1), None);
        assert_eq!(fixture.replicas(1), [(1, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn a_delete_removes_the_file_and_tells_every_holder_in_one_step() {
        let fixture = Fixture::new();
        let write = fixture.upload(1, &[1, 2, 3]);
        assert_eq!(fixture.delete(1), Reply::Deleted { existed: true });
        assert_eq!(fixture.file(1), None);
        assert_eq!(fixture.buried(1), Some((1, vec![1, 2, 3])));
        for node in 1..=3 {
            assert_eq!(fixture.deletes(node), [(hash(1), write)]);
        }
        assert_eq!(fixture.delete(1), Reply::Deleted { existed: false });
        let counts = fixture.view().counts().unwrap();
        assert_eq!((counts.files, counts.bytes), (0, 0));
        assert_eq!((counts.tombstones, counts.commands), (1, 3));
    }

    #[test]
    fn a_delete_covers_replicas_of_writes_that_were_given_up_but_not_foreign_ones() {
        let mut fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        let given_up = fixture.allocate();
        fixture.added(2, 1, given_up.0);
        fixture.abandon(given_up);
        fixture.added(1, 1, 999);
        assert_eq!(fixture.replicas(1), [(1, 999), (2, 2)]);
        fixture.delete(1);
        assert_eq!(fixture.buried(1), Some((2, vec![1, 2])));
        assert_eq!(fixture.deletes(1), [(hash(1), given_up)]);
    }

    #[test]
    fn other_bytes_under_a_known_hash_are_refused() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2]);
        let write = fixture.allocate();
        let reply = fixture.apply(Mutation::CommitFile {
            generation: write,
            hash: hash(1),
            size: SIZE + 1,
            blake3_root: ROOT,
            replication: 3,
            nodes: vec![node_id(1)],
            now_ms: NOW,
        });
        assert!(matches!(reply, Err(MutationError::SizeConflict { .. })));
        assert!(fixture.view().write_is_open(write).unwrap());
    }

    #[test]
    fn a_commit_without_nodes_or_with_an_unknown_one_is_refused_and_the_write_stays_open() {
        let fixture = Fixture::new();
        let write = fixture.allocate();
        assert!(matches!(
            fixture.commit(write, 1, &[]),
            Err(MutationError::Limit {
                argument: "nodes",
                ..
            })
        ));
        assert_eq!(
            fixture.commit(write, 1, &[1, 9]),
            Err(MutationError::NodeIdUnknown(node_id(9)))
        );
        assert_eq!(fixture.commit(write, 1, &[1]), committed(true, 1));
    }

    #[test]
    fn a_refused_mutation_leaves_no_trace_among_others() {
        let fixture = Fixture::new();
        let write = fixture.allocate();
        let replies = fixture
            .ledger
            .run(&[
                commit(generation(77), 7, &[1]),
                commit(write, 1, &[1, 2, 3]),
                commit(write, 2, &[1, 9]),
                deletion(1),
                deletion(8),
            ])
            .unwrap();
        assert!(replies[0].is_err());
        assert_eq!(replies[1], committed(true, 3));
        assert!(replies[2].is_err());
        assert_eq!(replies[3], Ok(Reply::Deleted { existed: true }));
        assert_eq!(replies[4], Ok(Reply::Deleted { existed: false }));
        super::super::audit::audit(&fixture.view());
        assert_eq!(fixture.view().counts().unwrap().files, 0);
    }
}
