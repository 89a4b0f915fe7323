//! The one binary of richardstore: every role, and a client.

mod arguments;
mod commands;
mod exit;
mod file_limit;
mod file_walk;
mod logging;
mod output;
mod progress;
mod role;
mod session;
mod signals;
mod store_shelf;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::exit::{Exit, SomeFailed};
use crate::output::Output;

/// Blocking work that is still running at the end gets this long; it holds nothing that the next start does not sweep.
const ABANDON_AFTER: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let error = match run(arguments, output) {
        Ok(()) => return ExitCode::from(Exit::Success.code()),
        Err(error) => error,
    };
    let exit = Exit::of(&error);
    let reported = error
        .downcast_ref::<SomeFailed>()
        .is_some_and(|some| !some.is_summary());
    if exit != Exit::Success && !reported {
        output.error(&format!("{error:#}"), exit.code());
    }
    ExitCode::from(exit.code())
}

fn run(arguments: Arguments, output: Output) -> Result<()> {
    let filter = arguments.log.as_deref();
    let filter = filter.unwrap_or_else(|| arguments.command.default_log());
    logging::start(arguments.log_format, filter)?;
    file_limit::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(Box::pin(dispatch(arguments.command, output)));
    runtime.shutdown_timeout(ABANDON_AFTER);
    result
}

async fn dispatch(command: Command, output: Output) -> Result<()> {
    let stop = signals::stop_on_signals()?;
    match command {
        Command::Dev(arguments) => commands::dev::run(arguments, output, stop).await,
        Command::Namenode(arguments) => commands::namenode::run(arguments, output, stop).await,
        Command::Datanode(arguments) => commands::datanode::run(arguments, output, stop).await,
        Command::Gateway(arguments) => commands::gateway::run(arguments, output, stop).await,
        Command::Put(arguments) => commands::put::run(arguments, output, stop).await,
        Command::Get(arguments) => commands::get::run(arguments, output, stop).await,
        Command::Rm(arguments) => commands::rm::run(arguments, output, stop).await,
        Command::Ls(arguments) => commands::ls::run(arguments, output, stop).await,
        Command::Stat(arguments) => commands::stat::run(arguments, output, stop).await,
        Command::Admin(arguments) => commands::admin::run(arguments, output, stop).await,
        Command::Bench(arguments) => commands::bench::run(arguments, output, stop).await,
        Command::Drill(arguments) => commands::drill::run(arguments, output, stop).await,
        Command::DrillHand(arguments) => commands::drill_hand::run(arguments, output),
        Command::Health(arguments) => commands::health::run(arguments, output, stop).await,
        Command::Completions(arguments) => commands::completions::run(&arguments),
    }
}
