//! The command line of [`Hand`](crate::Hand), which runs where a node's directory is: what is said to it, and what it answers.

use anyhow::{Context, Result, bail};

use crate::Content;
use crate::hand::ReplicaState;

/// The binary in the image, the subcommand, and the volume.
pub const BINARY: &str = "/richardstore";
pub const COMMAND: &str = "drill-hand";
pub const DATA: &str = "/data";

/// A canary as the hand is told of it.
pub fn word_for(canary: Content) -> String {
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
pub fn states(answer: &str, asked: usize) -> Result<Vec<ReplicaState>> {
    let states: Option<Vec<_>> = answer.lines().map(ReplicaState::of_word).collect();
    let states = states.with_context(|| format!("no answer of a drill's hand: {answer:?}"))?;
    if states.len() != asked {
        bail!("{asked} canaries were asked for, {} answered", states.len());
    }
    Ok(states)
}

/// The line in which the hand says why not; none where it can.
pub fn obstacle(answer: Result<String>) -> Option<String> {
    match answer {
        Ok(answer) if answer.trim().is_empty() => None,
        Ok(answer) => Some(answer.trim().to_owned()),
        Err(error) => Some(format!("{error:#}")),
    }
}
