//! [`raise`]: as many open files as the machine allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections and replicas being read need more than the 1024 that a process is usually given. Without permission it stays
/// as it is: a role that runs out waits and goes on.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
