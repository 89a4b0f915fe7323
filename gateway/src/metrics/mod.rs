//! What the gateway counts, and how Prometheus reads it.

mod counters;
mod histogram;

pub(crate) use counters::Metrics;
