//! TCP connections: who is let in, how one is served, when one is closed.

mod activity;
mod admission;
mod connections;
mod guarded_stream;
mod serve;

pub(crate) use connections::Connections;
pub(crate) use serve::{ConnectionSettings, accept_connections};
