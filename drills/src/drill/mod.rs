//! [`Drill`]: a fault on purpose, with a load going on, and the account of what it cost.
//!
//! Whatever happens in between, a drill ends with everything undone that it did, and its canaries gone.

mod canaries;
mod datanode;
mod namenode;
mod network;
mod probes;
mod report;
mod run;
mod scene;
mod view;

use std::time::Duration;

pub use report::{DrillReport, Outcome, Table};
pub use run::{DrillOptions, run_drill};
pub use scene::Narrator;

use anyhow::Result;
use scene::Scene;

use crate::Substrate;

/// The drills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drill {
    /// The namenode is restarted as for an upgrade.
    NamenodeRestart,
    /// The namenode is killed three times while files are uploaded and deleted.
    NamenodeKillUnderLoad,
    /// The disk of the namenode is empty, and its metadata made anew from the datanodes.
    NamenodeLost,
    /// A datanode is killed and given up.
    DatanodeLoss,
    /// A datanode comes back after files were deleted and repaired without it.
    DatanodeReturn,
    /// A datanode loses all its replicas.
    DiskWipe,
    /// Bits of replicas flip.
    BitRot,
    /// A datanode is cut off from the network until it is given up.
    Partition,
    /// The disk of a datanode is full.
    FullDisk,
    /// Every process is restarted, one after the other.
    RollingRestart,
}

/// How the fault of a drill ended, where nothing failed.
#[derive(Debug)]
enum Ending {
    /// It took so long from the fault until everything was well.
    Recovered(Duration),
    /// It cannot be made here.
    Skipped(String),
}

impl Drill {
    /// All of them, in the order in which `all` holds them.
    pub const ALL: [Self; 10] = [
        Self::NamenodeRestart,
        Self::NamenodeKillUnderLoad,
        Self::NamenodeLost,
        Self::DatanodeLoss,
        Self::DatanodeReturn,
        Self::DiskWipe,
        Self::BitRot,
        Self::Partition,
        Self::FullDisk,
        Self::RollingRestart,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::NamenodeRestart => "namenode-restart",
            Self::NamenodeKillUnderLoad => "namenode-kill-under-load",
            Self::NamenodeLost => "namenode-lost",
            Self::DatanodeLoss => "datanode-loss",
            Self::DatanodeReturn => "datanode-return",
            Self::DiskWipe => "disk-wipe",
            Self::BitRot => "bit-rot",
            Self::Partition => "partition",
            Self::FullDisk => "full-disk",
            Self::RollingRestart => "rolling-restart",
        }
    }

    /// The drill of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drill| drill.name() == name)
    }

    async fn play<S: Substrate>(self, scene: &mut Scene<'_, S>) -> Result<Ending> {
        match self {
            Self::NamenodeRestart => namenode::restart(scene).await,
            Self::NamenodeKillUnderLoad => namenode::kill_under_load(scene).await,
            Self::NamenodeLost => namenode::lost(scene).await,
            Self::DatanodeLoss => datanode::loss(scene).await,
            Self::DatanodeReturn => datanode::come_back(scene).await,
            Self::DiskWipe => datanode::disk_wipe(scene).await,
            Self::BitRot => datanode::bit_rot(scene).await,
            Self::FullDisk => datanode::full_disk(scene).await,
            Self::Partition => network::partition(scene).await,
            Self::RollingRestart => namenode::rolling_restart(scene).await,
        }
    }
}
