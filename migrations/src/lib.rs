//! What both databases have in common: how a value is framed on disk, and how one schema version becomes the next.
//!
//! Nothing here knows what is stored. A step of a ladder brings the old format it reads with it, frozen, so that later
//! changes to the live records cannot change what an old database meant.

pub mod frame;
mod ladder;
mod namenode_2;
mod schema;

pub use frame::FrameError;
pub use ladder::{ClimbError, Ladder, Step, StepError};
pub use schema::{
    DATANODE, DATANODE_SCHEMA, NAMENODE, NAMENODE_SCHEMA, SchemaError, SchemaState, check_schema,
};
