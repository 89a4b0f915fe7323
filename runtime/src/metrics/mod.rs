//! What a role counts, and how Prometheus reads it: one vocabulary for all roles, and the small HTTP server that shows it.
//!
//! Every metric is named `richardstore_ROLE_...`; `docs/metrics.md` lists them all.

mod endpoint;
mod exposition;
mod histogram;
mod requests;

pub use endpoint::{Observable, Readiness, serve_metrics};
pub use exposition::Exposition;
pub use histogram::{Buckets, COUNTS, Histogram, SECONDS};
pub use requests::{Observed, Requests};
