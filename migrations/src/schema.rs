//! The schema versions that this build knows: one ladder a database.

use crate::namenode_2;
use crate::{Ladder, Step};

/// Schema version that this build writes to the namenode's database.
pub const NAMENODE_SCHEMA: u32 = 2;

/// Schema version that this build writes to the datanode's index.
pub const DATANODE_SCHEMA: u32 = 1;

/// From every older namenode schema to [`NAMENODE_SCHEMA`], inside one write transaction: all of it or nothing.
pub const NAMENODE: Ladder<redb::WriteTransaction> = Ladder::new(
    "namenode",
    NAMENODE_SCHEMA,
    &[Step {
        to: 2,
        summary: "tombstones remember when in the life of the database they were made",
        apply: namenode_2::apply,
    }],
);

/// From every older index schema to [`DATANODE_SCHEMA`]. The index is a cache, so a climb that breaks off needs no undo:
/// without its clean mark the index is rebuilt.
pub const DATANODE: Ladder<sled::Db> = Ladder::new("datanode", DATANODE_SCHEMA, &[]);

/// How a database's schema relates to the one that this build writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    Current,
    /// Older by so many steps.
    Older(u32),
}

/// A schema that this build cannot work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Written by a newer build.
    #[error(
        "the database has schema version {found}, this build knows versions up to {known}: use a newer build"
    )]
    Newer {
        /// The version of the database.
        found: u32,
        /// The newest version of this build.
        known: u32,
    },
    /// No build ever wrote this version.
    #[error("schema version {0} does not exist")]
    Unknown(u32),
}

/// Compares the version that was found in a database with the newest that is known.
///
/// # Errors
/// [`SchemaError::Newer`] names both; 0 was never written and is [`SchemaError::Unknown`].
pub const fn check_schema(found: u32, known: u32) -> Result<SchemaState, SchemaError> {
    if found == 0 {
        Err(SchemaError::Unknown(found))
    } else if found > known {
        Err(SchemaError::Newer { found, known })
    } else if found == known {
        Ok(SchemaState::Current)
    } else {
        Ok(SchemaState::Older(known - found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_refused_with_both_versions_named() {
        let error = check_schema(9, 4).unwrap_err();
        assert_eq!(error, SchemaError::Newer { found: 9, known: 4 });
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(error.to_string().contains("up to 4"), "{error}");
    }

    #[test]
    fn older_says_by_how_many_steps() {
        assert_eq!(check_schema(4, 4), Ok(SchemaState::Current));
        assert_eq!(check_schema(1, 4), Ok(SchemaState::Older(3)));
        assert_eq!(check_schema(0, 4), Err(SchemaError::Unknown(0)));
    }

    #[test]
    fn both_ladders_end_at_the_version_that_is_written() {
        assert_eq!(NAMENODE.known(), NAMENODE_SCHEMA);
        assert_eq!(DATANODE.known(), DATANODE_SCHEMA);
    }
}
