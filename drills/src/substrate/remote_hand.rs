//! [`RemoteHand`]: a [`Hand`](crate::Hand) that runs where a node's directory is, told by its command line.

use anyhow::{Context, Result, bail};

use super::Node;
use crate::Content;
use crate::hand::ReplicaState;

/// The binary in the image, the subcommand, and the volume.
pub const BINARY: &str = "/richardstore";
pub const COMMAND: &str = "drill-hand";
pub const DATA: &str = "/data";

/// Where the binary of a node can be run beside it. What a substrate does by it is the same on all of them.
pub trait RemoteHand {
    /// Runs the hand with `verb` and `more` in `node`, and returns what it printed.
    async fn hand(&mut self, node: Node, verb: &str, more: &[String]) -> Result<String>;

    async fn look_at(&mut self, node: Node, canaries: &[Content]) -> Result<Vec<ReplicaState>> {
        let words: Vec<_> = canaries.iter().copied().map(word_for).collect();
        let answer = self.hand(node, "look", &words).await?;
        states(&answer, canaries.len())
    }

    /// Does `verb` to a canary.
    async fn handle(&mut self, node: Node, verb: &str, canary: Content) -> Result<()> {
        self.hand(node, verb, &[word_for(canary)]).await?;
        Ok(())
    }

    /// The line in which the hand says why not; none where it can.
    async fn obstacle(&mut self, node: Node) -> Option<String> {
        match self.hand(node, "fill-obstacle", &[]).await {
            Ok(answer) if answer.trim().is_empty() => None,
            Ok(answer) => Some(answer.trim().to_owned()),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}

/// A canary as the hand is told of it.
fn word_for(canary: Content) -> String {
    format!("{}:{}", canary.seed, canary.size)
}

/// The arguments of the hand for `verb` with `more`.
pub fn arguments(verb: &str, more: &[String]) -> Vec<String> {
    let first = [BINARY, COMMAND, verb, DATA].map(ToOwned::to_owned);
    first.into_iter().chain(more.iter().cloned()).collect()
}

/// The arguments of the binary that make the metadata anew from the datanodes at `addresses`.
pub fn rebuild(addresses: &str) -> [&str; 6] {
    [
        "namenode",
        "rebuild",
        "--dir",
        DATA,
        "--from-datanodes",
        addresses,
    ]
}

/// One state a line, for each canary that was asked for.
///
/// # Errors
/// When it says something else.
fn states(answer: &str, asked: usize) -> Result<Vec<ReplicaState>> {
    let states: Option<Vec<_>> = answer.lines().map(ReplicaState::of_word).collect();
    let states = states.with_context(|| format!("no answer of a drill's hand: {answer:?}"))?;
    if states.len() != asked {
        bail!("{asked} canaries were asked for, {} answered", states.len());
    }
    Ok(states)
}
