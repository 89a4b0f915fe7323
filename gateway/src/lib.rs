//! The REST gateway of richardstore, and its web console.
//!
//! [`Gateway`] serves HTTP/1.1 in front of a [`Client`](richardstore_client::Client). It holds no state of the store:
//! start as many as wanted. Bodies stream both ways and are never held whole; what a caller can make it keep in memory or
//! keep open is bounded; every error is `{"error": "...", "code": "..."}` with the right status; and a response that
//! cannot be completed is broken off, never ended as if it were whole.

mod api_error;
mod app;
mod assets;
mod body;
mod config;
mod connection;
mod event_feed;
mod gateway;
mod headers;
mod history;
mod metrics;
mod observe;
mod router;
mod routes;
mod sampler;

pub use config::GatewayConfig;
pub use gateway::{Gateway, GatewayError};
