//! Quarantine: a replica with wrong bytes leaves the tree and is kept for the operator.
//!
//! The last word is a whole read under the hash's lock: a replica that was healed, or was never bad, stays (I5, I6).
//! Nothing here deletes a replica or takes the name of another one in quarantine.

use std::io;
use std::path::PathBuf;

use richardstore_proto::{ContentHash, Generation};

use crate::publish::Change;
use crate::replica::OpenReplica;
use crate::verify::{Verification, VerifyStep};
use crate::volume::Volume;
use crate::{ReplicaMeta, Store, WriteError};

/// Replicas of one hash and generation that are kept at most; after that the operator must look first.
const MAX_KEPT: u32 = 1000;

/// What became of a quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuarantineOutcome {
    /// It was bad and is durably out of the tree.
    Quarantined {
        /// Where it is kept.
        path: PathBuf,
    },
    /// It was read whole and is right: it stays.
    Sound(ReplicaMeta),
    /// It is newer than the finding and stays, unread; its generation.
    Newer(Generation),
    /// There was nothing.
    Absent,
    /// Broken off; nothing was changed.
    Interrupted,
}

impl Store {
    /// Reads the replica of `hash` whole and, where it is damaged and not newer than `up_to`, moves it to
    /// `quarantine/<hash>.<generation>` in the root. `then` runs when that is durable and before anyone can publish the hash
    /// again. `go_on` is asked about every MiB.
    ///
    /// # Errors
    /// [`WriteError`]: after [`WriteError::VolumeFailed`] it may be in either place, and otherwise in the tree.
    pub fn quarantine(
        &self,
        hash: &ContentHash,
        up_to: Generation,
        go_on: &dyn Fn() -> bool,
        then: impl FnOnce(),
    ) -> Result<QuarantineOutcome, WriteError> {
        let volume = &self.inner.volume;
        volume.check_writable()?;
        let _guard = self.inner.locks.lock(hash);
        let (generation, counted) = match OpenReplica::open(volume, hash) {
            Ok(Some(replica)) => (replica.generation(), replica.counted_size()),
            Ok(None) => return Ok(QuarantineOutcome::Absent),
            // Not even its record can be read.
            Err(error) if error.is_damage() => (Generation(0), 0),
            Err(error) => return Err(error.into_write_error(volume)),
        };
        if generation > up_to {
            return Ok(QuarantineOutcome::Newer(generation));
        }
        let mut verifier = self.verifier(hash);
        let reason = loop {
            if !go_on() {
                return Ok(QuarantineOutcome::Interrupted);
            }
            let step = verifier.step();
            match step.map_err(|error| error.into_write_error(volume))? {
                VerifyStep::Read(_) => {}
                VerifyStep::Ended(Verification::Corrupt { reason }) => break reason,
                VerifyStep::Ended(Verification::Verified(meta)) => {
                    return Ok(QuarantineOutcome::Sound(meta));
                }
                VerifyStep::Ended(Verification::Absent) => return Ok(QuarantineOutcome::Absent),
            }
        };
        let path = free_path(volume, hash, generation)?;
        // First the sidecar, as in a delete: a crash between the two must not leave one that nobody would remove.
        volume.remove_sidecar(hash);
        self.inner.change_durably(Change::Move {
            from: volume.replica_path(hash),
            to: path.clone(),
        })?;
        tracing::error!(%hash, reason, path = %path.display(), "damaged replica put into quarantine");
        self.inner.ledger.replaced(counted, 0);
        self.inner.suspects.forget(hash);
        then();
        Ok(QuarantineOutcome::Quarantined { path })
    }
}

/// A name in quarantine that nothing has. The caller holds the hash's lock, so nothing takes it in between.
pub(crate) fn free_path(
    volume: &Volume,
    hash: &ContentHash,
    generation: Generation,
) -> Result<PathBuf, WriteError> {
    let directory = volume.quarantine_path();
    std::fs::create_dir_all(&directory)
        .map_err(|source| volume.write_failed(&directory, source))?;
    let first = directory.join(format!("{hash}.{generation}"));
    let more = (1..MAX_KEPT).map(|number| directory.join(format!("{hash}.{generation}.{number}")));
    for path in std::iter::once(first.clone()).chain(more) {
        match std::fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(source) => return Err(volume.write_failed(&path, source)),
        }
    }
    Err(WriteError::Io {
        path: first,
        source: io::Error::other("too many damaged replicas of this file are kept already"),
    })
}
