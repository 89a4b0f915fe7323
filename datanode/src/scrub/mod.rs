//! Scrub: every replica is read whole from the disk once in a bounded time, at a bounded rate, and wrong ones are reported (I5).

mod position;
mod schedule;
mod scrubber;
mod stage;

pub(crate) use scrubber::scrub;
