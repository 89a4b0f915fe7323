//! [`Rebuild`]: metadata that is made anew from what the datanodes say, on top of a copy or of nothing.
//!
//! It goes through the same rules as a running namenode's: deletes are recalled, nodes registered, and what they hold comes in
//! as events of a journal that no datanode has. When the real ones register, their own journals begin, and a full report finds
//! that everything is known.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use richardstore_proto::{
    Blake3Root, ClusterId, ContentHash, DataNodeInfo, Generation, JournalEvent, JournalId,
    NamenodeEpoch, RememberedDelete, ReplicaEntry, Sequence, SessionEpoch,
};

use super::dump_reader::DumpSummary;
use super::load::{LoadError, load_unnamed};
use super::new_database::NewDatabase;
use crate::mutation::{Mutation, MutationError, Reply};
use crate::record::NodeIndex;

/// The journal of what is told in a rebuild.
const JOURNAL: JournalId = JournalId::new([0; 16]);

/// A replica as a datanode lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldReplica {
    /// The file.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// What they are verified by.
    pub blake3_root: Blake3Root,
    /// The write it came with.
    pub generation: Generation,
}

/// What the datanodes have seen, all of them together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The newest start of a namenode.
    pub epoch: NamenodeEpoch,
    /// The newest write.
    pub generation: Generation,
}

/// Metadata in the making. Dropped before [`Rebuild::finish`], it leaves none.
pub struct Rebuild {
    database: NewDatabase,
    replication: u32,
    told: BTreeMap<NodeIndex, (SessionEpoch, Sequence)>,
    now_ms: u64,
}

impl Rebuild {
    /// Begins in `dir` with nothing but the id of the cluster. Files get `replication` as their target.
    ///
    /// # Errors
    /// [`LoadError`], as for all methods of this type; there is no metadata then.
    pub fn from_nothing(
        dir: &Path,
        cluster_id: ClusterId,
        replication: u32,
        now_ms: u64,
    ) -> Result<Self, LoadError> {
        let database = NewDatabase::begin(dir, cluster_id)?;
        Ok(Self::on(database, replication, now_ms))
    }

    /// Begins in `dir` with a copy. Files that are not in it get `replication` as their target.
    ///
    /// # Errors
    /// The copy is not whole.
    pub fn from_copy(
        dir: &Path,
        copy: impl BufRead,
        replication: u32,
        now_ms: u64,
    ) -> Result<(Self, DumpSummary), LoadError> {
        let (database, summary) = load_unnamed(dir, copy, replication)?;
        Ok((Self::on(database, replication, now_ms), summary))
    }

    fn on(database: NewDatabase, replication: u32, now_ms: u64) -> Self {
        Self {
            database,
            replication,
            told: BTreeMap::new(),
            now_ms,
        }
    }

    /// Leaps over everything that anybody has seen. To be called once, before anything is told.
    ///
    /// # Errors
    /// The database failed.
    pub fn recover(&mut self, seen: Seen) -> Result<(), LoadError> {
        self.apply(Mutation::Recover {
            replication: self.replication,
            epoch: seen.epoch,
            generation: seen.generation,
            now_ms: self.now_ms,
        })?;
        Ok(())
    }

    /// A datanode remembers these deletes.
    ///
    /// # Errors
    /// The database failed.
    pub fn recall(&mut self, deletes: Vec<RememberedDelete>) -> Result<(), LoadError> {
        self.apply(Mutation::RecallDeletes {
            deletes,
            now_ms: self.now_ms,
        })?;
        Ok(())
    }

    /// A datanode that is going to say what it holds.
    ///
    /// # Errors
    /// Two datanodes of one id, or the database failed.
    pub fn register(
        &mut self,
        node: &DataNodeInfo,
        session_epoch: SessionEpoch,
    ) -> Result<NodeIndex, LoadError> {
        let registered = self.apply(Mutation::RegisterNode {
            node_id: node.node_id,
            session_epoch,
            name: node.name.clone(),
            address: node.address.clone(),
            rack: node.rack.clone(),
            journal_id: JOURNAL,
            now_ms: self.now_ms,
        })?;
        let Reply::Registered { index, .. } = registered else {
            return Err(LoadError::Database(format!("answered {registered:?}")));
        };
        let before = self.told.insert(index, (session_epoch, Sequence(1)));
        if before.is_some() {
            return Err(LoadError::Database(format!(
                "datanode {} was named twice",
                node.node_id
            )));
        }
        Ok(index)
    }

    /// A datanode that was registered holds these.
    ///
    /// # Errors
    /// The database failed.
    pub fn holds(&mut self, node: NodeIndex, replicas: &[HeldReplica]) -> Result<(), LoadError> {
        let Some((session_epoch, next)) = self.told.get(&node).copied() else {
            return Err(MutationError::NodeUnknown(node).into());
        };
        let mut sequence = next;
        let mut events = Vec::with_capacity(replicas.len());
        for replica in replicas {
            events.push(JournalEvent {
                sequence,
                replica: ReplicaEntry {
                    hash: replica.hash,
                    generation: replica.generation,
                },
                size: replica.size,
                blake3_root: Some(replica.blake3_root),
                removed: false,
            });
            sequence = sequence.next();
        }
        self.apply(Mutation::ApplyReport {
            index: node,
            session_epoch,
            journal_id: JOURNAL,
            events,
            now_ms: self.now_ms,
        })?;
        self.told.insert(node, (session_epoch, sequence));
        Ok(())
    }

    /// Gives the database its name: a namenode can be started on it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(self) -> Result<DumpSummary, LoadError> {
        let summary = self.database.ledger.view()?.summary()?;
        self.database.finish()?;
        Ok(summary)
    }

    fn apply(&self, mutation: Mutation) -> Result<Reply, LoadError> {
        let mut replies = self.database.ledger.run(&[mutation])?;
        Ok(replies.remove(0)?)
    }
}

impl From<MutationError> for LoadError {
    fn from(error: MutationError) -> Self {
        Self::Database(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{CLUSTER, Fixture, NOW, ROOT, SIZE, generation, hash, node_id};
    use super::super::offline::open_offline;
    use super::super::open::DATABASE;
    use super::*;
    use richardstore_proto::NodeState;
    use std::ops::ControlFlow;

    fn node(index: u32) -> DataNodeInfo {
        DataNodeInfo {
            node_id: node_id(index),
            address: format!("127.0.0.1:{}", 7000 + index),
            state: NodeState::Live,
            name: format!("node-{index}"),
            rack: String::new(),
            generation: Generation(0),
        }
    }

    fn held(file: u8, write: u64) -> HeldReplica {
        HeldReplica {
            hash: hash(file),
            size: SIZE,
            blake3_root: ROOT,
            generation: generation(write),
        }
    }

    fn forgotten(file: u8, up_to: u64) -> RememberedDelete {
        RememberedDelete {
            hash: hash(file),
            generation: generation(up_to),
            marker: generation(up_to + 1),
        }
    }

    #[test]
    fn i08_from_replicas_and_remembered_deletes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut rebuild = Rebuild::from_nothing(dir.path(), CLUSTER, 3, NOW).unwrap();
        let seen = Seen {
            epoch: NamenodeEpoch(7),
            generation: generation(40),
        };
        rebuild.recover(seen).unwrap();
        rebuild.recall(vec![forgotten(2, 30)]).unwrap();
        for index in 1..=3 {
            let registered = rebuild.register(&node(index), SessionEpoch(5)).unwrap();
            let replicas = [held(1, 10), held(3, 40)];
            rebuild.holds(registered, &replicas).unwrap();
            if index == 3 {
                // It was away for the delete.
                rebuild.holds(registered, &[held(2, 30)]).unwrap();
            }
        }
        let summary = rebuild.finish().unwrap();
        assert_eq!((summary.files, summary.tombstones), (2, 1));
        assert!(summary.epoch > 7 && summary.next_generation > generation(40));
        let view = open_offline(&dir.path().join(DATABASE), 1 << 20).unwrap();
        super::super::audit::audit(&view);
        assert_eq!(view.file(&hash(1)).unwrap().unwrap().replicas.len(), 3);
        assert_eq!(view.file(&hash(2)).unwrap(), None);
        let held = view.tombstone(&hash(2)).unwrap().unwrap().holders;
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn i08_from_a_copy_what_came_after_it_is_taken_from_the_datanodes() {
        let fixture = Fixture::new();
        fixture.upload(1, &[1, 2, 3]);
        fixture.upload(2, &[1, 2, 3]);
        let mut copy = Vec::new();
        fixture
            .view()
            .dump_all(&mut |line| {
                copy.extend_from_slice(line.as_bytes());
                copy.push(b'\n');
                ControlFlow::Continue(())
            })
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (mut rebuild, _) = Rebuild::from_copy(dir.path(), &copy[..], 2, NOW).unwrap();
        rebuild.recover(Seen::default()).unwrap();
        rebuild.recall(vec![forgotten(2, 2)]).unwrap();
        let registered = rebuild.register(&node(1), SessionEpoch(9)).unwrap();
        rebuild
            .holds(registered, &[held(1, 1), held(5, 3)])
            .unwrap();
        let summary = rebuild.finish().unwrap();
        assert_eq!((summary.files, summary.tombstones), (2, 1));
        let view = open_offline(&dir.path().join(DATABASE), 1 << 20).unwrap();
        super::super::audit::audit(&view);
        let target = |file| view.file(&hash(file)).unwrap().unwrap().replication;
        assert_eq!((target(1), target(5)), (3, 2));
        assert_eq!(view.file(&hash(2)).unwrap(), None);
    }

    #[test]
    fn i08_from_nothing_replicas_of_an_unknown_generation_come_back_unless_a_delete_is_remembered()
    {
        let dir = tempfile::tempdir().unwrap();
        let mut rebuild = Rebuild::from_nothing(dir.path(), CLUSTER, 3, NOW).unwrap();
        rebuild.recover(Seen::default()).unwrap();
        rebuild.recall(vec![forgotten(2, 30)]).unwrap();
        let one = rebuild.register(&node(1), SessionEpoch(5)).unwrap();
        rebuild
            .holds(one, &[held(1, 0), held(2, 0), held(3, 0)])
            .unwrap();
        // Told of when its file had come back.
        rebuild.recall(vec![forgotten(3, 30)]).unwrap();
        let two = rebuild.register(&node(2), SessionEpoch(5)).unwrap();
        rebuild.holds(two, &[held(1, 20)]).unwrap();
        let summary = rebuild.finish().unwrap();
        assert_eq!((summary.files, summary.tombstones), (1, 0));
        let view = open_offline(&dir.path().join(DATABASE), 1 << 20).unwrap();
        super::super::audit::audit(&view);
        let replicas = view.file(&hash(1)).unwrap().unwrap().replicas;
        let generations: Vec<u64> = replicas.iter().map(|held| held.generation.0).collect();
        assert_eq!(generations, [0, 20]);
        // Nothing of them is deleted.
        assert_eq!(view.counts().unwrap().foreign_replicas, 2);
        assert_eq!(view.counts().unwrap().commands, 0);
    }

    #[test]
    fn i08_a_rebuild_that_broke_off_leaves_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let mut rebuild = Rebuild::from_nothing(dir.path(), CLUSTER, 3, NOW).unwrap();
        rebuild.recover(Seen::default()).unwrap();
        drop(rebuild);
        assert!(!dir.path().join(DATABASE).exists());
        Rebuild::from_nothing(dir.path(), CLUSTER, 3, NOW).unwrap();
    }
}
