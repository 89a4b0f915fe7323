//! The client against a cluster in this process whose nodes fail on demand.

// Everything here is a test, and a panic is how a test fails; clippy only sees that inside of #[test].
#![allow(clippy::unwrap_used)]

mod fake_cluster;
mod get;
mod put;
