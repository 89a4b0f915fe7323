//! Why a file is as it is: everything that is known of one hash, in words for an operator.
//!
//! `facts` is what was looked up, from one snapshot; `explanation` turns it into words, purely; `standing` judges the replicas of a
//! file; `story` tells what happened; `words` are those that several sentences share.

mod explanation;
mod facts;
mod standing;
mod story;
mod words;

pub use explanation::{Explanation, explain};
pub use facts::{Buried, DeleteFacts, Facts, HolderFacts, NodeFacts, Planned, Subject};
pub use standing::{FileState, Standing, racks_there};
