//! `completions`: a script that completes this command line in a shell.

use std::io;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;

/// Which shell.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: &CompletionsArguments) -> Result<()> {
    // Made in memory first, since clap_complete panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "richardstore",
        &mut script,
    );
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(())
}
