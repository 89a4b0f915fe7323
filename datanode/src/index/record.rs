//! The records of the index as bytes: `replicas` maps the 32 bytes of a hash to a [`ReplicaRecord`], `journal` maps a
//! big-endian sequence number to an [`EventRecord`]. Both are frames of version 1.

use std::fmt::Display;

use richardstore_migrations::frame;
use richardstore_proto::{
    Blake3Root, ContentHash, Generation, JournalEvent, ReplicaEntry, Sequence,
};
use richardstore_store::ReplicaMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::IndexError;

/// Version byte of every frame in the index. Another layout of a record is another version and a step of the ladder.
pub(super) const FRAME_VERSION: u8 = 1;

/// What the index knows about a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The file.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// What the bytes are verified by.
    pub blake3_root: Blake3Root,
    /// The write it came with.
    pub generation: Generation,
    /// When all of it was last read and found right, milliseconds since the Unix epoch; `None` if never since the index
    /// was rebuilt.
    pub last_verified_ms: Option<u64>,
}

/// Value of the `replicas` tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReplicaRecord {
    pub size: u64,
    pub generation: Generation,
    pub blake3_root: Blake3Root,
    pub last_verified_ms: Option<u64>,
}

/// Value of the `journal` tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EventRecord {
    pub hash: ContentHash,
    pub generation: Generation,
    pub size: u64,
    pub blake3_root: Option<Blake3Root>,
    pub removed: bool,
}

impl ReplicaRecord {
    /// The record of a replica as it lies in the directory, with what only the index remembers taken from `present`.
    pub fn of(meta: &ReplicaMeta, present: Option<&ReplicaRecord>) -> Self {
        Self {
            size: meta.size,
            generation: meta.generation,
            blake3_root: meta.blake3_root,
            last_verified_ms: present.and_then(|record| record.last_verified_ms),
        }
    }

    pub fn entry(&self, hash: ContentHash) -> IndexEntry {
        IndexEntry {
            hash,
            size: self.size,
            blake3_root: self.blake3_root,
            generation: self.generation,
            last_verified_ms: self.last_verified_ms,
        }
    }

    pub fn added(&self, hash: ContentHash) -> EventRecord {
        EventRecord {
            hash,
            generation: self.generation,
            size: self.size,
            blake3_root: Some(self.blake3_root),
            removed: false,
        }
    }
}

impl EventRecord {
    pub fn event(&self, sequence: Sequence) -> JournalEvent {
        JournalEvent {
            sequence,
            replica: ReplicaEntry {
                hash: self.hash,
                generation: self.generation,
            },
            size: self.size,
            blake3_root: self.blake3_root,
            removed: self.removed,
        }
    }
}

/// Key of an event. Big endian, so that the order of the keys is that of the events.
pub(super) fn journal_key(sequence: Sequence) -> [u8; 8] {
    sequence.0.to_be_bytes()
}

pub(super) fn sequence_of_key(key: &[u8]) -> Result<Sequence, IndexError> {
    let bytes = key
        .try_into()
        .map_err(|_| damaged("journal", hex(key), "the key is no sequence number"))?;
    Ok(Sequence(u64::from_be_bytes(bytes)))
}

pub(super) fn hash_of_key(key: &[u8]) -> Result<ContentHash, IndexError> {
    ContentHash::try_from(key).map_err(|error| damaged("replicas", hex(key), error))
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, IndexError> {
    frame::encode(FRAME_VERSION, value).map_err(|error| IndexError::Database(error.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(
    tree: &str,
    key: impl Display,
    bytes: &[u8],
) -> Result<T, IndexError> {
    frame::decode(FRAME_VERSION, bytes).map_err(|error| damaged(tree, key, error))
}

pub(super) fn damaged(tree: &str, key: impl Display, reason: impl Display) -> IndexError {
    IndexError::Damaged {
        key: format!("{tree}/{key}"),
        reason: reason.to_string(),
    }
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter_map(|byte| u8::try_from(char::from(byte).to_digit(16)?).ok())
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    #[test]
    fn the_bytes_of_a_replica_record_do_not_change() {
        let record = ReplicaRecord {
            size: 258,
            generation: Generation(7),
            blake3_root: Blake3Root::new([0xbb; 32]),
            last_verified_ms: Some(3),
        };
        let bytes = golden(
            "01 0201000000000000 0700000000000000
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
             01 0300000000000000 b3763417",
        );
        assert_eq!(encode(&record).unwrap(), bytes);
        assert_eq!(
            decode::<ReplicaRecord>("replicas", "", &bytes).unwrap(),
            record
        );
    }

    /// By it a later version knows what it has before it.
    #[test]
    fn the_bytes_of_the_schema_marker_do_not_change() {
        for (schema, text) in [(1u32, "01 01000000 21b326a0"), (2, "01 02000000 183a04c2")] {
            let bytes = golden(text);
            assert_eq!(encode(&schema).unwrap(), bytes);
            assert_eq!(decode::<u32>("meta", "schema", &bytes).unwrap(), schema);
        }
    }

    #[test]
    fn the_bytes_of_an_event_record_do_not_change() {
        let record = EventRecord {
            hash: ContentHash::new([0xaa; 32]),
            generation: Generation(7),
            size: 258,
            blake3_root: None,
            removed: true,
        };
        let bytes = golden(
            "01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
             0700000000000000 0201000000000000 00 01 1f72036a",
        );
        assert_eq!(encode(&record).unwrap(), bytes);
        assert_eq!(decode::<EventRecord>("journal", 1, &bytes).unwrap(), record);
    }

    #[test]
    fn a_key_that_is_none_is_named_in_hex() {
        let error = hash_of_key(&[0xab, 0x01]).unwrap_err();
        assert!(error.to_string().contains("replicas/ab01"), "{error}");
        assert!(sequence_of_key(&[1, 2, 3]).is_err());
        assert_eq!(
            sequence_of_key(&journal_key(Sequence(9))).unwrap(),
            Sequence(9)
        );
    }
}
