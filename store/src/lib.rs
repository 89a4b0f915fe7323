//! The content-addressed directory of one disk: layout, durable publish, verified reads, space accounting. It knows no
//! network and no other disk.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let root = directory.path().join("replicas");
//! use richardstore_proto::Generation;
//! use richardstore_store::{Store, StoreOptions};
//!
//! let store = Store::open(&root, &StoreOptions::default())?;
//! let replica = store.put(&b"hello"[..], Generation(1))?;
//! assert!(replica.hash.to_hex().starts_with("2cf24dba5fb0a30e26e83b2ac5b9e29e"));
//! # Ok(())
//! # }
//! ```
//!
//! In a root: hash directories, whose files hold raw bytes and are named by their SHA-256; `format.json` and `LOCK`;
//! `temp`, swept at every start; `trees`, which can be lost at any time; `quarantine`, damaged replicas that only the operator
//! removes.

mod batch;
mod direct;
mod disk;
#[cfg(test)]
mod durability_tests;
mod error;
#[cfg(explored)]
mod explored;
mod format;
mod hasher;
mod layout;
mod locks;
mod prepared;
mod publish;
mod quarantine;
mod reader;
mod record;
#[cfg(test)]
mod recording_disk;
mod replica;
mod sidecar;
mod space;
mod store;
mod suspects;
mod sync;
mod temp;
mod tree;
mod verify;
mod volume;
mod walk;
mod writer;

pub use error::{OpenError, ReadError, WriteError};
#[cfg(explored)]
pub use explored::open_explored;
pub use hasher::{ContentDigest, ContentHasher};
pub use layout::{Depth, Layout, LayoutError};
pub use prepared::{PreparedReplica, Publication};
pub use quarantine::QuarantineOutcome;
pub use reader::VerifiedReader;
pub use replica::ReplicaMeta;
pub use space::Space;
pub use store::{DeleteOutcome, Store, StoreOptions};
pub use verify::{Verification, Verifier, VerifyStep};
pub use walk::WalkSummary;
pub use writer::ReplicaWriter;
