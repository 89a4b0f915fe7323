//! The namenode over real gRPC on loopback, with datanodes that are played by the tests.

// A call that fails where a test needs it is the test's failure, also in the helpers.
#![allow(clippy::unwrap_used)]

mod commands;
mod copies;
mod decommission;
mod events;
mod fixture;
mod locations;
mod operators;
mod registration;
mod removal;
mod repair;
mod reports;
mod writes;
