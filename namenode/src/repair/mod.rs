//! Repair: files get the replicas they should have, no more and no fewer.
//!
//! - `plan` decides, purely: which copies, trims and quarantines to order for the files it is shown, as `case`s.
//! - `notes` and `outage` are soft state: what was tried in vain, what was ordered and not reported yet, and whether so
//!   many nodes are away that copying would be the wrong answer.
//! - `sweep` remembers how far each list of files has been looked through; `survey` reads the
//!   next pages of them; `round` feeds the plan and issues its commands.

mod case;
mod notes;
mod outage;
mod plan;
mod round;
mod survey;
mod sweep;

pub use notes::{Progress, RepairNotes};
pub use outage::Outage;
pub use plan::still_safe;
pub use round::run_repair;
