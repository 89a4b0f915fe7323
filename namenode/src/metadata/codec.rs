//! How each record lies on disk: the only place that knows. Golden bytes pin it.

use std::fmt::Display;

use richardstore_migrations::frame;
use richardstore_proto::{Blake3Root, CommandId, ContentHash, Generation, RangeDigest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tables::ViewError;
use crate::record::{
    CommandRecord, FileRecord, NodeIndex, NodeRecord, Replica, TombstoneRecord, WriteRecord,
};

/// Frame version of every record of schema 1.
const VERSION: u8 = 1;

/// A [`FileRecord`] on disk. With millions of them, the replicas are packed: for each the node as a varint and how far
/// its generation lies behind the file's, zigzag, as a varint: mostly two bytes a replica, where plain integers take 12.
#[derive(Serialize, Deserialize)]
struct StoredFile {
    size: u64,
    blake3_root: Blake3Root,
    replication: u8,
    generation: Generation,
    created_ms: u64,
    replicas: Vec<u8>,
}

/// A [`CommandRecord`] on disk, with its key: checked when read, so that a damaged key is found.
#[derive(Serialize, Deserialize)]
struct StoredCommand {
    node: u32,
    id: CommandId,
    command: CommandRecord,
}

/// A [`RangeDigest`] on disk.
#[derive(Serialize, Deserialize)]
struct StoredDigest {
    count: u64,
    sum: u128,
}

/// Frames a record.
pub(super) fn encode<T: Serialize>(what: &str, record: &T) -> Result<Vec<u8>, ViewError> {
    frame::encode(VERSION, record).map_err(|error| damaged(what, error))
}

/// The record of a frame. `what` names it in the error.
pub(super) fn decode<T: DeserializeOwned>(
    what: impl Display,
    bytes: &[u8],
) -> Result<T, ViewError> {
    frame::decode(VERSION, bytes).map_err(|error| damaged(what, error))
}

pub(super) fn encode_file(hash: &ContentHash, record: &FileRecord) -> Result<Vec<u8>, ViewError> {
    let stored = StoredFile {
        size: record.size,
        blake3_root: record.blake3_root,
        replication: u8::try_from(record.replication)
            .map_err(|error| damaged(format_args!("file {hash}"), error))?,
        generation: record.generation,
        created_ms: record.created_ms,
        replicas: pack_replicas(record.generation, &record.replicas),
    };
    frame::encode(VERSION, &stored).map_err(|error| damaged(format_args!("file {hash}"), error))
}

pub(super) fn decode_file(hash: &ContentHash, bytes: &[u8]) -> Result<FileRecord, ViewError> {
    let stored: StoredFile = decode(format_args!("file {hash}"), bytes)?;
    let replicas = unpack_replicas(stored.generation, &stored.replicas)
        .ok_or_else(|| damaged(format_args!("file {hash}"), "its replicas do not parse"))?;
    Ok(FileRecord {
        size: stored.size,
        blake3_root: stored.blake3_root,
        replication: u32::from(stored.replication),
        generation: stored.generation,
        created_ms: stored.created_ms,
        replicas,
    })
}

pub(super) fn decode_node(index: NodeIndex, bytes: &[u8]) -> Result<NodeRecord, ViewError> {
    let record: NodeRecord = decode(format_args!("node {}", index.0), bytes)?;
    if record.index != index {
        return Err(damaged(
            format_args!("node {}", index.0),
            "it is another node's",
        ));
    }
    Ok(record)
}

pub(super) fn decode_tombstone(
    hash: &ContentHash,
    bytes: &[u8],
) -> Result<TombstoneRecord, ViewError> {
    decode(format_args!("tombstone {hash}"), bytes)
}

pub(super) fn encode_command(
    key: (u32, u64),
    command: &CommandRecord,
) -> Result<Vec<u8>, ViewError> {
    let stored = StoredCommand {
        node: key.0,
        id: CommandId(key.1),
        command: command.clone(),
    };
    encode("command", &stored)
}

pub(super) fn decode_command(key: (u32, u64), bytes: &[u8]) -> Result<CommandRecord, ViewError> {
    let what = format_args!("command {} of node {}", key.1, key.0).to_string();
    let stored: StoredCommand = decode(&what, bytes)?;
    if (stored.node, stored.id) != (key.0, CommandId(key.1)) {
        return Err(damaged(what, "it is another command"));
    }
    Ok(stored.command)
}

pub(super) fn decode_write(first: Generation, bytes: &[u8]) -> Result<WriteRecord, ViewError> {
    decode(format_args!("write {first}"), bytes)
}

pub(super) fn encode_digest(digest: &RangeDigest) -> Result<Vec<u8>, ViewError> {
    let stored = StoredDigest {
        count: digest.count,
        sum: digest.sum,
    };
    encode("digest", &stored)
}

pub(super) fn decode_digest(key: (u32, u16), bytes: &[u8]) -> Result<RangeDigest, ViewError> {
    let stored: StoredDigest = decode(
        format_args!("digest of node {} range {}", key.0, key.1),
        bytes,
    )?;
    Ok(RangeDigest {
        count: stored.count,
        sum: stored.sum,
    })
}

fn damaged(what: impl Display, why: impl Display) -> ViewError {
    ViewError::Corrupt(format!("{what}: {why}"))
}

fn pack_replicas(generation: Generation, replicas: &[Replica]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(replicas.len() * 2);
    for replica in replicas {
        push_varint(&mut bytes, u64::from(replica.node.0));
        push_varint(
            &mut bytes,
            zigzag(generation.0.wrapping_sub(replica.generation.0)),
        );
    }
    bytes
}

/// `None` unless the bytes are replicas of nodes in ascending order and nothing else.
fn unpack_replicas(generation: Generation, mut bytes: &[u8]) -> Option<Vec<Replica>> {
    let mut replicas: Vec<Replica> = Vec::with_capacity(bytes.len() / 2);
    while !bytes.is_empty() {
        let node = NodeIndex(u32::try_from(take_varint(&mut bytes)?).ok()?);
        let behind = unzigzag(take_varint(&mut bytes)?);
        if replicas.last().is_some_and(|last| last.node >= node) {
            return None;
        }
        replicas.push(Replica {
            node,
            generation: Generation(generation.0.wrapping_sub(behind)),
        });
    }
    Some(replicas)
}

/// Differences near 0 on either side become small numbers.
fn zigzag(difference: u64) -> u64 {
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    (difference << 1) ^ sign
}

fn unzigzag(number: u64) -> u64 {
    let sign = if number & 1 == 1 { u64::MAX } else { 0 };
    (number >> 1) ^ sign
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
