//! [`Content`]: file contents of any size from a seed, without keeping them in memory.

use bytes::Bytes;
use sha2::{Digest, Sha256};

const CHUNK_BYTES: u64 = 256 << 10;

/// The bytes of one test file: the BLAKE3 output stream of its seed, cut at `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    /// Tells contents apart.
    pub seed: u64,
    /// Bytes.
    pub size: u64,
}

impl Content {
    /// Bytes of the shortest canary of a drill. Shorter contents could be somebody's file by accident.
    pub const LEAST_CANARY_BYTES: u64 = 64;

    /// The content of `seed` with `size` bytes.
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size }
    }

    /// Its chunks, in order.
    pub fn chunks(self) -> impl Iterator<Item = Bytes> + Send {
        let mut stream = blake3::Hasher::new()
            .update(&self.seed.to_be_bytes())
            .finalize_xof();
        let mut left = self.size;
        std::iter::from_fn(move || {
            let length = usize::try_from(left.min(CHUNK_BYTES)).ok()?;
            if length == 0 {
                return None;
            }
            let mut chunk = vec![0; length];
            stream.fill(&mut chunk);
            left -= length as u64;
            Some(Bytes::from(chunk))
        })
    }

    /// All of it at once, for small ones.
    pub fn bytes(self) -> Bytes {
        self.chunks()
            .fold(Vec::new(), |mut all, chunk| {
                all.extend_from_slice(&chunk);
                all
            })
            .into()
    }

    /// Its SHA-256 as 64 hex digits.
    pub fn hash(self) -> String {
        let mut hasher = Sha256::new();
        for chunk in self.chunks() {
            hasher.update(&chunk);
        }
        hex(&hasher.finalize())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_size_and_repeat() {
        let content = Content::new(7, CHUNK_BYTES * 2 + 5);
        assert_eq!(content.bytes().len() as u64, content.size);
        assert_eq!(content.bytes(), content.bytes());
        assert_ne!(content.hash(), Content::new(8, content.size).hash());
    }

    #[test]
    fn no_bytes_have_the_hash_of_no_bytes() {
        let hash = Content::new(1, 0).hash();
        assert!(hash.starts_with("e3b0c44298fc1c14"));
    }
}
