//! Repair: files get the replicas they should have, no more and no fewer.
//!
//! - `plan` decides, purely: which copies, trims and quarantines to order for the files it is shown, as `case`s.
//! - `notes` and `outage` are soft state: what was tried in vain, what was ordered and not reported yet, and whether so
//!   many nodes are away that copying would be the wrong answer.
//! - `misplaced` knows which files lie in one rack only, although there are others.
//! - `drain` counts what still needs a datanode that is being emptied, purely; `emptying` feeds it.
//! - `removal` forgets what datanodes held that were removed for good.
//! - `backlog` keeps the files that wait for their turn, as many as fit; `turn` has them and the misplaced ones come up in turn.
//! - `sweep` remembers how far each list of files has been looked through; `survey` reads the
//!   next pages of them; `round` feeds the plan and issues its commands.

mod backlog;
mod case;
mod drain;
mod emptying;
#[cfg(test)]
mod fixture;
mod misplaced;
mod notes;
mod outage;
mod plan;
mod removal;
mod round;
mod survey;
mod sweep;
mod turn;

pub use case::{Case, Holding, RepairNode};
pub use drain::{Drain, Drains, Tally};
pub use emptying::run_emptying;
pub use notes::{Progress, RepairNotes};
pub use outage::Outage;
pub use plan::{Nodes, plan, still_safe};
pub use removal::{Position, RemovalCheck, Removals, forget, run_removals};
pub use round::{MAX_UNDER_WAY, ROUND_LIMITS, copy_limit_ms, run_repair};
pub use survey::PAGE;
