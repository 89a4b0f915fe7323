//! Real processes under real faults: what the black-box tests drive the store with.
//!
//! Nothing here knows the store's inside. It starts the binary, speaks HTTP to it, kills it, and looks at the directory
//! tree afterwards.

mod content;
mod http;
mod loop_disk;
mod oracle;
mod process;
mod proxy;
mod random;
mod tree;

pub use content::Content;
pub use http::{Http, Response};
pub use loop_disk::LoopDisk;
pub use oracle::{Oracle, Tally};
pub use process::{Process, ProcessSpec, wait_until};
pub use proxy::CountingProxy;
pub use random::Random;
pub use tree::{TreeFindings, inspect_tree};
