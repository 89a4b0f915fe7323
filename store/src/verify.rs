//! [`Verifier`]: reads a replica whole, from the disk where it can and not from memory, and says whether it is what its name and
//! its record say.
//!
//! SHA-256 and the BLAKE3 tree are computed from the bytes alone, so a sidecar, right or wrong, has no part in the verdict.

use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use richardstore_proto::ContentHash;
use rustix::fs::Advice;

use crate::hasher::ContentHasher;
use crate::replica::{OpenReplica, ReplicaMeta};
use crate::store::Inner;
use crate::{ReadError, Store};

/// Bytes of a step at most.
const STEP_BYTES: u64 = 1 << 20;

/// What a whole read of a replica showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// Every byte is right.
    Verified(ReplicaMeta),
    /// It holds other bytes than its name and its record say, or the disk cannot read them.
    Corrupt {
        /// What is wrong, for people.
        reason: String,
    },
    /// There is no replica, or the one that was read was deleted or replaced meanwhile.
    Absent,
}

/// How far a [`Verifier`] has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyStep {
    /// It read this many bytes, and there may be more.
    Read(u64),
    /// It has read all, or enough.
    Ended(Verification),
}

/// Reads one replica in steps, so that the caller sets the pace. Memory: 1 MiB, and 32 bytes for each 16 MiB of the file.
pub struct Verifier {
    inner: Arc<Inner>,
    hash: ContentHash,
    reading: Option<Reading>,
}

struct Reading {
    replica: OpenReplica,
    recorded: Option<ReplicaMeta>,
    hasher: ContentHasher,
    buffer: Vec<u8>,
    position: u64,
}

impl Store {
    /// A verifier of the replica of `hash`. Nothing is opened before its first step.
    pub fn verifier(&self, hash: &ContentHash) -> Verifier {
        Verifier {
            inner: self.inner.clone(),
            hash: *hash,
            reading: None,
        }
    }

    /// Reads the replica of `hash` whole, as fast as the disk gives it.
    ///
    /// # Errors
    /// [`ReadError::Io`] where nothing can be said about the replica, as without file handles.
    pub fn verify(&self, hash: &ContentHash) -> Result<Verification, ReadError> {
        let mut verifier = self.verifier(hash);
        loop {
            if let VerifyStep::Ended(verification) = verifier.step()? {
                return Ok(verification);
            }
        }
    }
}

impl Verifier {
    /// Reads at most the next MiB. After the end the next step begins anew.
    ///
    /// # Errors
    /// [`ReadError::Io`] where nothing can be said about the replica, as without file handles.
    pub fn step(&mut self) -> Result<VerifyStep, ReadError> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => match Reading::open(&self.inner, &self.hash) {
                Ok(Some(reading)) => reading,
                Ok(None) => return Ok(VerifyStep::Ended(Verification::Absent)),
                Err(error) => return self.failed(error),
            },
        };
        match reading.read_on() {
            Ok(0) => self.finish(reading),
            Ok(read) => {
                self.reading = Some(reading);
                Ok(VerifyStep::Read(read))
            }
            Err(error) if self.inner.is_current(&reading.replica) => self.failed(error),
            Err(_) => Ok(VerifyStep::Ended(Verification::Absent)),
        }
    }

    fn finish(&self, reading: Reading) -> Result<VerifyStep, ReadError> {
        let Reading {
            replica,
            recorded,
            hasher,
            ..
        } = reading;
        let digest = hasher.finish();
        let meta = recorded.unwrap_or_else(|| ReplicaMeta::without_record(&digest));
        let sound = digest.hash == self.hash
            && digest.blake3_root == meta.blake3_root
            && digest.size == meta.size;
        if !self.inner.is_current(&replica) {
            return Ok(VerifyStep::Ended(Verification::Absent));
        }
        if !sound {
            return self.failed(replica.corrupt(0));
        }
        self.inner.suspects.forget(&self.hash);
        Ok(VerifyStep::Ended(Verification::Verified(meta)))
    }

    fn failed(&self, error: ReadError) -> Result<VerifyStep, ReadError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.inner.suspects.note(&self.hash);
        Ok(VerifyStep::Ended(Verification::Corrupt {
            reason: error.to_string(),
        }))
    }
}

impl Reading {
    fn open(inner: &Inner, hash: &ContentHash) -> Result<Option<Self>, ReadError> {
        let Some(replica) = OpenReplica::open(&inner.volume, hash)? else {
            return Ok(None);
        };
        let recorded = replica.recorded_meta()?;
        let length = replica.size.clamp(1, STEP_BYTES);
        let reading = Self {
            buffer: vec![0; usize::try_from(length).expect("at most a step")],
            replica,
            recorded,
            hasher: ContentHasher::new(),
            position: 0,
        };
        // What the page cache holds was right when it came there; the question is what the disk holds now.
        reading.leave_cache(0, None);
        Ok(Some(reading))
    }

    /// How many bytes were read; 0 at the end.
    fn read_on(&mut self) -> Result<u64, ReadError> {
        let read = loop {
            match self.replica.file.read_at(&mut self.buffer, self.position) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.replica.io(source)),
            }
        };
        self.hasher.update(&self.buffer[..read]);
        drop(self.hasher.take_leaves());
        let start = self.position;
        self.position += read as u64;
        // A scrub reads everything: kept, it would drive out what readers want.
        self.leave_cache(start, NonZeroU64::new(read as u64));
        Ok(read as u64)
    }

    /// Advice only: where the filesystem does not take it, the bytes are verified as they are in memory.
    fn leave_cache(&self, start: u64, length: Option<NonZeroU64>) {
        let _ = rustix::fs::fadvise(&self.replica.file, start, length, Advice::DontNeed);
    }
}
