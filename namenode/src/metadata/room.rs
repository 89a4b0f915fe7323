//! [`Room`]: what the disk under the database has left, and what may still be written to it.
//!
//! A commit that meets a full disk fails the database, and with it every read until the process has started again. So the
//! disk is looked at before each batch, and a reserve is kept: below it nothing is written that makes the database grow,
//! and its last quarter stays for the commit that is being made. Deletes, confirmations and reports may use the rest,
//! since they are what frees room. Reads never ask.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::mutation::{Mutation, MutationError};

/// How the free bytes of the disk are found out.
type Measure = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// The disk of one database.
pub struct Room {
    reserve_bytes: u64,
    measure: Measure,
}

/// There is less left than the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tight {
    /// Bytes left.
    pub available_bytes: u64,
    /// Bytes that are to stay free.
    pub reserve_bytes: u64,
}

impl fmt::Display for Tight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.only_reads() {
            true => "only reads are served",
            false => "only reads and deletes are served",
        };
        let Self {
            available_bytes,
            reserve_bytes,
        } = self;
        write!(
            formatter,
            "the namenode's disk has {available_bytes} bytes left, its reserve is {reserve_bytes}: {what}"
        )
    }
}

impl Tight {
    fn only_reads(&self) -> bool {
        self.available_bytes < self.reserve_bytes / 4
    }

    fn refuses(&self, mutation: &Mutation) -> bool {
        match mutation {
            // Without it there are no reads either, and one small commit is what the last quarter is for.
            Mutation::StartEpoch { .. } => false,
            Mutation::AllocateWrites { .. }
            | Mutation::CommitFile { .. }
            | Mutation::IssueCommands { .. } => true,
            _ => self.only_reads(),
        }
    }
}

impl Room {
    /// The disk of `directory`, of which `reserve_bytes` are to stay free; 0 looks at nothing.
    pub fn of(directory: PathBuf, reserve_bytes: u64) -> Self {
        Self::measured(reserve_bytes, move || {
            let disk = rustix::fs::statvfs(&directory)?;
            Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
        })
    }

    /// Asks `measure` for the bytes left.
    pub fn measured(
        reserve_bytes: u64,
        measure: impl Fn() -> io::Result<u64> + Send + Sync + 'static,
    ) -> Self {
        Self {
            reserve_bytes,
            measure: Box::new(measure),
        }
    }

    /// Bytes left, where `needed_bytes` more would not leave the reserve free. A disk that does not say how full it is counts as
    /// having room.
    pub fn lacks(&self, needed_bytes: u64) -> Option<u64> {
        let available_bytes = self.available()?;
        let wanted_bytes = self.reserve_bytes.saturating_add(needed_bytes);
        (available_bytes < wanted_bytes).then_some(available_bytes)
    }

    /// Bytes that are to stay free.
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// `None` while there is enough. A disk that does not say how full it is counts as having room.
    pub fn tight(&self) -> Option<Tight> {
        let available_bytes = self.available()?;
        (available_bytes < self.reserve_bytes).then_some(Tight {
            available_bytes,
            reserve_bytes: self.reserve_bytes,
        })
    }

    fn available(&self) -> Option<u64> {
        if self.reserve_bytes == 0 {
            return None;
        }
        (self.measure)()
            .inspect_err(|error| tracing::warn!(%error, "the disk does not say how full it is"))
            .ok()
    }

    /// For each of `mutations` why it is not applied now, if it is not.
    pub fn refusals(&self, mutations: &[Mutation]) -> Vec<Option<MutationError>> {
        let Some(tight) = self.tight() else {
            return vec![None; mutations.len()];
        };
        mutations
            .iter()
            .map(|mutation| {
                tight
                    .refuses(mutation)
                    .then_some(MutationError::NoRoom(tight))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{JOURNAL, allocation, commit, generation, registration};
    use super::*;

    const DELETE: Mutation = Mutation::DeleteFile {
        hash: richardstore_proto::ContentHash::EMPTY,
        now_ms: 1,
    };
    const START: Mutation = Mutation::StartEpoch {
        now_ms: 1,
        writes_expire_at_ms: 2,
    };

    /// Whether an allocation, a commit, a registration, a delete and a start are refused with so much left of 400 bytes.
    fn refused(available: u64) -> [bool; 5] {
        let mutations = [
            allocation(1),
            commit(generation(1), 1, &[1]),
            registration(1, 1, JOURNAL),
            DELETE,
            START,
        ];
        let refusals = Room::measured(400, move || Ok(available)).refusals(&mutations);
        std::array::from_fn(|at| refusals[at].is_some())
    }

    #[test]
    fn i11_below_the_reserve_only_what_frees_room_is_written_and_in_its_last_quarter_nothing() {
        assert_eq!(refused(400), [false; 5]);
        assert_eq!(refused(399), [true, true, false, false, false]);
        assert_eq!(refused(100), [true, true, false, false, false]);
        assert_eq!(refused(99), [true, true, true, true, false]);
        assert_eq!(refused(0), [true, true, true, true, false]);
    }

    #[test]
    fn a_disk_that_does_not_say_has_room_and_without_a_reserve_none_is_asked() {
        let silent = Room::measured(1, || Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(silent.tight(), None);
        assert_eq!(Room::measured(0, || Ok(0)).tight(), None);
    }
}
