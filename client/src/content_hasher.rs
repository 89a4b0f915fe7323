//! [`ContentHasher`]: SHA-256 and BLAKE3 of a byte stream in one pass, off the async threads where there is much of it.

use blake3::Hasher as Blake3;
use bytes::Bytes;
use richardstore_proto::{Blake3Root, ContentHash};
use richardstore_runtime::{Offload, OffloadError};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

/// Bytes that are hashed by one piece of blocking work: 1 MiB takes about a millisecond, against which handing it to
/// another thread is nothing. What is left below this at the end (all of a small file) is hashed in place if it is at most
/// [`INLINE_BYTES`].
const STAGE_BYTES: usize = 1 << 20;
/// Hashing this much takes 0.1 ms, which an async thread may spend.
const INLINE_BYTES: usize = 128 << 10;

/// What a byte stream turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest {
    /// SHA-256 of the bytes.
    pub hash: ContentHash,
    /// BLAKE3 of the bytes.
    pub blake3_root: Blake3Root,
    /// How many bytes.
    pub size: u64,
}

/// Hashes chunks in the order they are given. At most two stages of 1 MiB are held: one being filled, one being hashed.
pub struct ContentHasher {
    offload: Offload,
    size: u64,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    work: Work,
}

enum Work {
    Idle(Box<Hashers>),
    Running(JoinHandle<Result<Box<Hashers>, OffloadError>>),
    /// A stage panicked or was cancelled: the state is gone.
    Lost,
}

#[derive(Default)]
struct Hashers {
    sha256: Sha256,
    blake3: Blake3,
}

impl ContentHasher {
    /// No bytes yet. Stages run by `offload`.
    pub fn new(offload: Offload) -> Self {
        Self {
            offload,
            size: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            work: Work::Idle(Box::default()),
        }
    }

    /// Takes the next chunk. Waits only where hashing is slower than the stream.
    ///
    /// # Errors
    /// [`OffloadError`] when the process is shutting down.
    pub async fn update(&mut self, chunk: Bytes) -> Result<(), OffloadError> {
        self.size += chunk.len() as u64;
        self.pending_bytes += chunk.len();
        self.pending.push(chunk);
        if self.pending_bytes >= STAGE_BYTES {
            let hashers = self.idle().await?;
            self.start_stage(hashers);
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of everything taken.
    ///
    /// # Errors
    /// [`OffloadError`] when the process is shutting down.
    pub async fn finish(mut self) -> Result<ContentDigest, OffloadError> {
        let mut hashers = self.idle().await?;
        if self.pending_bytes <= INLINE_BYTES {
            hashers.update(&self.pending);
        } else {
            self.start_stage(hashers);
            hashers = self.idle().await?;
        }
        Ok(ContentDigest {
            hash: ContentHash::new(hashers.sha256.finalize().into()),
            blake3_root: Blake3Root::new(*hashers.blake3.finalize().as_bytes()),
            size: self.size,
        })
    }

    /// Takes the state out, after the stage under way.
    async fn idle(&mut self) -> Result<Box<Hashers>, OffloadError> {
        match std::mem::replace(&mut self.work, Work::Lost) {
            Work::Idle(hashers) => Ok(hashers),
            Work::Running(stage) => stage.await.map_err(|_| OffloadError::Cancelled)?,
            Work::Lost => Err(OffloadError::Cancelled),
        }
    }

    fn start_stage(&mut self, mut hashers: Box<Hashers>) {
        let chunks = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let offload = self.offload;
        self.work = Work::Running(tokio::spawn(async move {
            let stage = offload.run(move || {
                hashers.update(&chunks);
                hashers
            });
            stage.await
        }));
    }
}

impl Hashers {
    /// Both hashes take each chunk while it is in the processor's cache.
    fn update(&mut self, chunks: &[Bytes]) {
        for chunk in chunks {
            self.sha256.update(chunk);
            self.blake3.update(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn digest_of(bytes: &Bytes, piece: usize, offload: Offload) -> ContentDigest {
        let mut hasher = ContentHasher::new(offload);
        for at in (0..bytes.len()).step_by(piece) {
            let end = bytes.len().min(at + piece);
            hasher.update(bytes.slice(at..end)).await.unwrap();
        }
        hasher.finish().await.unwrap()
    }

    #[tokio::test]
    async fn the_digest_does_not_depend_on_how_the_bytes_were_cut() {
        let bytes = Bytes::from(
            (0..3_500_001u32)
                .map(|n| (n % 251) as u8)
                .collect::<Vec<_>>(),
        );
        let whole = ContentDigest {
            hash: ContentHash::new(Sha256::digest(&bytes).into()),
            blake3_root: Blake3Root::new(*blake3::hash(&bytes).as_bytes()),
            size: 3_500_001,
        };
        for piece in [4_001, 256 << 10, 1 << 20, 3_000_000, 4 << 20] {
            for offload in [Offload::Threads, Offload::Inline] {
                assert_eq!(digest_of(&bytes, piece, offload).await, whole, "{piece}");
            }
        }
    }

    #[tokio::test]
    async fn no_bytes_have_the_hash_of_the_empty_file() {
        let digest = ContentHasher::new(Offload::Threads).finish().await.unwrap();
        assert_eq!((digest.hash, digest.size), (ContentHash::EMPTY, 0));
    }
}
