//! [`Batch`]: the open tables of one write transaction and what is counted along, so that counters, digests and reverse
//! indices always change together with the record they are about.
//!
//! Everything that changes a file goes through [`Batch::replace_file`], a write through [`Batch::replace_write`], a
//! tombstone through [`Batch::replace_tombstone`]: given the record before and after, they keep all that is derived.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use richardstore_proto::{CommandId, ContentHash, Generation, NodeId, RangeDigest, hash_range};

use super::codec;
use super::counters::Counters;
use super::tables::{
    META_COUNTERS, Tables, ViewError, read_command, read_file, read_node, read_tombstone,
    read_write,
};
use crate::mutation::MutationError;
use crate::record::{
    CommandRecord, CommandRecordAction, FileRecord, NodeIndex, NodeRecord, TombstoneRecord,
    WriteRecord,
};

/// Work inside one write transaction.
pub(super) struct Batch<'txn> {
    pub(super) tables: Tables<'txn>,
    pub(super) counters: Counters,
    nodes: BTreeMap<NodeIndex, NodeRecord>,
    node_ids: BTreeMap<NodeId, NodeIndex>,
    digests: BTreeMap<(u32, u16), RangeDigest>,
    changed: bool,
}

impl From<ViewError> for MutationError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Corrupt(what) => Self::Corrupt(what),
            ViewError::Storage(what) | ViewError::Prefix(what) => Self::Storage(what),
        }
    }
}

impl From<redb::StorageError> for MutationError {
    fn from(error: redb::StorageError) -> Self {
        ViewError::from(error).into()
    }
}

impl<'txn> Batch<'txn> {
    pub fn open(transaction: &'txn WriteTransaction) -> Result<Self, ViewError> {
        let tables = Tables::open(transaction)?;
        let counters = Counters::read(&tables.meta)?;
        Ok(Self {
            tables,
            counters,
            nodes: BTreeMap::new(),
            node_ids: BTreeMap::new(),
            digests: BTreeMap::new(),
            changed: false,
        })
    }

    /// Writes what was held back: counters, nodes, digests. `false`: nothing was changed, there is nothing to commit.
    pub fn finish(mut self) -> Result<bool, ViewError> {
        if !self.changed {
            return Ok(false);
        }
        for (index, node) in &self.nodes {
            let frame = codec::encode("node", node)?;
            self.tables.nodes.insert(index.0, frame.as_slice())?;
        }
        for (key, digest) in &self.digests {
            let frame = codec::encode_digest(digest)?;
            self.tables.digests.insert(*key, frame.as_slice())?;
        }
        let frame = codec::encode("meta counters", &self.counters)?;
        self.tables.meta.insert(META_COUNTERS, frame.as_slice())?;
        Ok(true)
    }

    /// To be called by whoever changes `counters` or a node in place.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    pub fn file(&self, hash: &ContentHash) -> Result<Option<FileRecord>, ViewError> {
        read_file(&self.tables.files, hash)
    }

    pub fn tombstone(&self, hash: &ContentHash) -> Result<Option<TombstoneRecord>, ViewError> {
        read_tombstone(&self.tables.tombstones, hash)
    }

    pub fn command(
        &self,
        node: NodeIndex,
        id: CommandId,
    ) -> Result<Option<CommandRecord>, ViewError> {
        read_command(&self.tables.commands, (node.0, id.0))
    }

    /// The copy, trim or quarantine that is under way for a file.
    pub fn repair(&self, hash: &ContentHash) -> Result<Option<(NodeIndex, CommandId)>, ViewError> {
        let row = self.tables.repairs.get(hash.as_bytes())?;
        Ok(row.map(|row| (NodeIndex(row.value().0), CommandId(row.value().1))))
    }

    /// The allocation that holds `generation`, and its first generation.
    pub fn write(
        &self,
        generation: Generation,
    ) -> Result<Option<(Generation, WriteRecord)>, ViewError> {
        read_write(&self.tables.writes, generation)
    }

    pub fn write_is_open(&self, generation: Generation) -> Result<bool, ViewError> {
        Ok(self
            .write(generation)?
            .is_some_and(|(first, record)| record.is_open(first, generation)))
    }

    /// The oldest generation in flight.
    pub fn oldest_open_write(&self) -> Result<Option<Generation>, ViewError> {
        let Some((first, frame)) = self.tables.writes.first()? else {
            return Ok(None);
        };
        let first = Generation(first.value());
        let record = codec::decode_write(first, frame.value())?;
        // A record with no open bit is removed, so the lowest bit is there.
        Ok(Some(Generation(
            first.0 + u64::from(record.open.trailing_zeros()),
        )))
    }

    /// The node of this number, to be changed in place; see [`Batch::touch`].
    pub fn node(&mut self, index: NodeIndex) -> Result<&mut NodeRecord, MutationError> {
        use std::collections::btree_map::Entry;
        match self.nodes.entry(index) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let node = read_node(&self.tables.nodes, index)?
                    .ok_or(MutationError::NodeUnknown(index))?;
                Ok(entry.insert(node))
            }
        }
    }

    /// The node of this number, which a record names: that it is missing is damage, not a refusal.
    pub fn recorded_node(&mut self, index: NodeIndex) -> Result<&mut NodeRecord, MutationError> {
        self.node(index).map_err(|error| match error {
            MutationError::NodeUnknown(index) => {
                MutationError::Corrupt(format!("node {} is named by a record and gone", index.0))
            }
            other => other,
        })
    }

    pub fn node_index(&mut self, node_id: &NodeId) -> Result<Option<NodeIndex>, ViewError> {
        if let Some(index) = self.node_ids.get(node_id) {
            return Ok(Some(*index));
        }
        let index = self
            .tables
            .node_ids
            .get(node_id.as_bytes())?
            .map(|index| NodeIndex(index.value()));
        if let Some(index) = index {
            self.node_ids.insert(*node_id, index);
        }
        Ok(index)
    }

    pub fn add_node(&mut self, node: NodeRecord) -> Result<(), ViewError> {
        self.changed = true;
        self.tables
            .node_ids
            .insert(node.node_id.as_bytes(), node.index.0)?;
        self.node_ids.insert(node.node_id, node.index);
        self.nodes.insert(node.index, node);
        Ok(())
    }

    /// The digest that `hash` counts in, to be changed in place; see [`Batch::touch`].
    pub fn digest(
        &mut self,
        node: NodeIndex,
        hash: &ContentHash,
    ) -> Result<&mut RangeDigest, ViewError> {
        use std::collections::btree_map::Entry;
        let range = u16::from(hash.as_bytes()[0]);
        debug_assert_eq!(usize::from(range), hash_range(hash));
        match self.digests.entry((node.0, range)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let key = *entry.key();
                let digest = match self.tables.digests.get(key)? {
                    Some(frame) => codec::decode_digest(key, frame.value())?,
                    None => RangeDigest::default(),
                };
                Ok(entry.insert(digest))
            }
        }
    }

    /// Sets an allocation; one with nothing in flight is removed.
    pub fn replace_write(
        &mut self,
        first: Generation,
        before: Option<&WriteRecord>,
        after: &WriteRecord,
    ) -> Result<(), ViewError> {
        self.changed = true;
        if after.open == 0 {
            self.tables.writes.remove(first.0)?;
        } else {
            let frame = codec::encode("write", after)?;
            self.tables.writes.insert(first.0, frame.as_slice())?;
        }
        self.counters.writes += u64::from(after.open.count_ones());
        self.counters.writes -= before.map_or(0, |record| u64::from(record.open.count_ones()));
        Ok(())
    }

    /// Sets or removes a tombstone.
    pub fn replace_tombstone(
        &mut self,
        hash: &ContentHash,
        before: Option<&TombstoneRecord>,
        after: Option<&TombstoneRecord>,
    ) -> Result<(), ViewError> {
        self.changed = true;
        if let Some(spent) = before.filter(|record| record.holders.is_empty()) {
            self.tables
                .spent_tombstones
                .remove((spent.generation.0, hash.as_bytes()))?;
        }
        if let Some(before) = before {
            self.tables
                .delete_markers
                .remove((before.marker.0, hash.as_bytes()))?;
        }
        match after {
            Some(record) => {
                let frame = codec::encode_tombstone(record)?;
                self.tables
                    .delete_markers
                    .insert((record.marker.0, hash.as_bytes()), ())?;
                self.tables
                    .tombstones
                    .insert(hash.as_bytes(), frame.as_slice())?;
                if record.holders.is_empty() {
                    self.tables
                        .spent_tombstones
                        .insert((record.generation.0, hash.as_bytes()), ())?;
                }
            }
            None => {
                self.tables.tombstones.remove(hash.as_bytes())?;
            }
        }
        self.counters.tombstones += u64::from(after.is_some());
        self.counters.tombstones -= u64::from(before.is_some());
        Ok(())
    }

    /// Adds a command. Its node has to exist.
    pub fn add_command(
        &mut self,
        node: NodeIndex,
        action: CommandRecordAction,
        now_ms: u64,
    ) -> Result<CommandId, MutationError> {
        let id = CommandId(self.counters.next_command);
        self.counters.next_command += 1;
        let record = CommandRecord {
            action,
            attempts: 0,
            not_before_ms: 0,
            issued_ms: now_ms,
        };
        self.insert_command(node, id, &record)?;
        Ok(id)
    }

    /// Adds a command that has its number.
    pub fn insert_command(
        &mut self,
        node: NodeIndex,
        id: CommandId,
        record: &CommandRecord,
    ) -> Result<(), MutationError> {
        self.recorded_node(node)?.commands += 1;
        self.counters.commands += 1;
        if let Some(hash) = record.action.repairs() {
            self.tables
                .repairs
                .insert(hash.as_bytes(), (node.0, id.0))?;
        }
        self.set_command(node, id, record)?;
        Ok(())
    }

    pub fn set_command(
        &mut self,
        node: NodeIndex,
        id: CommandId,
        record: &CommandRecord,
    ) -> Result<(), ViewError> {
        self.changed = true;
        let frame = codec::encode_command((node.0, id.0), record)?;
        self.tables
            .commands
            .insert((node.0, id.0), frame.as_slice())?;
        Ok(())
    }

    pub fn remove_command(&mut self, node: NodeIndex, id: CommandId) -> Result<(), MutationError> {
        let known = self.command(node, id)?;
        if let Some(command) = known {
            self.changed = true;
            self.tables.commands.remove((node.0, id.0))?;
            if let Some(hash) = command.action.repairs()
                && self.repair(hash)? == Some((node, id))
            {
                self.tables.repairs.remove(hash.as_bytes())?;
            }
            self.counters.commands -= 1;
            let node = self.recorded_node(node)?;
            node.commands = node.commands.saturating_sub(1);
        }
        Ok(())
    }
}
