//! The namenode over real gRPC on loopback, with datanodes that are played by the tests.

mod commands;
mod fixture;
mod operators;
mod registration;
mod reports;
mod writes;
