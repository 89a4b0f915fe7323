//! [`Ledger`]: the open database, and batches of mutations run on it durably.

use std::fs::File;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, WriteTransaction};
use richardstore_failpoint::failpoint;

use super::apply::apply;
use super::batch::Batch;
use super::room::{Room, Tight};
use super::tables::ViewError;
use super::view::{View, guarded};
use crate::mutation::{Mutation, MutationError, Reply};

/// What each mutation of a batch answers, in order.
pub(super) type Replies = Vec<Result<Reply, MutationError>>;

/// An open database. Dropping it closes the file and then gives the directory free.
pub(super) struct Ledger {
    database: Contained,
    room: Room,
    // After the database: fields are dropped in order, and the directory must not be free while the file is open.
    _lock: Option<File>,
}

/// redb may panic over damaged pages when it closes the file, too, and would end the process without a word of ours. `None` only
/// while it is dropped.
struct Contained(Option<Database>);

impl Deref for Contained {
    type Target = Database;

    fn deref(&self) -> &Database {
        let database = self.0.as_ref();
        database.expect("only the drop takes it, after which nobody has it")
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let database = self.0.take();
        // The panic hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

/// The database failed in a way after which only exiting and opening it again says what is on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct LedgerFailure(pub String);

/// One run over a batch.
enum Attempt {
    /// All were answered; whether anything was changed.
    Answered(Replies, bool),
    /// This one met damage, perhaps after it had begun to write.
    Damaged(usize, MutationError),
}

impl Ledger {
    /// A database that lies on no disk, or on one that is never full.
    pub fn new(database: Database, lock: Option<File>) -> Arc<Self> {
        Self::with_room(database, Room::measured(0, || Ok(0)), lock)
    }

    pub fn with_room(database: Database, room: Room, lock: Option<File>) -> Arc<Self> {
        Arc::new(Self {
            database: Contained(Some(database)),
            room,
            _lock: lock,
        })
    }

    /// What the disk lacks; `None` while there is enough.
    pub fn tight(&self) -> Option<Tight> {
        self.room.tight()
    }

    pub fn view(self: &Arc<Self>) -> Result<View, ViewError> {
        let transaction = guarded(|| Ok(self.database.begin_read()?))?;
        Ok(View::new(transaction, Arc::clone(self)))
    }

    /// Applies all mutations in one transaction and returns their replies when it is durable. Refused ones leave no trace.
    ///
    /// # Errors
    /// [`LedgerFailure`]: it is not known whether anything of the batch is on disk.
    pub fn run(&self, mutations: &[Mutation]) -> Result<Replies, LedgerFailure> {
        // redb may panic over damaged pages.
        catch_unwind(AssertUnwindSafe(|| self.run_trusting(mutations)))
            .unwrap_or_else(|_| Err(LedgerFailure("it panicked while writing".to_owned())))
    }

    fn run_trusting(&self, mutations: &[Mutation]) -> Result<Replies, LedgerFailure> {
        let mut refused = self.room.refusals(mutations);
        if refused.iter().all(Option::is_some) {
            return Ok(refused.into_iter().flatten().map(Err).collect());
        }
        loop {
            let transaction = self.begin()?;
            match attempt(&transaction, mutations, &refused)? {
                Attempt::Answered(replies, changed) => {
                    // A batch that changed nothing tells only what is durable already.
                    if changed {
                        failpoint("namenode-batch-applied");
                        transaction.commit().map_err(failure)?;
                        failpoint("namenode-batch-committed");
                    } else {
                        transaction.abort().map_err(failure)?;
                    }
                    return Ok(replies);
                }
                // Each round excludes one more, so this ends.
                Attempt::Damaged(at, error) => {
                    transaction.abort().map_err(failure)?;
                    refused[at] = Some(error);
                }
            }
        }
    }

    /// Changes tables behind the back of `apply`.
    #[cfg(test)]
    pub fn damage(&self, change: impl FnOnce(&mut super::tables::Tables<'_>)) {
        let transaction = self.begin().expect("a database in memory");
        change(&mut super::tables::Tables::open(&transaction).expect("a database in memory"));
        transaction.commit().expect("a database in memory");
    }

    /// Does `work` in one durable transaction, for a database that is being made.
    pub fn write(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), MutationError>,
    ) -> Result<(), LedgerFailure> {
        let transaction = self.begin()?;
        let mut batch = Batch::open(&transaction).map_err(failure)?;
        work(&mut batch).map_err(failure)?;
        batch.finish().map_err(failure)?;
        transaction.commit().map_err(failure)
    }

    fn begin(&self) -> Result<WriteTransaction, LedgerFailure> {
        let mut transaction = self.database.begin_write().map_err(failure)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(failure)?;
        // Saves the allocator's state with each commit: opening after a kill then takes milliseconds at any size (I7).
        transaction.set_quick_repair(true);
        Ok(transaction)
    }
}

fn attempt(
    transaction: &WriteTransaction,
    mutations: &[Mutation],
    refused: &[Option<MutationError>],
) -> Result<Attempt, LedgerFailure> {
    let mut batch = Batch::open(transaction).map_err(failure)?;
    let mut replies = Vec::with_capacity(mutations.len());
    for (at, (mutation, refusal)) in mutations.iter().zip(refused).enumerate() {
        if let Some(error) = refusal {
            replies.push(Err(error.clone()));
            continue;
        }
        match apply(&mut batch, mutation) {
            Err(MutationError::Storage(what)) => return Err(LedgerFailure(what)),
            Err(error @ MutationError::Corrupt(_)) => return Ok(Attempt::Damaged(at, error)),
            reply => replies.push(reply),
        }
    }
    let changed = batch.finish().map_err(failure)?;
    Ok(Attempt::Answered(replies, changed))
}

// By value because it is handed to `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn failure(error: impl std::fmt::Display) -> LedgerFailure {
    LedgerFailure(error.to_string())
}
