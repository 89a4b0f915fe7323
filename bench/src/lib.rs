//! How fast the store is, and how far that is from what the machine allows, measured in the same run.
//!
//! A mode drives a store of its own, a process of the same binary with all syncs on, by the ways that users have: HTTP or
//! the native client. Nothing here reaches into it. What comes out is a [`Sheet`] of [`Row`]s.

mod connection;
mod fake_datanode;
mod limits;
mod load;
mod modes;
mod payload;
mod place;
mod process_meter;
mod row;
mod sheet;
mod test_store;

pub use limits::Limits;
pub use load::Pace;
pub use modes::{Mode, Plan, run};
pub use row::Row;
pub use sheet::Sheet;
