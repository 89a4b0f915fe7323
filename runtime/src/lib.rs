//! The seams between richardstore's roles and the machine: the clock, blocking work, ids, sockets and shutdown.
//!
//! A role gets all of these handed in. In production they are the system's own; a simulation puts its clock, its network
//! and inline execution in their place, and the roles cannot tell.

mod channel;
mod clock;
mod connections;
mod cuttable;
mod entropy;
mod environment;
pub mod in_place;
mod joint_calls;
mod keyed_calls;
pub mod metrics;
mod network;
mod offload;
mod patience;
mod server;
mod tasks;

pub use channel::Channel;
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use entropy::{Entropy, SharedEntropy, SystemEntropy};
pub use environment::Environment;
pub use joint_calls::JointCalls;
pub use keyed_calls::KeyedCalls;
pub use network::{ByteStream, Channels, Dial, Incoming, Listen, tcp_dial, tcp_listen};
pub use offload::{Offload, OffloadError};
pub use patience::{answer_limit, own_limit, progress_limit};
pub use server::{BoundServer, ServeError, bind, grpc_server, serve_grpc};
pub use tasks::Tasks;
