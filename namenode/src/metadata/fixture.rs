//! What the tests of the metadata share: a ledger in memory, audited after every step, and short names for mutations.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{Builder, Database};
use richardstore_proto::{
    Blake3Root, ClusterId, CommandId, ContentHash, Generation, JournalEvent, JournalId, NodeId,
    ReplicaEntry, Sequence, SessionEpoch,
};

use super::audit::audit;
use super::database::format;
use super::ledger::Ledger;
use super::view::View;
use crate::mutation::{CommandEnd, Mutation, MutationError, Reply};
use crate::record::{CommandRecordAction, FileRecord, NodeIndex, TombstoneRecord};

pub const CLUSTER: ClusterId = ClusterId::new([9; 16]);
pub const JOURNAL: JournalId = JournalId::new([4; 16]);
pub const NOW: u64 = 1_000;
pub const EXPIRES: u64 = 61_000;

/// Size and root of every file in these tests.
pub const SIZE: u64 = 100;
pub const ROOT: Blake3Root = Blake3Root::new([3; 32]);

pub fn hash(number: u8) -> ContentHash {
    ContentHash::new([number; 32])
}

pub fn node_id(index: u32) -> NodeId {
    NodeId::new(u128::from(index).to_be_bytes())
}

pub fn generation(number: u64) -> Generation {
    Generation(number)
}

/// A formatted database on `backend`.
pub fn new_database() -> Database {
    let database = Builder::new()
        .create_with_backend(InMemoryBackend::new())
        .unwrap();
    format(&database, CLUSTER).unwrap();
    database
}

/// A ledger in memory with nodes 1 to 4, each with its place in its journal.
pub struct Fixture {
    pub(in crate::metadata) ledger: Arc<Ledger>,
    sequences: BTreeMap<u32, u64>,
}

impl Fixture {
    pub fn new() -> Self {
        let fixture = Self {
            ledger: Ledger::new(new_database(), None),
            sequences: (1..=4).map(|node| (node, 1)).collect(),
        };
        for node in 1..=4 {
            fixture.apply(registration(node, 1, JOURNAL)).unwrap();
        }
        fixture
    }

    pub fn apply(&self, mutation: Mutation) -> Result<Reply, MutationError> {
        let reply = self.ledger.run(&[mutation]).unwrap().remove(0);
        audit(&self.view());
        reply
    }

    pub fn view(&self) -> View {
        self.ledger.view().unwrap()
    }

    /// One write in flight.
    pub fn allocate(&self) -> Generation {
        match self.apply(allocation(1)) {
            Ok(Reply::Writes { first }) => first,
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(
        &self,
        write: Generation,
        file: u8,
        nodes: &[u32],
    ) -> Result<Reply, MutationError> {
        self.apply(commit(write, file, nodes))
    }

    /// A file with replicas on these nodes, and its generation.
    pub fn upload(&self, file: u8, nodes: &[u32]) -> Generation {
        let write = self.allocate();
        self.commit(write, file, nodes).unwrap();
        write
    }

    pub fn delete(&self, file: u8) -> Reply {
        self.apply(deletion(file)).unwrap()
    }

    pub fn abandon(&self, write: Generation) {
        self.apply(Mutation::AbandonWrites {
            generations: vec![write],
            now_ms: NOW,
        })
        .unwrap();
    }

    pub fn expire(&self, now_ms: u64) -> Reply {
        self.apply(Mutation::ExpireWrites { now_ms, limit: 100 })
            .unwrap()
    }

    pub fn added(&mut self, node: u32, file: u8, write: u64) {
        self.report(node, file, write, false);
    }

    pub fn removed(&mut self, node: u32, file: u8, write: u64) {
        self.report(node, file, write, true);
    }

    fn report(&mut self, node: u32, file: u8, write: u64, removed: bool) {
        let sequence = self.sequences.get_mut(&node).unwrap();
        let event = event(*sequence, file, write, removed);
        *sequence += 1;
        let next = Sequence(*sequence);
        let reply = self.apply(report(node, 1, JOURNAL, vec![event]));
        let applied =
            matches!(reply, Ok(Reply::Applied { next_sequence, .. }) if next_sequence == next);
        assert!(applied, "{reply:?}");
    }

    /// The nodes have registered with new journals.
    pub fn forget_sequences(&mut self) {
        for sequence in self.sequences.values_mut() {
            *sequence = 1;
        }
    }

    /// Confirms every command that a node has.
    pub fn confirm_all(&self, node: u32) {
        let outcomes = self
            .commands(node)
            .into_iter()
            .map(|(id, _)| (id, CommandEnd::Done))
            .collect();
        self.confirm(node, outcomes);
    }

    pub fn confirm(&self, node: u32, outcomes: Vec<(CommandId, CommandEnd)>) {
        let index = NodeIndex(node);
        self.apply(Mutation::ConfirmCommands { index, outcomes })
            .unwrap();
    }

    pub fn commands(&self, node: u32) -> Vec<(CommandId, CommandRecordAction)> {
        self.view()
            .commands(NodeIndex(node), &[], u64::MAX, 1000)
            .unwrap()
            .into_iter()
            .map(|(id, record)| (id, record.action))
            .collect()
    }

    /// (hash, generation) of the delete commands of a node.
    pub fn deletes(&self, node: u32) -> Vec<(ContentHash, Generation)> {
        self.commands(node)
            .into_iter()
            .map(|(_, action)| match action {
                CommandRecordAction::Delete { hash, generation } => (hash, generation),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Its record becomes noise.
    pub fn damage(&self, file: u8) {
        self.ledger.damage(|tables| {
            let noise = [1u8; 50];
            let key = hash(file);
            tables
                .files
                .insert(key.as_bytes(), noise.as_slice())
                .unwrap();
        });
    }

    pub fn file(&self, file: u8) -> Option<FileRecord> {
        self.view().file(&hash(file)).unwrap()
    }

    /// (node, generation) of the replicas of a file.
    pub fn replicas(&self, file: u8) -> Vec<(u32, u64)> {
        self.file(file)
            .unwrap()
            .replicas
            .iter()
            .map(|replica| (replica.node.0, replica.generation.0))
            .collect()
    }

    pub fn tombstone(&self, file: u8) -> Option<TombstoneRecord> {
        self.view().tombstone(&hash(file)).unwrap()
    }

    /// Generation and holders of a tombstone.
    pub fn buried(&self, file: u8) -> Option<(u64, Vec<u32>)> {
        self.tombstone(file).map(|record| {
            let holders = record.holders.iter().map(|holder| holder.node.0);
            (record.generation.0, holders.collect())
        })
    }
}

pub fn registration(node: u32, session: u64, journal_id: JournalId) -> Mutation {
    Mutation::RegisterNode {
        node_id: node_id(node),
        session_epoch: SessionEpoch(session),
        name: format!("node-{node}"),
        address: format!("127.0.0.1:{}", 7000 + node),
        rack: String::new(),
        journal_id,
        now_ms: NOW,
    }
}

pub fn allocation(count: u32) -> Mutation {
    Mutation::AllocateWrites {
        count,
        expires_at_ms: EXPIRES,
    }
}

pub fn commit(write: Generation, file: u8, nodes: &[u32]) -> Mutation {
    Mutation::CommitFile {
        generation: write,
        hash: hash(file),
        size: SIZE,
        blake3_root: ROOT,
        replication: 3,
        nodes: nodes.iter().map(|node| node_id(*node)).collect(),
        now_ms: NOW,
    }
}

pub fn deletion(file: u8) -> Mutation {
    Mutation::DeleteFile {
        hash: hash(file),
        now_ms: NOW,
    }
}

pub fn report(
    node: u32,
    session: u64,
    journal_id: JournalId,
    events: Vec<JournalEvent>,
) -> Mutation {
    Mutation::ApplyReport {
        index: NodeIndex(node),
        session_epoch: SessionEpoch(session),
        journal_id,
        events,
        now_ms: NOW,
    }
}

pub fn event(sequence: u64, file: u8, write: u64, removed: bool) -> JournalEvent {
    JournalEvent {
        sequence: Sequence(sequence),
        replica: ReplicaEntry {
            hash: hash(file),
            generation: Generation(write),
        },
        size: SIZE,
        blake3_root: Some(ROOT),
        removed,
    }
}
