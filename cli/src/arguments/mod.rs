//! The command line.

mod address;
mod byte_count;
mod metrics;
mod tuning;

use clap::{Parser, Subcommand};

pub use self::address::{GATEWAY_PORT, Listen, NAMENODE_PORT, NamenodeAddress, with_port};
pub use self::byte_count::parse_byte_count;
pub use self::metrics::MetricsListen;
pub use self::tuning::{DatanodeTuning, GatewayTuning, NamenodeTuning};
use crate::commands::{
    admin, bench, completions, datanode, dev, drill, drill_hand, gateway, get, health, ls,
    namenode, put, rm, stat,
};
use crate::exit::EXIT_CODES;
use crate::logging::LogFormat;

/// A content-addressed, replicated file store.
#[derive(Debug, Parser)]
#[command(name = "richardstore", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Print JSON, one value a line
    #[arg(long, env = "RICHARDSTORE_JSON", global = true)]
    pub json: bool,
    /// The form of log lines, which go to standard error
    #[arg(
        long,
        env = "RICHARDSTORE_LOG_FORMAT",
        global = true,
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// What to log, such as `debug` or `warn,richardstore_namenode=debug` [default: info for roles, otherwise error]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole store in this process: a namenode, datanodes and a gateway
    Dev(dev::DevArguments),
    /// Run a namenode
    Namenode(namenode::NamenodeArguments),
    /// Run a datanode
    Datanode(datanode::DatanodeArguments),
    /// Run a gateway
    Gateway(gateway::GatewayArguments),
    /// Store files, and print their hashes
    Put(put::PutArguments),
    /// Fetch a file by its hash
    Get(get::GetArguments),
    /// Delete files
    Rm(rm::RmArguments),
    /// List files in the order of their hashes
    Ls(ls::LsArguments),
    /// Show a file and where its replicas are
    Stat(stat::StatArguments),
    /// Change a running cluster: decommission a datanode, leave safe mode
    Admin(admin::AdminArguments),
    /// Measure how fast the store is, beside what the machine allows
    Bench(bench::BenchArguments),
    /// Hold a fault drill and show what it cost
    Drill(drill::DrillArguments),
    /// The part of a drill that works inside a container
    #[command(hide = true)]
    DrillHand(drill_hand::DrillHandArguments),
    /// Ask a role whether it serves
    Health(health::HealthArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
}

impl Command {
    /// What is logged where nobody says otherwise.
    pub fn default_log(&self) -> &'static str {
        match self {
            Self::Dev(_) | Self::Namenode(_) | Self::Datanode(_) | Self::Gateway(_) => {
                "info,h2=warn,hyper=warn,sled=warn,tower=warn"
            }
            Self::Put(_)
            | Self::Get(_)
            | Self::Rm(_)
            | Self::Ls(_)
            | Self::Stat(_)
            | Self::Admin(_)
            | Self::Bench(_)
            | Self::Drill(_)
            | Self::DrillHand(_)
            | Self::Health(_)
            | Self::Completions(_) => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            for flag in command.get_arguments() {
                assert!(
                    flag.is_positional() || flag.get_env().is_some(),
                    "{} --{}",
                    command.get_name(),
                    flag.get_id()
                );
            }
        }
    }
}
