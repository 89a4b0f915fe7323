//! [`Substrate`]: what a cluster runs on, and the bad things that can be done to its nodes there.

mod docker;
mod kubernetes;
mod local;
mod node;
mod program;
mod remote_hand;

pub use docker::Docker;
pub use kubernetes::Kubernetes;
pub use local::{Local, LocalOptions};
pub use node::Node;

use anyhow::Result;

use crate::Content;
use crate::hand::ReplicaState;

/// A running cluster whose nodes can be stopped, cut off and damaged. One drill works on it at a time.
///
/// Every verb may be repeated, and undoing what was not done does nothing: after an interrupt nobody knows how far the verb
/// before it came.
#[allow(async_fn_in_trait)] // drills run on one task and need no `Send`
pub trait Substrate {
    /// The word on the command line.
    fn name(&self) -> &'static str;

    /// Its datanodes, in order; the last one is the one that drills take away.
    fn datanodes(&self) -> Vec<Node>;

    /// Its gateways.
    fn gateways(&self) -> Vec<Node>;

    /// `http://host:port` of every way in: of each gateway, or of what stands before them.
    fn urls(&self) -> Vec<String>;

    /// Stops a node the way an operator does and starts it again. Returns when its process runs, which may be before it serves.
    async fn restart(&mut self, node: Node) -> Result<()>;

    /// Ends a node without warning. It stays down.
    async fn kill(&mut self, node: Node) -> Result<()>;

    /// Starts a node that is down.
    async fn start(&mut self, node: Node) -> Result<()>;

    /// Nothing reaches the node any more, nor does anything that it sends arrive.
    async fn cut(&mut self, node: Node) -> Result<()>;

    /// Ends the cut.
    async fn reconnect(&mut self, node: Node) -> Result<()>;

    /// What a datanode that runs has on its disk of each of `canaries`.
    async fn look(&mut self, datanode: Node, canaries: &[Content]) -> Result<Vec<ReplicaState>>;

    /// Flips a bit of a datanode's replica of a canary.
    async fn damage(&mut self, datanode: Node, canary: Content) -> Result<()>;

    /// Removes what a datanode kept of damaged replicas of a canary.
    async fn discard(&mut self, datanode: Node, canary: Content) -> Result<()>;

    /// Empties the disk of a node that belongs to `cluster`. The node runs, and is down afterwards.
    async fn wipe(&mut self, node: Node, cluster: &str) -> Result<()>;

    /// Makes the metadata of a namenode that is down and has lost its disk from what the datanodes hold.
    async fn rebuild_namenode(&mut self) -> Result<()>;

    /// Why this datanode's disk cannot be filled up here; `None` where it can.
    async fn fill_obstacle(&mut self, datanode: Node) -> Option<String>;

    /// Leaves no room on a datanode's disk.
    async fn fill(&mut self, datanode: Node) -> Result<()>;

    /// Gives the room back.
    async fn free(&mut self, datanode: Node) -> Result<()>;
}
