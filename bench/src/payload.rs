//! [`Payload`]: contents of one size that all differ and cost nothing to make.

use bytes::Bytes;

const CHUNK_BYTES: usize = 256 << 10;
/// Enough to tell contents apart.
const MARK_BYTES: usize = 32;

/// Makes contents: random bytes that all share, behind a mark of their own.
#[derive(Debug, Clone)]
pub struct Payload {
    shared: Bytes,
    salt: u64,
    size: usize,
}

impl Payload {
    /// Contents of `size` bytes. Those of another salt are others.
    pub fn new(size: usize, salt: u64) -> Self {
        let mut shared = vec![0; size.min(CHUNK_BYTES)];
        blake3::Hasher::new().finalize_xof().fill(&mut shared);
        Self {
            shared: shared.into(),
            salt,
            size,
        }
    }

    /// Bytes of each.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The chunks of the content with this number.
    pub fn chunks(&self, number: u64) -> Vec<Bytes> {
        let mark = blake3::hash(&[self.salt.to_be_bytes(), number.to_be_bytes()].concat());
        let first = self.size.min(CHUNK_BYTES);
        let mut head = self.shared[..first].to_vec();
        let marked = first.min(MARK_BYTES);
        head[..marked].copy_from_slice(&mark.as_bytes()[..marked]);
        let mut chunks = vec![Bytes::from(head)];
        let mut left = self.size - first;
        while left > 0 {
            let length = left.min(CHUNK_BYTES);
            chunks.push(self.shared.slice(..length));
            left -= length;
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_their_size_and_differ() {
        for size in [1, 31, 4096, CHUNK_BYTES, CHUNK_BYTES * 2 + 7] {
            let payload = Payload::new(size, 1);
            let total: usize = payload.chunks(1).iter().map(Bytes::len).sum();
            assert_eq!(total, size);
            assert_ne!(payload.chunks(1), payload.chunks(2));
            assert_eq!(payload.chunks(1), payload.chunks(1));
            assert_ne!(payload.chunks(1), Payload::new(size, 2).chunks(1));
        }
    }
}
