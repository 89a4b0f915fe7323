//! What the gateway counts, and how Prometheus reads it.

mod counters;

pub(crate) use counters::Metrics;
