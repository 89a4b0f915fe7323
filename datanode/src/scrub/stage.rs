//! [`Stage`]: the replicas that are read next, and the reading of a bounded part of them in one go.

use std::collections::VecDeque;

use richardstore_proto::{ContentHash, ReplicaEntry};
use richardstore_store::{Verification, Verifier, VerifyStep};

use crate::volume::{Volume, VolumeError};

/// Bytes of one go, give or take a step of a verifier.
const STAGE_BYTES: u64 = 1 << 20;
/// What opening a replica counts as, in bytes: with small files it is the opening that keeps a disk busy.
pub(super) const FILE_COST: u64 = 16 << 10;

/// What is read next.
#[derive(Default)]
pub(super) struct Stage {
    reading: Option<(ReplicaEntry, Verifier)>,
    waiting: VecDeque<ReplicaEntry>,
}

/// What one go has shown.
#[derive(Default)]
pub(super) struct StageEnd {
    /// Bytes to account for.
    pub charged: u64,
    /// The last replica that is done with.
    pub done: Option<ContentHash>,
    /// Damaged ones, and what is wrong with them.
    pub bad: Vec<(ContentHash, String)>,
}

impl Stage {
    /// Nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.reading.is_none() && self.waiting.is_empty()
    }

    /// These come next.
    pub(super) fn fill(&mut self, entries: Vec<ReplicaEntry>) {
        self.waiting.extend(entries);
    }

    /// Reads the next part. Blocks.
    pub(super) fn read(&mut self, volume: &Volume, now_ms: u64) -> StageEnd {
        let mut end = StageEnd::default();
        while end.charged < STAGE_BYTES {
            let (entry, mut verifier) = match self.reading.take() {
                Some(reading) => reading,
                None => match self.waiting.pop_front() {
                    Some(entry) => {
                        end.charged += FILE_COST;
                        (entry, volume.verifier(&entry.hash))
                    }
                    None => break,
                },
            };
            match verifier.step() {
                Ok(VerifyStep::Read(bytes)) => {
                    end.charged += bytes;
                    self.reading = Some((entry, verifier));
                    continue;
                }
                Ok(VerifyStep::Ended(Verification::Corrupt { reason })) => {
                    end.bad.push((entry.hash, reason));
                }
                Ok(VerifyStep::Ended(verdict)) => {
                    if let Err(error) = conclude(volume, &entry, &verdict, now_ms) {
                        tracing::debug!(hash = %entry.hash, %error, "a verdict was not kept");
                    }
                }
                // Nothing is known of it, and it must not keep the scrub from all others.
                Err(error) => {
                    tracing::warn!(hash = %entry.hash, %error, "a replica could not be scrubbed");
                }
            }
            end.done = Some(entry.hash);
        }
        end
    }
}

fn conclude(
    volume: &Volume,
    entry: &ReplicaEntry,
    verdict: &Verification,
    now_ms: u64,
) -> Result<(), VolumeError> {
    match verdict {
        Verification::Verified(_) => volume.mark_verified(&entry.hash, now_ms),
        // A file that somebody removed by hand: the index still has it, and nobody else would notice.
        Verification::Absent if volume.knows(&entry.hash)? => volume.reconcile(entry),
        Verification::Absent | Verification::Corrupt { .. } => Ok(()),
    }
}
