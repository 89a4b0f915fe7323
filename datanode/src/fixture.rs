//! [`start`]: the parts of a datanode on a real directory, without its calls and its loops.

use std::path::Path;
use std::sync::Arc;

use richardstore_runtime::{Environment, ManualClock, Offload};
use tokio_util::sync::CancellationToken;

use crate::config::DatanodeConfig;
use crate::identity::Identity;
use crate::membership::Membership;
use crate::memory::Memory;
use crate::node::Node;
use crate::volume::Volume;

/// As after the start of a process.
pub(crate) fn start(directory: &Path, clock: &Arc<ManualClock>) -> Arc<Node> {
    let config = DatanodeConfig {
        headroom_bytes: 0,
        ..DatanodeConfig::new(directory, "127.0.0.1:0", "127.0.0.1:1")
    };
    let environment = Environment {
        clock: clock.clone(),
        offload: Offload::Inline,
        ..Environment::system()
    };
    let volume = Volume::open(&config, environment.entropy.clone()).unwrap();
    volume.rebuild(&CancellationToken::new()).unwrap();
    let identity = Identity::begin_session(directory, environment.entropy.as_ref()).unwrap();
    let membership = Membership::new(directory.to_owned(), identity);
    let memory = Memory::open(directory).unwrap();
    let address = "127.0.0.1:1".to_owned();
    Arc::new(Node::new(
        config,
        environment,
        address,
        Arc::new(volume),
        membership,
        Arc::new(memory),
    ))
}
