//! `admin`: what an operator does to a running cluster.

mod backup;
mod decommission;
mod dump;
mod dump_file;
mod fsck;
mod load;
mod maintenance;
mod migrate;
mod remove;
mod repair;
mod report;
mod safemode;
mod scrub;
mod why;

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::output::Output;

/// What to do.
#[derive(Debug, Args)]
pub struct AdminArguments {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Take a copy of the metadata now
    Backup(backup::BackupArguments),
    /// Move all files off a datanode, so that it can be taken away
    Decommission(decommission::DecommissionArguments),
    /// Print metadata as JSON lines, from a running namenode or from the file of one that is down
    Dump(dump::DumpArguments),
    /// Make the metadata of a namenode from a dump of everything
    Load(load::LoadArguments),
    /// The same from a copy of the metadata
    Restore(load::LoadArguments),
    /// Expect a datanode to be away for a time: its files are not copied meanwhile
    Maintenance(maintenance::MaintenanceArguments),
    /// Forget a datanode that is dead, or was decommissioned and stopped
    Remove(remove::RemoveArguments),
    /// Show the cluster at a glance
    Report(report::ReportArguments),
    /// Look at every file; exit code 6 where one is not as it should be
    Fsck(fsck::FsckArguments),
    /// Show or change the schema of a stopped namenode's database
    Migrate(migrate::MigrateArguments),
    /// Have repair look at everything now
    Repair(repair::RepairArguments),
    /// Have datanodes read all their replicas again
    Scrub(scrub::ScrubArguments),
    /// Say how a file is doing, and why
    Why(why::WhyArguments),
    /// Show, enter or leave safe mode, in which nothing is copied or deleted
    Safemode(safemode::SafemodeArguments),
}

/// Does it.
pub async fn run(arguments: AdminArguments, output: Output, stop: CancellationToken) -> Result<()> {
    match arguments.command {
        AdminCommand::Backup(arguments) => backup::run(arguments, output, stop).await,
        AdminCommand::Decommission(arguments) => decommission::run(arguments, output, stop).await,
        AdminCommand::Dump(arguments) => dump::run(arguments, stop).await,
        AdminCommand::Load(arguments) | AdminCommand::Restore(arguments) => {
            load::run(arguments, output).await
        }
        AdminCommand::Maintenance(arguments) => maintenance::run(arguments, output, stop).await,
        AdminCommand::Remove(arguments) => remove::run(arguments, output, stop).await,
        AdminCommand::Report(arguments) => report::run(arguments, output, stop).await,
        AdminCommand::Fsck(arguments) => fsck::run(arguments, output, stop).await,
        AdminCommand::Migrate(arguments) => migrate::run(&arguments, output),
        AdminCommand::Repair(arguments) => repair::run(arguments, output, stop).await,
        AdminCommand::Scrub(arguments) => scrub::run(arguments, output, stop).await,
        AdminCommand::Why(arguments) => why::run(arguments, output, stop).await,
        AdminCommand::Safemode(arguments) => safemode::run(arguments, output, stop).await,
    }
}
