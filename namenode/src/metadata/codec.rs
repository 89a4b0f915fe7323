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

/// Frame version of every record that is as it was in schema 1.
const VERSION: u8 = 1;
/// Frame version of a tombstone: schema 2 added its marker.
const TOMBSTONE_VERSION: u8 = 2;

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

/// A file as bytes.
pub fn encode_file(hash: &ContentHash, record: &FileRecord) -> Result<Vec<u8>, ViewError> {
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

/// The file of these bytes.
pub fn decode_file(hash: &ContentHash, bytes: &[u8]) -> Result<FileRecord, ViewError> {
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
    frame::decode(TOMBSTONE_VERSION, bytes)
        .map_err(|error| damaged(format_args!("tombstone {hash}"), error))
}

pub(super) fn encode_tombstone(record: &TombstoneRecord) -> Result<Vec<u8>, ViewError> {
    frame::encode(TOMBSTONE_VERSION, record).map_err(|error| damaged("tombstone", error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use richardstore_fuzz::{fuzz, mutated_of};
    use richardstore_proto::{JournalId, NodeId, Sequence, SessionEpoch};

    use super::super::counters::Counters;
    use crate::record::{CommandRecordAction, NodeAdmin, ParkedReplica, TombstoneHolder};

    const HASH: ContentHash = ContentHash::new([7; 32]);

    /// Bytes that are framed as they are, so that behind a right checksum there is a wrong record.
    struct Raw(Vec<u8>);

    impl Serialize for Raw {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(self.0.len())?;
            for byte in &self.0 {
                tuple.serialize_element(byte)?;
            }
            tuple.end()
        }
    }

    fn decode_as_everything(bytes: &[u8]) {
        let _ = decode_file(&HASH, bytes);
        let _ = decode_node(NodeIndex(1), bytes);
        let _ = decode_tombstone(&HASH, bytes);
        let _ = decode_command((1, 1), bytes);
        let _ = decode_write(Generation(1), bytes);
        let _ = decode_digest((1, 1), bytes);
        let _ = decode::<Counters>("counters", bytes);
        let _ = decode::<richardstore_proto::ClusterId>("cluster", bytes);
        let _ = decode::<u32>("schema", bytes);
    }

    #[test]
    fn no_frame_makes_a_record_panic() {
        let records = prop::sample::select(vec![encode_file(&HASH, &file()).unwrap()]);
        let random = prop::collection::vec(any::<u8>(), 0..300);
        let bytes = proptest::prop_oneof![mutated_of(records), random];
        fuzz("frames of records", 4_000, &bytes, |bytes| {
            decode_as_everything(&bytes);
            // Without its old envelope, in a new one whose checksum holds.
            let payload = bytes
                .get(1..bytes.len().saturating_sub(4))
                .unwrap_or_default();
            for version in [VERSION, TOMBSTONE_VERSION] {
                decode_as_everything(&frame::encode(version, &Raw(payload.to_vec())).unwrap());
            }
        });
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn file() -> FileRecord {
        let replica = |node, generation| Replica {
            node: NodeIndex(node),
            generation: Generation(generation),
        };
        FileRecord {
            size: 0x0102,
            blake3_root: Blake3Root::new([0xbb; 32]),
            replication: 3,
            generation: Generation(1000),
            created_ms: 0x0304,
            replicas: vec![replica(1, 1000), replica(2, 998), replica(300, 1001)],
        }
    }

    #[test]
    fn a_file_on_disk_does_not_change() {
        let bytes = encode_file(&HASH, &file()).unwrap();
        let golden = concat!(
            "01",               // version
            "0201000000000000", // size
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            "03",               // replication
            "e803000000000000", // generation
            "0403000000000000", // created
            "0700000000000000", // bytes of replicas
            "0100",             // node 1, the file's generation
            "0204",             // node 2, two behind
            "ac0201",           // node 300, one ahead
            "4924a931",         // checksum
        );
        assert_eq!(hex(&bytes), golden);
        assert_eq!(decode_file(&HASH, &bytes), Ok(file()));
    }

    #[test]
    fn three_replicas_of_a_file_take_76_bytes() {
        let mut record = file();
        record.replicas.truncate(1);
        for node in 2..=3 {
            record.replicas.push(Replica {
                node: NodeIndex(node),
                generation: record.generation,
            });
        }
        assert_eq!(encode_file(&HASH, &record).unwrap().len(), 76);
    }

    #[test]
    fn the_other_records_on_disk_do_not_change() {
        let node = NodeRecord {
            node_id: NodeId::new([1; 16]),
            index: NodeIndex(2),
            name: "n".to_owned(),
            address: "a:1".to_owned(),
            rack: String::new(),
            session_epoch: SessionEpoch(3),
            journal_id: Some(JournalId::new([4; 16])),
            next_sequence: Sequence(5),
            admin: NodeAdmin::Decommissioning,
            registered_ms: 6,
            replicas: 7,
            bytes: 8,
            commands: 9,
        };
        let tombstone = TombstoneRecord {
            generation: Generation(1),
            deleted_ms: 2,
            holders: vec![TombstoneHolder {
                node: NodeIndex(3),
                command: CommandId(4),
            }],
            marker: Generation(5),
        };
        let delete = command(CommandRecordAction::Delete {
            hash: HASH,
            generation: Generation(5),
        });
        let replicate = command(CommandRecordAction::Replicate {
            hash: HASH,
            targets: vec![NodeIndex(6)],
        });
        let write = WriteRecord {
            count: 2,
            open: 3,
            expires_at_ms: 4,
            parked: vec![ParkedReplica {
                node: NodeIndex(5),
                generation: Generation(6),
                hash: HASH,
            }],
        };
        let digest = RangeDigest { count: 1, sum: 2 };
        let all = [
            encode("node", &node).unwrap(),
            encode_tombstone(&tombstone).unwrap(),
            encode_command((1, 2), &delete).unwrap(),
            encode_command((1, 2), &replicate).unwrap(),
            encode("write", &write).unwrap(),
            encode_digest(&digest).unwrap(),
            encode("counters", &Counters::default()).unwrap(),
        ];
        let checksums: Vec<String> = all
            .iter()
            .map(|bytes| format!("{} {}", bytes.len(), hex(&bytes[bytes.len() - 4..])))
            .collect();
        assert_eq!(checksums, GOLDEN);

        assert_eq!(decode_node(NodeIndex(2), &all[0]), Ok(node));
        assert_eq!(decode_tombstone(&HASH, &all[1]), Ok(tombstone));
        assert_eq!(decode_command((1, 2), &all[2]), Ok(delete));
        assert_eq!(decode_command((1, 2), &all[3]), Ok(replicate));
        assert_eq!(decode_write(Generation(1), &all[4]), Ok(write));
        assert_eq!(decode_digest((1, 2), &all[5]), Ok(digest));
        assert_eq!(decode("counters", &all[6]), Ok(Counters::default()));
    }

    /// Length and checksum (over all bytes) of node, tombstone, delete, replicate, write, digest, counters.
    const GOLDEN: [&str; 7] = [
        "122 33951c43",
        "49 18b76fc1",
        "81 ac4c5ffc",
        "85 e07c574b",
        "77 5bdfe3e3",
        "29 9edb3e68",
        "89 2742d9fd",
    ];

    fn command(action: CommandRecordAction) -> CommandRecord {
        CommandRecord {
            action,
            attempts: 1,
            not_before_ms: 2,
            issued_ms: 3,
        }
    }

    #[test]
    fn a_record_under_the_key_of_another_is_damage() {
        let delete = command(CommandRecordAction::Delete {
            hash: HASH,
            generation: Generation(5),
        });
        let bytes = encode_command((1, 2), &delete).unwrap();
        assert!(decode_command((3, 2), &bytes).is_err());
        assert!(decode_command((1, 4), &bytes).is_err());
    }

    #[test]
    fn replicas_out_of_order_or_cut_are_damage() {
        for bytes in [
            &[2, 0, 1, 0][..],
            &[1, 0, 1, 0],
            &[1],
            &[0x80],
            &[0x80; 11],
            &[0xff, 0xff, 0xff, 0xff, 0x7f, 0],
        ] {
            assert_eq!(unpack_replicas(Generation(9), bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_list_of_replicas_survives_its_packing(
            generation in any::<u64>(),
            replicas in prop::collection::btree_map(any::<u32>(), any::<u64>(), 0..20),
        ) {
            let replicas: Vec<Replica> = replicas
                .into_iter()
                .map(|(node, generation)| Replica {
                    node: NodeIndex(node),
                    generation: Generation(generation),
                })
                .collect();
            let bytes = pack_replicas(Generation(generation), &replicas);
            assert_eq!(unpack_replicas(Generation(generation), &bytes), Some(replicas));
        }

        #[test]
        fn no_bytes_make_the_unpacking_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = unpack_replicas(Generation(5), &bytes);
        }
    }
}
