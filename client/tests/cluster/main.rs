//! The client against a cluster in this process whose nodes fail on demand.

mod fake_cluster;
mod get;
mod put;
