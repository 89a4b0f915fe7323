//! Reports: what changed here, exactly once and in order, and now and then a comparison of everything.

mod full;
mod incremental;
mod reporter;

pub(crate) use reporter::report;
