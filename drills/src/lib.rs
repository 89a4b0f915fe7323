//! Real processes under real faults: what the black-box tests drive the store with.
//!
//! Nothing here knows the store's inside. It starts the binary, speaks HTTP to it, kills it, and looks at the directory
//! tree afterwards. [`run_drill`] does that to a whole cluster, on whatever it runs.

mod content;
mod drill;
mod hand;
mod http;
mod link;
mod loop_disk;
mod namespaces;
mod oracle;
mod outages;
mod process;
mod proxy;
mod random;
mod substrate;
mod tree;

pub use content::Content;
pub use drill::{Drill, DrillOptions, DrillReport, Narrator, Outcome, Table, run_drill};
pub use hand::{Hand, ReplicaState};
pub use http::{Http, Response};
pub use link::Link;
pub use loop_disk::LoopDisk;
pub use namespaces::{Cut, Namespaces};
pub use oracle::{Oracle, Standing, Tally};
pub use outages::Outages;
pub use process::{Process, ProcessSpec, peak_memory_bytes_of, wait_until};
pub use proxy::CountingProxy;
pub use random::Random;
pub use substrate::{Docker, Kubernetes, Local, LocalOptions, Node, Substrate};
pub use tree::{TreeFindings, inspect_tree};
