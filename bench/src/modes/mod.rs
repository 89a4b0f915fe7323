//! The modes of a run: what is measured, one file each.

mod files;
mod killed;
mod known;
mod namenode;
mod repair;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::connection::Addresses;
use crate::limits::Limits;
use crate::load::Pace;
use crate::row::Row;
use crate::sheet::Sheet;
use crate::test_store::TestStore;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The bare machine.
    Limits,
    /// Uploads.
    Put,
    /// Downloads.
    Get,
    /// Seven downloads, two uploads and a delete of ten.
    Mixed,
    /// Deletes.
    Delete,
    /// Offers of a file that is there.
    Known,
    /// A namenode alone: allocate, commit, look up, and opening.
    Namenode,
    /// Block reports, full and incremental.
    Report,
    /// Making the replicas of a lost datanode again.
    Repair,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Limits,
        Self::Put,
        Self::Get,
        Self::Mixed,
        Self::Delete,
        Self::Known,
        Self::Namenode,
        Self::Report,
        Self::Repair,
    ];
}

/// What to measure, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In this order.
    pub modes: Vec<Mode>,
    /// Bytes of a file.
    pub sizes: Vec<usize>,
    /// Callers at once.
    pub callers: Vec<usize>,
    /// Of each figure.
    pub duration: Duration,
    /// When operations begin.
    pub pace: Pace,
    /// By the native client in place of HTTP.
    pub native: bool,
    /// Each figure is the median of so many.
    pub repeat: usize,
    /// Files that the namenode alone is measured with.
    pub namenode_files: Vec<u64>,
    /// Files that are stored before they are read or deleted; fewer where they are large.
    pub prepared_files: usize,
    /// Files of each size that a datanode is lost with.
    pub repair_files: u64,
    /// Where stores are made.
    pub place: PathBuf,
    /// `host:port` of gateway and namenode of a store that runs already, where one is to be measured.
    pub running: Option<(String, String)>,
}

/// Carries out a plan. `tell` hears of each row as it is measured.
///
/// # Errors
/// The store did not start, or a load ended badly. Operations that failed are counted in the rows.
pub async fn run(plan: &Plan, mut tell: impl FnMut(&Row)) -> Result<Sheet> {
    let mut sheet = Sheet::new();
    // Measured also where it was not asked for: a figure without its limit says little.
    let (limits, rows) = Limits::measure(&plan.place, plan.duration).await?;
    rows.iter().for_each(&mut tell);
    sheet.rows.extend(rows);
    for mode in &plan.modes {
        let rows = match mode {
            Mode::Limits => Vec::new(),
            Mode::Put => files::put(plan, &limits).await?,
            Mode::Get => files::get(plan, &limits).await?,
            Mode::Mixed => files::mixed(plan, &limits).await?,
            Mode::Delete => files::delete(plan, &limits).await?,
            Mode::Known => known::run(plan).await?,
            Mode::Namenode => namenode::run(plan, &limits).await?,
            Mode::Report => report::run(plan).await?,
            Mode::Repair => repair::run(plan, &limits).await?,
        };
        rows.iter().for_each(&mut tell);
        sheet.rows.extend(rows);
    }
    Ok(sheet)
}

impl Plan {
    async fn store(&self) -> Result<TestStore> {
        match &self.running {
            Some((gateway, namenode)) => Ok(TestStore::running(Addresses {
                gateway: gateway.clone(),
                namenode: namenode.clone(),
            })),
            None => TestStore::start(&crate::test_store::this_binary()?, &self.place).await,
        }
    }

    fn way(&self) -> &'static str {
        if self.native { "native" } else { "http" }
    }
}

/// `4 KiB`, `1 MiB`: sizes as they appear in names.
fn size_name(bytes: usize) -> String {
    match bytes {
        mib if mib >= 1 << 20 && mib % (1 << 20) == 0 => format!("{} MiB", mib >> 20),
        kib if kib >= 1 << 10 && kib % (1 << 10) == 0 => format!("{} KiB", kib >> 10),
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_in_their_largest_whole_unit() {
        assert_eq!(size_name(4096), "4 KiB");
        assert_eq!(size_name(64 << 20), "64 MiB");
        assert_eq!(size_name(1000), "1000 B");
    }
}
