//! The calls that carry the bytes of files, without copying them: [`write_file`] and [`read_file`] for who calls,
//! [`ServedInPlace`] for who answers.
//!
//! On the wire they are ordinary gRPC, and either side may be anybody else. tonic's codec copies each message twice a hop: into
//! the buffer that is sent, and out of the frames that arrive. Here a chunk is sent from where it is, and is a slice of the
//! frame that it came in.

mod calls;
mod incoming;
mod outgoing;
mod segments;
mod serve;

pub use calls::{read_file, write_file};
pub use serve::ServedInPlace;

/// Before each message: whether it is compressed, which none is here, and its length.
const HEADER_BYTES: usize = 5;

/// Who sends: a server ends with trailers that say how it went, a client has none and breaks off where it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}
