//! The gateway over real sockets, in front of a cluster in this process.

// Everything here is a test, and a panic is how a test fails; clippy only sees that inside of #[test].
#![allow(clippy::unwrap_used)]

mod admin_answers;
mod cluster;
mod console;
mod downloads;
mod events;
mod files;
mod fuzz;
mod hostile;
mod http;
mod service;
mod uploads;
