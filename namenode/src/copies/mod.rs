//! Copies of the metadata: taken regularly from a snapshot, verified, kept in the namenode's directory and in the store
//! itself, so that the loss of the namenode's disk is not the loss of what it knew (I8).
//!
//! `copy` is one of them as a file, `keeper` takes and drops them, `shelf` is where the store comes in.

mod copy;
mod keeper;
mod shelf;

pub use copy::CopyError;
pub use keeper::{Copies, run_copies, take_copy};
pub use shelf::CopyShelf;
