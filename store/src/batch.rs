//! [`Batches`]: changes that arrive while another is being made durable are made durable together.
//!
//! There is no delay and no thread: whoever comes first leads and works on what is there, which is one change on a
//! quiet store. Those who come meanwhile wait, and when the leader is done the first of them leads the rest. One leader
//! exists at a time.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Submitted changes of one batch at most: bounds how long the first of the next one waits. The store submits groups of up to 128.
const MAX_BATCH: usize = 256;

/// The leader panicked, so nobody knows what became of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaderLost;

/// Collects changes `O` and hands each its result `R`.
pub(crate) struct Batches<O, R> {
    queue: Mutex<Queue<O, R>>,
}

struct Queue<O, R> {
    waiting: VecDeque<(O, Arc<Ticket<R>>)>,
    led: bool,
}

struct Ticket<R> {
    turn: Mutex<Turn<R>>,
    changed: Condvar,
}

enum Turn<R> {
    Wait,
    Lead,
    Done(Result<R, LeaderLost>),
}

impl<O, R> Default for Batches<O, R> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                led: false,
            }),
        }
    }
}

impl<O, R> Batches<O, R> {
    /// Has `change` carried out, by this thread or by another, and returns its result. `run` takes a batch in the order of
    /// arrival and gives one result for each.
    pub(crate) fn submit(
        &self,
        change: O,
        run: impl FnOnce(Vec<O>) -> Vec<R>,
    ) -> Result<R, LeaderLost> {
        let ticket = Arc::new(Ticket {
            turn: Mutex::new(Turn::Wait),
            changed: Condvar::new(),
        });
        let leads = {
            let mut queue = self.queue();
            queue.waiting.push_back((change, ticket.clone()));
            !std::mem::replace(&mut queue.led, true)
        };
        if !leads && let Some(result) = ticket.wait() {
            return result;
        }
        self.lead(run);
        // The leader's own change is the oldest in the queue, so it was part of the batch.
        ticket.wait().unwrap_or(Err(LeaderLost))
    }

    fn lead(&self, run: impl FnOnce(Vec<O>) -> Vec<R>) {
        let (changes, tickets): (Vec<O>, Vec<_>) = {
            let mut queue = self.queue();
            let size = queue.waiting.len().min(MAX_BATCH);
            queue.waiting.drain(..size).unzip()
        };
        let leadership = Leadership {
            batches: self,
            tickets,
        };
        let results = run(changes);
        for (ticket, result) in leadership.tickets.iter().zip(results) {
            ticket.set(Turn::Done(Ok(result)));
        }
    }

    /// How many changes wait for the next batch.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<O, R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a batch, also when the leader panics: nobody waits for ever, and the next batch has a leader.
struct Leadership<'a, O, R> {
    batches: &'a Batches<O, R>,
    tickets: Vec<Arc<Ticket<R>>>,
}

impl<O, R> Drop for Leadership<'_, O, R> {
    fn drop(&mut self) {
        for ticket in &self.tickets {
            if matches!(*ticket.turn(), Turn::Wait | Turn::Lead) {
                ticket.set(Turn::Done(Err(LeaderLost)));
            }
        }
        let mut queue = self.batches.queue();
        match queue.waiting.front() {
            Some((_, next)) => next.set(Turn::Lead),
            None => queue.led = false,
        }
    }
}

impl<R> Ticket<R> {
    /// Waits for the result, or for `None`: this thread leads.
    fn wait(&self) -> Option<Result<R, LeaderLost>> {
        let mut turn = self.turn();
        loop {
            match std::mem::replace(&mut *turn, Turn::Wait) {
                Turn::Wait => {
                    turn = self
                        .changed
                        .wait(turn)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Turn::Lead => return None,
                Turn::Done(result) => return Some(result),
            }
        }
    }

    fn set(&self, turn: Turn<R>) {
        *self.turn() = turn;
        self.changed.notify_one();
    }

    fn turn(&self) -> MutexGuard<'_, Turn<R>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording_disk::until;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_lone_change_is_a_batch_of_one() {
        let batches = Batches::default();
        let result = batches.submit(7, |changes| {
            assert_eq!(changes, [7]);
            changes
        });
        assert_eq!(result, Ok(7));
    }

    #[test]
    fn what_arrives_during_a_batch_is_the_next_batch_and_each_gets_its_own_result() {
        let batches: Batches<usize, usize> = Batches::default();
        let (entered, rest_is_queued) = (Barrier::new(2), Barrier::new(2));
        let runs = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let result = batches.submit(0, |changes| {
                    entered.wait();
                    rest_is_queued.wait();
                    changes
                });
                assert_eq!(result, Ok(0));
            });
            entered.wait();
            for number in 1..=9 {
                let (batches, runs) = (&batches, &runs);
                scope.spawn(move || {
                    let result = batches.submit(number, |changes| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        changes.into_iter().map(|change| change * 10).collect()
                    });
                    assert_eq!(result, Ok(number * 10));
                });
            }
            until(|| batches.waiting() == 9);
            rest_is_queued.wait();
        });
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(!batches.queue().led);
    }

    #[test]
    fn a_leader_that_panics_loses_its_batch_and_no_other() {
        let batches: Batches<u8, u8> = Batches::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            batches.submit(1, |_| panic!("leader"))
        }));
        assert!(panicked.is_err());
        assert_eq!(batches.submit(2, |changes| changes), Ok(2));
        assert_eq!(batches.submit(3, |_| Vec::new()), Err(LeaderLost));
    }

    #[test]
    fn every_change_gets_its_own_result_under_load() {
        let batches: Batches<usize, usize> = Batches::default();
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let batches = &batches;
                scope.spawn(move || {
                    for round in 0..200 {
                        let number = thread * 1_000 + round;
                        assert_eq!(batches.submit(number, |changes| changes), Ok(number));
                    }
                });
            }
        });
        assert_eq!(batches.waiting(), 0);
    }
}
