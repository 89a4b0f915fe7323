//! Vocabulary and wire format of richardstore. No I/O.
//!
//! Everything that crosses a process boundary is described here once: the generated messages in [`wire`], and the domain
//! types that the rest of the workspace uses. Wire messages are untrusted; they become domain types by `TryFrom`, and
//! that is where bad input stops.

mod digest;
mod error;
mod event;
mod file;
mod hash;
mod hold;
mod ids;
mod node;
mod report;
mod whole;
mod whole_read;
pub mod wire;
mod write;

pub use digest::{RANGES, RangeDigest, RangeDigests, hash_range, range_bounds};
pub use error::{ErrorCode, StoreError};
pub use event::{Event, EventKind, EventNode};
pub use file::{FileInfo, FileLocations, MAX_REPLICATION};
pub use hash::{Blake3Root, ContentHash, ParseHashError};
pub use hold::{Forget, Held, Hold, LocatedFile, MAX_FORGOTTEN};
pub use ids::{
    ClusterId, CommandId, Generation, HolderId, JournalId, NamenodeEpoch, NodeId, ParseIdError,
    Sequence, SessionEpoch,
};
pub use node::{DataNodeInfo, NodeState, NodeStats};
pub use report::{
    Command, CommandAction, CommandOutcome, JournalEvent, MetadataCopy, RememberedDelete,
    ReplicaEntry,
};
pub use whole::{MAX_WHOLE_BYTES, MAX_WHOLE_FILES, WholeFile, WholeFiles, WholeResults};
pub use whole_read::{
    MAX_WANTED_BYTES, MAX_WANTED_FILES, WantedFile, WantedFiles, WholeRead, WholeReads,
};
pub use wire::WireError;
pub use write::{Allocation, NodeFailure, PipelineResult, WriteTrailer};
