//! The durable metadata: one redb database, one writer, snapshots for readers.
//!
//! - [`Metadata`] is the handle: mutations go in by `submit`, views come out.
//! - `apply` and the files named after nouns (`files`, `writes`, `nodes`, `removal`, `reports`, `commands`, `tombstones`) decide, on a
//!   `batch` of open `tables` inside one write transaction. `codec` is how records lie on disk.
//! - `derived` keeps reverse index, digests and counters in step with the files.
//! - `dump_all` writes everything as lines, `dump_reader` reads and `load` loads them; `recovery` is what comes back after that,
//!   `rebuild` does it without a running namenode.
//! - `offline` reads the file of a namenode that is down.
//! - `ledger` runs batches durably, while the disk has `room`; `open` finds or makes the `database`; `view`, `repair_view`, `admin_view` and `dump` read snapshots.

mod admin_view;
mod apply;
mod batch;
mod codec;
mod commands;
mod commits;
mod counters;
mod database;
mod derived;
mod dump;
mod dump_all;
mod dump_lines;
mod dump_reader;
mod files;
mod handle;
mod ledger;
mod load;
mod new_database;
mod nodes;
mod offline;
mod open;
mod rebuild;
mod recovery;
mod removal;
mod repair_view;
mod reports;
mod room;
mod tables;
mod tombstones;
mod turns;
mod upgrade;
mod view;
mod writes;

#[cfg(test)]
mod audit;
#[cfg(test)]
mod crash_disk;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod model;
#[cfg(test)]
mod power_loss;

pub use codec::{decode_file, encode_file};
pub use counters::Counts;
pub use dump::{Table, UnknownTable};
pub use dump_all::DumpOf;
pub use dump_reader::{DumpError, DumpSummary, read_summary, verify_dump};
pub use handle::{Metadata, MetadataOptions};
pub use load::{LoadError, load};
pub use offline::open_offline;
pub use open::{COPIES, OpenError};
pub use rebuild::{HeldReplica, Rebuild, Seen};
pub use repair_view::{RepairUnderWay, WalkedFiles};
pub use room::{Room, Tight};
pub use tables::ViewError;
pub use upgrade::{KeptCopy, Upgrade, UpgradeError, UpgradeStatus};
pub use view::View;
