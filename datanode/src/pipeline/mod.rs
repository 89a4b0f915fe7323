//! Pipeline writes: bytes come in, are kept, and go on to the next node as they arrive.

mod header;
mod incoming;
mod receive;
mod sender;
mod small_copies;
mod small_files;
mod stage;
mod whole;

pub(crate) use header::WriteHeader;
pub(crate) use receive::receive;
pub(crate) use sender::PipelineSender;
pub(crate) use small_copies::{SmallCopies, SmallCopy};
pub(crate) use small_files::SmallFiles;
pub(crate) use stage::offload_failed;
pub(crate) use whole::receive_whole;
