//! [`Ladder`]: the steps that lead from an older schema of one database to the newest. A ladder with a gap does not
//! compile.

use crate::{SchemaError, SchemaState, check_schema};

/// What went wrong inside a step, in words.
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

/// One rung: rewrites a database of version `to - 1` as version `to`.
///
/// A step reads the old format through types of its own, frozen when the step is written, and is never edited after its
/// release.
pub struct Step<D> {
    /// The version after this step.
    pub to: u32,
    /// What changes, for the log.
    pub summary: &'static str,
    /// The work.
    pub apply: fn(&D) -> Result<(), StepError>,
}

/// All steps of one kind of database. Version 1 is the first and needs none.
pub struct Ladder<D: 'static> {
    database: &'static str,
    steps: &'static [Step<D>],
}

/// A climb that did not reach the top.
#[derive(Debug, thiserror::Error)]
pub enum ClimbError {
    /// There is no way from this version.
    #[error("{database} database: {source}")]
    Schema {
        /// Which ladder.
        database: &'static str,
        /// Why not.
        source: SchemaError,
    },
    /// A step failed.
    #[error("{database} database: the step to schema version {to} ({summary}) failed: {source}")]
    Step {
        /// Which ladder.
        database: &'static str,
        /// The version that was not reached.
        to: u32,
        /// What the step was to change.
        summary: &'static str,
        /// Why.
        source: StepError,
    },
}

impl<D> Ladder<D> {
    /// A ladder to version `known`. Panics, at compile time when it is a constant, unless the steps lead from 1 to
    /// `known` one by one.
    pub const fn new(database: &'static str, known: u32, steps: &'static [Step<D>]) -> Self {
        let mut version = 1;
        let mut at = 0;
        while at < steps.len() {
            version += 1;
            assert!(
                steps[at].to == version,
                "the steps of a ladder are consecutive"
            );
            at += 1;
        }
        assert!(
            version == known,
            "a ladder ends at the version that is written"
        );
        Self { database, steps }
    }

    /// The newest version: the one after the last step.
    pub const fn known(&self) -> u32 {
        match self.steps.last() {
            Some(step) => step.to,
            None => 1,
        }
    }

    /// The steps from version `found` to the newest, in order; none if it is the newest.
    ///
    /// # Errors
    /// [`ClimbError::Schema`] for a version that is newer than known, or that never was.
    pub fn steps_from(&self, found: u32) -> Result<&'static [Step<D>], ClimbError> {
        let left = match check_schema(found, self.known()) {
            Ok(SchemaState::Current) => 0,
            Ok(SchemaState::Older(steps)) => steps as usize,
            Err(source) => {
                return Err(ClimbError::Schema {
                    database: self.database,
                    source,
                });
            }
        };
        Ok(&self.steps[self.steps.len() - left..])
    }

    /// Takes every step from version `found` and returns the version reached. Storing that version, in the same
    /// transaction where there is one, is the caller's.
    ///
    /// # Errors
    /// As [`Ladder::steps_from`], or the first step that failed; the steps after it were not tried.
    pub fn climb(&self, database: &D, found: u32) -> Result<u32, ClimbError> {
        for step in self.steps_from(found)? {
            (step.apply)(database).map_err(|source| ClimbError::Step {
                database: self.database,
                to: step.to,
                summary: step.summary,
                source,
            })?;
        }
        Ok(self.known())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    type Log = RefCell<Vec<u32>>;

    const LADDER: Ladder<Log> = Ladder::new(
        "test",
        4,
        &[
            Step {
                to: 2,
                summary: "two",
                apply: |log| note(log, 2),
            },
            Step {
                to: 3,
                summary: "three",
                apply: |log| note(log, 3),
            },
            Step {
                to: 4,
                summary: "four",
                apply: |log| note(log, 4),
            },
        ],
    );

    fn note(log: &Log, version: u32) -> Result<(), StepError> {
        if log.borrow().contains(&99) && version == 3 {
            return Err("no room".into());
        }
        log.borrow_mut().push(version);
        Ok(())
    }

    #[test]
    fn only_the_missing_steps_are_taken_and_in_order() {
        for (found, taken) in [(1, vec![2, 3, 4]), (3, vec![4]), (4, vec![])] {
            let log = Log::default();
            assert_eq!(LADDER.climb(&log, found).unwrap(), 4);
            assert_eq!(log.into_inner(), taken);
        }
    }

    #[test]
    fn a_step_that_fails_ends_the_climb_and_is_named() {
        let log = Log::new(vec![99]);
        let error = LADDER.climb(&log, 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "test database: the step to schema version 3 (three) failed: no room"
        );
        assert_eq!(log.into_inner(), [99, 2]);
    }

    #[test]
    fn a_newer_database_is_not_touched() {
        let log = Log::default();
        let error = LADDER.climb(&log, 5).unwrap_err().to_string();
        assert!(
            error.contains("version 5") && error.contains("up to 4"),
            "{error}"
        );
        assert!(log.into_inner().is_empty());
    }
}
