//! `drill-hand`: what a drill does inside a container, whose image has no other program. Not for people: see
//! [`Hand`] for why it cannot hurt what is not a drill's.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use richardstore_drills::{Content, Hand};

use crate::output::Output;

/// What to do, and where. All of it is positional: a setting in the environment must not choose a directory here.
#[derive(Debug, Args)]
pub struct DrillHandArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Says of each canary whether its replica is whole, damaged or absent
    Look {
        /// The data directory of a datanode
        dir: PathBuf,
        /// `SEED:BYTES`
        #[arg(value_parser = parse_canary)]
        canaries: Vec<Content>,
    },
    /// Flips a bit of the replica of a canary
    Damage {
        /// The data directory of a datanode
        dir: PathBuf,
        /// `SEED:BYTES`
        #[arg(value_parser = parse_canary)]
        canary: Content,
    },
    /// Removes what was put aside of a canary
    Discard {
        /// The data directory of a datanode
        dir: PathBuf,
        /// `SEED:BYTES`
        #[arg(value_parser = parse_canary)]
        canary: Content,
    },
    /// Empties the directory of a node of this cluster
    Wipe {
        /// The data directory of a node
        dir: PathBuf,
        /// The id of the cluster that it has joined
        cluster: String,
    },
    /// Says why the disk cannot be filled up, or nothing
    FillObstacle {
        /// The data directory of a datanode
        dir: PathBuf,
    },
    /// Takes up all room on the disk
    Fill {
        /// The data directory of a datanode
        dir: PathBuf,
    },
    /// Gives the room back
    Free {
        /// The data directory of a datanode
        dir: PathBuf,
    },
}

/// Does it.
pub fn run(arguments: DrillHandArguments, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Look { dir, canaries } => {
            let hand = Hand::new(dir);
            for canary in canaries {
                let state = hand.look(canary)?.word();
                output.line(&state, |state| state.to_string())?;
            }
            Ok(())
        }
        Verb::Damage { dir, canary } => Hand::new(dir).damage(canary),
        Verb::Discard { dir, canary } => Hand::new(dir).discard(canary),
        Verb::Wipe { dir, cluster } => Hand::new(dir).wipe(&cluster),
        Verb::FillObstacle { dir } => {
            if let Some(obstacle) = Hand::new(dir).fill_obstacle()? {
                output.line(&obstacle, |obstacle| obstacle.clone())?;
            }
            Ok(())
        }
        Verb::Fill { dir } => Hand::new(dir).fill(),
        Verb::Free { dir } => Hand::new(dir).free(),
    }
}

fn parse_canary(word: &str) -> Result<Content, String> {
    let parts = word.split_once(':');
    let content = parts.and_then(|(seed, size)| Some((seed.parse().ok()?, size.parse().ok()?)));
    let (seed, size) = content.ok_or("expected SEED:BYTES")?;
    match size {
        0..Content::LEAST_CANARY_BYTES => Err("too short for a canary".to_owned()),
        _ => Ok(Content::new(seed, size)),
    }
}
