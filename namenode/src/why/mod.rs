//! Why a file is as it is: everything that is known of one hash, in words for an operator.
//!
//! `facts` is what was looked up, from one snapshot; `explanation` turns it into words, purely; `words` are those that
//! several sentences share.

mod explanation;
mod facts;
mod words;

pub use explanation::{Explanation, explain};
pub use facts::{DeleteFacts, Facts, HolderFacts, NodeFacts, Planned, Subject};
