//! The tables of the database, all of them, with the format of keys and values.
//!
//! Values are frames (version, bincode, CRC32C) made by `codec`, so every record is checked when it is read. Seven tables
//! have no frame: their rows say nothing that cannot be told from framed records (see each).

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use richardstore_proto::{ContentHash, ErrorCode, Generation, StoreError};

use super::codec;
use crate::record::{
    CommandRecord, FileRecord, NodeIndex, NodeRecord, TombstoneRecord, WriteRecord,
};

/// Bytes of a hash as key: ordered as the hash.
pub(super) type HashKey = &'static [u8; 32];
/// Key of `node_files`: node (4 bytes, big endian), generation (8, big endian), hash (32). Byte order is then the order
/// of (node, generation), and new files come last within their node: appending costs redb a fifteenth of a random insert.
/// The hash is part of the key because a node that misbehaves may report two hashes under one generation.
pub(super) type NodeFileKey = &'static [u8; NODE_FILE_KEY_BYTES];
pub(super) const NODE_FILE_KEY_BYTES: usize = 44;
/// A framed record.
pub(super) type Frame = &'static [u8];

pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_CLUSTER: &str = "cluster_id";
pub(super) const META_COUNTERS: &str = "counters";
pub(super) const META_RECOVERY: &str = "recovery";
pub(super) const META_LOADED: &str = "loaded";

/// `meta`: `schema` (u32, always in frame version 1), `cluster_id`, `counters`; after the metadata was restored `recovery`;
/// from loading until the first start `loaded`, the replication target of files that come back.
pub(super) const META: TableDefinition<'static, &'static str, Frame> = TableDefinition::new("meta");
/// `files`: hash -> file, with its replicas. The one random insert of a file.
pub(super) const FILES: TableDefinition<'static, HashKey, Frame> = TableDefinition::new("files");
/// `node_files`: what a node holds, in the order it came. Unframed: the same is in `files`.
pub(super) const NODE_FILES: TableDefinition<'static, NodeFileKey, ()> =
    TableDefinition::new("node_files");
/// `nodes`: node number -> node.
pub(super) const NODES: TableDefinition<'static, u32, Frame> = TableDefinition::new("nodes");
/// `node_ids`: node id -> node number. Unframed: the same is in `nodes`.
pub(super) const NODE_IDS: TableDefinition<'static, &'static [u8; 16], u32> =
    TableDefinition::new("node_ids");
/// `tombstones`: hash -> delete that must not be forgotten yet.
pub(super) const TOMBSTONES: TableDefinition<'static, HashKey, Frame> =
    TableDefinition::new("tombstones");
/// `spent_tombstones`: (generation, hash) of the tombstones that every holder has confirmed and that only wait for
/// older writes. Unframed: the same is in `tombstones`.
pub(super) const SPENT_TOMBSTONES: TableDefinition<'static, (u64, HashKey), ()> =
    TableDefinition::new("spent_tombstones");
/// `delete_markers`: (marker, hash) of all tombstones. The first is the oldest delete that datanodes must not forget yet.
/// Unframed: the same is in `tombstones`.
pub(super) const DELETE_MARKERS: TableDefinition<'static, (u64, HashKey), ()> =
    TableDefinition::new("delete_markers");
/// `recalled_deletes`: hash -> generation up to which datanodes remember it as deleted. Filled only after the metadata was
/// restored, and asked only about replicas from the time that was lost.
pub(super) const RECALLED_DELETES: TableDefinition<'static, HashKey, Frame> =
    TableDefinition::new("recalled_deletes");
/// `commands`: (node number, command id) -> command. The frame repeats the key: a damaged key must not send a delete to
/// another node.
pub(super) const COMMANDS: TableDefinition<'static, (u32, u64), Frame> =
    TableDefinition::new("commands");
/// `writes`: first generation -> allocation in flight.
pub(super) const WRITES: TableDefinition<'static, u64, Frame> = TableDefinition::new("writes");
/// `under_replicated`: hash -> replicas recorded, of the files with fewer than their target. Unframed: the same is in
/// `files`.
pub(super) const UNDER_REPLICATED: TableDefinition<'static, HashKey, u32> =
    TableDefinition::new("under_replicated");
/// `over_replicated`: hash -> replicas recorded, of the files with more than their target, on dead nodes too. Unframed:
/// the same is in `files`.
pub(super) const OVER_REPLICATED: TableDefinition<'static, HashKey, u32> =
    TableDefinition::new("over_replicated");
/// `repairs`: hash -> (node number, id) of the one copy, trim or quarantine that is under way for the file. Two at a time
/// could each be right and together take a file below its target. Unframed: the same is in `commands`.
pub(super) const REPAIRS: TableDefinition<'static, HashKey, (u32, u64)> =
    TableDefinition::new("repairs");
/// `digests`: (node number, range) -> count and sum of what the node is believed to hold in that range.
pub(super) const DIGESTS: TableDefinition<'static, (u32, u16), Frame> =
    TableDefinition::new("digests");

/// `removed_nodes`: node number -> when it was removed. Its row in `nodes` stays, so that the number and the id are never
/// given to another one.
pub(super) const REMOVED_NODES: TableDefinition<'static, u32, Frame> =
    TableDefinition::new("removed_nodes");
/// `maintenance`: node number -> until when the node is expected to be away, milliseconds since the Unix epoch.
pub(super) const MAINTENANCE: TableDefinition<'static, u32, Frame> =
    TableDefinition::new("maintenance");

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// A record is damaged.
    #[error("damaged metadata: {0}")]
    Corrupt(String),
    /// The database failed.
    #[error("the metadata database failed: {0}")]
    Storage(String),
    /// A prefix that no hash can have.
    #[error("{0:?} is no prefix of a hash: up to 64 lower-case hex digits are")]
    Prefix(String),
}

impl ViewError {
    /// What was read, or how it is damaged: that concerns one record, and must hold up no other.
    ///
    /// # Errors
    /// What concerns them all.
    pub fn or_damage<T>(read: Result<T, Self>) -> Result<Result<T, String>, Self> {
        match read {
            Ok(record) => Ok(Ok(record)),
            Err(Self::Corrupt(reason)) => Ok(Err(reason)),
            Err(error) => Err(error),
        }
    }
}

impl From<ViewError> for StoreError {
    fn from(error: ViewError) -> Self {
        let code = match error {
            ViewError::Corrupt(_) => ErrorCode::Internal,
            ViewError::Storage(_) => ErrorCode::Unavailable,
            ViewError::Prefix(_) => ErrorCode::InvalidArgument,
        };
        StoreError::new(code, error.to_string())
    }
}

impl From<redb::StorageError> for ViewError {
    fn from(error: redb::StorageError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<redb::TableError> for ViewError {
    fn from(error: redb::TableError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<redb::TransactionError> for ViewError {
    fn from(error: redb::TransactionError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// All tables, open in one write transaction.
pub(super) struct Tables<'txn> {
    pub meta: Table<'txn, &'static str, Frame>,
    pub files: Table<'txn, HashKey, Frame>,
    pub node_files: Table<'txn, NodeFileKey, ()>,
    pub nodes: Table<'txn, u32, Frame>,
    pub node_ids: Table<'txn, &'static [u8; 16], u32>,
    pub tombstones: Table<'txn, HashKey, Frame>,
    pub spent_tombstones: Table<'txn, (u64, HashKey), ()>,
    pub delete_markers: Table<'txn, (u64, HashKey), ()>,
    pub recalled_deletes: Table<'txn, HashKey, Frame>,
    pub commands: Table<'txn, (u32, u64), Frame>,
    pub writes: Table<'txn, u64, Frame>,
    pub under_replicated: Table<'txn, HashKey, u32>,
    pub over_replicated: Table<'txn, HashKey, u32>,
    pub repairs: Table<'txn, HashKey, (u32, u64)>,
    pub digests: Table<'txn, (u32, u16), Frame>,
    pub removed_nodes: Table<'txn, u32, Frame>,
    pub maintenance: Table<'txn, u32, Frame>,
}

impl<'txn> Tables<'txn> {
    /// Opens every table, making those that are missing: which is what creates a new database.
    pub fn open(transaction: &'txn WriteTransaction) -> Result<Self, ViewError> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            files: transaction.open_table(FILES)?,
            node_files: transaction.open_table(NODE_FILES)?,
            nodes: transaction.open_table(NODES)?,
            node_ids: transaction.open_table(NODE_IDS)?,
            tombstones: transaction.open_table(TOMBSTONES)?,
            spent_tombstones: transaction.open_table(SPENT_TOMBSTONES)?,
            delete_markers: transaction.open_table(DELETE_MARKERS)?,
            recalled_deletes: transaction.open_table(RECALLED_DELETES)?,
            commands: transaction.open_table(COMMANDS)?,
            writes: transaction.open_table(WRITES)?,
            under_replicated: transaction.open_table(UNDER_REPLICATED)?,
            over_replicated: transaction.open_table(OVER_REPLICATED)?,
            repairs: transaction.open_table(REPAIRS)?,
            digests: transaction.open_table(DIGESTS)?,
            removed_nodes: transaction.open_table(REMOVED_NODES)?,
            maintenance: transaction.open_table(MAINTENANCE)?,
        })
    }
}

/// Whether every table is there with the types above. `over_replicated`, `repairs`, `removed_nodes` and `maintenance` came
/// later: the first write makes them where they are missing.
pub(super) fn check_tables(transaction: &ReadTransaction) -> Result<(), redb::TableError> {
    transaction.open_table(META)?;
    transaction.open_table(FILES)?;
    transaction.open_table(NODE_FILES)?;
    transaction.open_table(NODES)?;
    transaction.open_table(NODE_IDS)?;
    transaction.open_table(TOMBSTONES)?;
    transaction.open_table(SPENT_TOMBSTONES)?;
    transaction.open_table(DELETE_MARKERS)?;
    transaction.open_table(RECALLED_DELETES)?;
    transaction.open_table(COMMANDS)?;
    transaction.open_table(WRITES)?;
    transaction.open_table(UNDER_REPLICATED)?;
    transaction.open_table(DIGESTS)?;
    Ok(())
}

/// The key of a row of `node_files`.
pub(super) fn node_file_key(
    node: NodeIndex,
    generation: Generation,
    hash: &ContentHash,
) -> [u8; NODE_FILE_KEY_BYTES] {
    let mut key = [0u8; NODE_FILE_KEY_BYTES];
    key[..4].copy_from_slice(&node.0.to_be_bytes());
    key[4..12].copy_from_slice(&generation.0.to_be_bytes());
    key[12..].copy_from_slice(hash.as_bytes());
    key
}

/// What a key of `node_files` says.
pub(super) fn split_node_file_key(
    key: &[u8; NODE_FILE_KEY_BYTES],
) -> (NodeIndex, Generation, ContentHash) {
    let (mut node, mut generation, mut hash) = ([0u8; 4], [0u8; 8], [0u8; 32]);
    node.copy_from_slice(&key[..4]);
    generation.copy_from_slice(&key[4..12]);
    hash.copy_from_slice(&key[12..]);
    (
        NodeIndex(u32::from_be_bytes(node)),
        Generation(u64::from_be_bytes(generation)),
        ContentHash::new(hash),
    )
}

pub(super) fn read_file(
    files: &impl ReadableTable<HashKey, Frame>,
    hash: &ContentHash,
) -> Result<Option<FileRecord>, ViewError> {
    files
        .get(hash.as_bytes())?
        .map(|frame| codec::decode_file(hash, frame.value()))
        .transpose()
}

pub(super) fn read_node(
    nodes: &impl ReadableTable<u32, Frame>,
    index: NodeIndex,
) -> Result<Option<NodeRecord>, ViewError> {
    nodes
        .get(index.0)?
        .map(|frame| codec::decode_node(index, frame.value()))
        .transpose()
}

pub(super) fn read_tombstone(
    tombstones: &impl ReadableTable<HashKey, Frame>,
    hash: &ContentHash,
) -> Result<Option<TombstoneRecord>, ViewError> {
    tombstones
        .get(hash.as_bytes())?
        .map(|frame| codec::decode_tombstone(hash, frame.value()))
        .transpose()
}

pub(super) fn read_command(
    commands: &impl ReadableTable<(u32, u64), Frame>,
    key: (u32, u64),
) -> Result<Option<CommandRecord>, ViewError> {
    commands
        .get(key)?
        .map(|frame| codec::decode_command(key, frame.value()))
        .transpose()
}

/// The allocation that holds `generation`, and its key.
pub(super) fn read_write(
    writes: &impl ReadableTable<u64, Frame>,
    generation: Generation,
) -> Result<Option<(Generation, WriteRecord)>, ViewError> {
    let Some(row) = writes.range(..=generation.0)?.next_back() else {
        return Ok(None);
    };
    let (first, frame) = row?;
    let first = Generation(first.value());
    let record = codec::decode_write(first, frame.value())?;
    Ok(record.bit(first, generation).map(|_| (first, record)))
}
