//! Datanodes over real sockets, with a namenode that only listens.

// Everything here is a test, and a panic is how a test fails; clippy only sees that inside of #[test].
#![allow(clippy::unwrap_used)]

mod common;
mod damage;
mod fuzz;
mod inventory;
mod pipeline;
mod reports;
mod session;
mod small_copies;
mod whole_files;
