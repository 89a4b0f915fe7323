//! Commands of the namenode: delivered until confirmed, done once at a time, and harmless when done again (I10).

mod execute;
mod lanes;
mod ledger;

pub(crate) use execute::Commands;
