//! The locks that threads wait at while others work on the disk: the standard library's. Where `store/schedules` builds this
//! crate, they are ones of which every step is the schedule explorer's to decide.

#[cfg(explored)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(explored))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
