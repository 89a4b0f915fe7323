//! [`ReplicaRecord`]: what the extended attribute of a replica says about it. It is set before the file is synced, so it is
//! durable with the bytes, and the file itself holds the raw bytes and nothing else.
//!
//! Format, 53 bytes, little-endian: version (1 byte, 1), generation (8), size (8), BLAKE3 root (32), CRC-32C of the file's hash
//! followed by all of the above (4). The hash is in the checksum so that a file that somebody moved to another name
//! does not bring a record along that would vouch for it. With its name and headers the attribute takes 92 of the 96 bytes
//! that an ext4 inode of 256 bytes has for attributes, so it costs no block of its own.

use richardstore_proto::{Blake3Root, ContentHash, Generation};

/// The attribute's name.
pub(crate) const RECORD_NAME: &str = "user.richardstore";
/// Bytes of an encoded record.
pub(crate) const RECORD_BYTES: usize = 53;
const VERSION: u8 = 1;
const CHECKED_BYTES: usize = RECORD_BYTES - 4;

/// What is known about a replica without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaRecord {
    pub generation: Generation,
    pub size: u64,
    pub blake3_root: Blake3Root,
}

impl ReplicaRecord {
    /// The bytes of the attribute on the file named `hash`.
    pub(crate) fn encode(&self, hash: &ContentHash) -> [u8; RECORD_BYTES] {
        let mut bytes = [0u8; RECORD_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.generation.0.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.size.to_le_bytes());
        bytes[17..49].copy_from_slice(self.blake3_root.as_bytes());
        let sum = checksum(hash, &bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The record of the file named `hash`. `None` where the bytes are not one: another length or version, damaged, or
    /// made for another hash.
    pub(crate) fn decode(hash: &ContentHash, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
        let (checked, sum) = bytes.split_at(CHECKED_BYTES);
        if bytes[0] != VERSION || checksum(hash, checked).to_le_bytes() != sum {
            return None;
        }
        Some(Self {
            generation: Generation(u64::from_le_bytes(bytes[1..9].try_into().ok()?)),
            size: u64::from_le_bytes(bytes[9..17].try_into().ok()?),
            blake3_root: Blake3Root::new(bytes[17..49].try_into().ok()?),
        })
    }
}

fn checksum(hash: &ContentHash, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(hash.as_bytes()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    fn golden() -> ReplicaRecord {
        ReplicaRecord {
            generation: Generation(0x0102_0304),
            size: 5,
            blake3_root: Blake3Root::new([0xab; 32]),
        }
    }

    #[test]
    fn the_bytes_on_disk_stay_what_they_are() {
        let bytes = golden().encode(&ContentHash::EMPTY);
        let mut expected = vec![1, 4, 3, 2, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0xab; 32]);
        assert_eq!(bytes[..CHECKED_BYTES], expected);
        assert_eq!(bytes[CHECKED_BYTES..], [113, 83, 67, 27]);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = golden().encode(&ContentHash::EMPTY);
        for bit in 0..RECORD_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ReplicaRecord::decode(&ContentHash::EMPTY, &flipped), None);
        }
    }

    #[test]
    fn i05_a_record_does_not_vouch_for_another_name() {
        let bytes = golden().encode(&ContentHash::EMPTY);
        assert_eq!(ReplicaRecord::decode(&ContentHash::MAX, &bytes), None);
    }

    proptest! {
        #[test]
        fn every_record_survives_its_bytes(
            hash in any::<[u8; 32]>(), root in any::<[u8; 32]>(), generation: u64, size: u64,
        ) {
            let hash = ContentHash::new(hash);
            let blake3_root = Blake3Root::new(root);
            let record = ReplicaRecord { generation: Generation(generation), size, blake3_root };
            assert_eq!(ReplicaRecord::decode(&hash, &record.encode(&hash)), Some(record));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ReplicaRecord::decode(&ContentHash::EMPTY, &bytes);
        }
    }
}
