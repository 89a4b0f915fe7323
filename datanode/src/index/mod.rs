//! The index of one datanode: what the directory holds, and a journal of every change to it, in sled.
//!
//! The directory is the truth and this is a cache of it (I9). An index that was not closed cleanly, that will not open, or
//! that shows damage is thrown away, and a new one is filled by walking the directory. Nothing here is worth repairing.

mod clean_mark;
mod database;
mod error;
mod isolation;
mod life;
mod open;
mod record;
mod totals;

pub use error::IndexError;
pub use life::Index;
pub use open::{IndexOptions, OpenedIndex, RebuildReason};
pub use record::IndexEntry;

#[cfg(test)]
mod tests;
