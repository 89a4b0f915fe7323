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
            holders.push(index);
        }

        let parked = self.close_write(first, &write, commit.generation)?;
        let (same, other): (Vec<ParkedReplica>, Vec<ParkedReplica>) = parked
            .into_iter()
            .partition(|replica| replica.hash == commit.hash);
        holders.extend(same.iter().map(|replica| replica.node));
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
