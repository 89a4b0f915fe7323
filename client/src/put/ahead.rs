//! [`Ahead`]: allocations for small files that are there before they are asked for, so that most uploads wait for none.
//!
//! Only while one upload follows the other: the first asks for itself alone, and each time that the stock is empty soon again more
//! are asked for. What nobody took for a second is given back, all in one call, so that neither a tombstone nor the emptying of
//! a node waits long for a write that never begins. They are durable as any other. Allocations that a crash may forget
//! would cost even less; but what those leave on datanodes could not be told from files that came after a copy of the
//! namenode's disk was made, and these must not be removed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use richardstore_proto::Generation;
use richardstore_runtime::Tasks;
use tokio::time::Instant;

use crate::namenode::{Granted, NameNode};

/// An allocation is kept this long.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// And not longer than this part of the time after which it expires, so that a renewal comes early enough.
const KEPT_PART: u32 = 4;

/// The stocks of one client, by the replication target that was wished.
pub(super) struct Ahead {
    namenode: NameNode,
    tasks: Tasks,
    stocks: Mutex<BTreeMap<Option<u32>, Stock>>,
}

/// What is there for one target.
#[derive(Default)]
struct Stock {
    /// The oldest first, with the moment at which it is given back.
    granted: VecDeque<(Instant, Granted)>,
    /// When somebody last wanted one.
    wanted_at: Option<Instant>,
    /// How many were asked for ahead when it was last found empty, less those that nobody took.
    size: usize,
    /// A task gives back what nobody takes.
    watched: bool,
}

impl Ahead {
    pub(super) fn new(namenode: &NameNode, tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self {
            namenode: namenode.clone(),
            tasks: tasks.clone(),
            stocks: Mutex::default(),
        })
    }

    /// The oldest that is there.
    pub(super) fn take(&self, replication: Option<u32>) -> Option<Granted> {
        self.stocks().get_mut(&replication)?.take(Instant::now())
    }

    /// How many to ask for besides the `wanted`, `most` together.
    pub(super) fn besides(&self, replication: Option<u32>, wanted: usize, most: usize) -> usize {
        let mut stocks = self.stocks();
        let stock = stocks.entry(replication).or_default();
        stock.besides(wanted, most, Instant::now())
    }

    /// Keeps what was asked for ahead.
    pub(super) fn keep(self: &Arc<Self>, replication: Option<u32>, granted: Vec<Granted>) {
        if granted.is_empty() {
            return;
        }
        let mut stocks = self.stocks();
        let stock = stocks.entry(replication).or_default();
        stock.keep(granted, Instant::now());
        if !std::mem::replace(&mut stock.watched, true) {
            self.tasks.spawn(Self::watch(self.clone(), replication));
        }
    }

    /// Gives back what grows old, until nothing is left; all of it when the client closes.
    async fn watch(self: Arc<Self>, replication: Option<u32>) {
        let stopping = self.tasks.stopping();
        loop {
            let oldest = {
                let mut stocks = self.stocks();
                let stock = stocks.entry(replication).or_default();
                stock.watched = !stock.granted.is_empty();
                stock.granted.front().map(|(until, _)| *until)
            };
            let Some(oldest) = oldest else {
                return;
            };
            let closing = tokio::select! {
                biased;
                () = stopping.cancelled() => true,
                () = tokio::time::sleep_until(oldest) => false,
            };
            let left = {
                let mut stocks = self.stocks();
                let stock = stocks.entry(replication).or_default();
                stock.left((!closing).then(Instant::now))
            };
            if left.is_empty() {
                continue;
            }
            // One that does not arrive is no leak: the namenode expires them.
            if let Err(error) = self.namenode.abandon(&left).await {
                tracing::warn!(count = left.len(), %error, "could not abandon writes; they expire by themselves");
            }
        }
    }

    fn stocks(&self) -> MutexGuard<'_, BTreeMap<Option<u32>, Stock>> {
        self.stocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock {
    fn take(&mut self, now: Instant) -> Option<Granted> {
        // What is too old is given back by the task that watches; those behind it are younger.
        let (_, granted) = self.granted.remove(self.old(now))?;
        self.wanted_at = Some(now);
        Some(granted)
    }

    /// Twice as many as the last time while there are uploads all the time; none where this is the first for a while, or where
    /// some are left, which those do not take who begin anew, or came before these were there.
    fn besides(&mut self, wanted: usize, most: usize, now: Instant) -> usize {
        if self.old(now) < self.granted.len() {
            return 0;
        }
        let soon = |before| now.duration_since(before) < KEPT_FOR;
        self.size = match self.wanted_at.is_some_and(soon) {
            true => (2 * self.size + wanted).min(most),
            false => 0,
        };
        self.wanted_at = Some(now);
        self.size.min(most.saturating_sub(wanted))
    }

    /// How many are too old.
    fn old(&self, now: Instant) -> usize {
        self.granted.partition_point(|(until, _)| *until <= now)
    }

    fn keep(&mut self, granted: Vec<Granted>, now: Instant) {
        for granted in granted {
            if granted.has_targets() {
                let lives = Duration::from_millis(granted.expires_in_ms);
                let until = now + KEPT_FOR.min(lives / KEPT_PART);
                self.granted.push_back((until, granted));
            } else {
                // There was no room for so many. It goes back with the next that does.
                self.granted.push_front((now, granted));
            }
        }
    }

    /// Takes out what nobody took by `now`, or everything. So many were too many.
    fn left(&mut self, now: Option<Instant>) -> Vec<Generation> {
        let old = now.map_or(self.granted.len(), |now| self.old(now));
        self.size = self.size.saturating_sub(old);
        let left = self.granted.drain(..old);
        left.map(|(_, granted)| granted.allocation.generation)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::Allocation;

    const MOST: usize = 64;

    fn granted(generations: std::ops::Range<u64>) -> Vec<Granted> {
        let one = |generation| Granted {
            allocation: Allocation {
                generation: Generation(generation),
                targets: Vec::new(),
            },
            min_replication: 0,
            expires_in_ms: 60_000,
        };
        generations.map(one).collect()
    }

    fn taken(stock: &mut Stock, now: Instant) -> Option<u64> {
        Some(stock.take(now)?.allocation.generation.0)
    }

    #[test]
    fn a_lone_upload_asks_for_itself_and_those_that_follow_for_more_and_more() {
        let (mut stock, mut now) = (Stock::default(), Instant::now());
        let mut asked = Vec::new();
        for _ in 0..8 {
            asked.push(stock.besides(1, MOST, now));
            now += KEPT_FOR / 2;
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 63]);
        now += KEPT_FOR;
        assert_eq!(stock.besides(1, MOST, now), 0);
    }

    #[test]
    fn no_call_asks_for_more_than_it_may() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        for wanted in [64, 64, 40, 64] {
            assert!(wanted + stock.besides(wanted, MOST, now) <= MOST);
        }
    }

    #[test]
    fn the_oldest_goes_first_and_none_that_is_too_old() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        stock.keep(granted(1..3), now);
        stock.keep(granted(3..5), now + KEPT_FOR / 2);
        assert_eq!(taken(&mut stock, now), Some(1));
        let later = now + KEPT_FOR;
        assert_eq!(taken(&mut stock, later), Some(3));
        assert_eq!(stock.left(Some(later)), [Generation(2)]);
        assert_eq!(taken(&mut stock, later), Some(4));
        assert_eq!(taken(&mut stock, later), None);
    }

    #[test]
    fn what_expires_soon_is_kept_for_a_part_of_that_time() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        let mut short = granted(1..2);
        short[0].expires_in_ms = 1_000;
        stock.keep(short, now);
        assert_eq!(taken(&mut stock, now + Duration::from_millis(250)), None);
    }

    #[test]
    fn what_nobody_took_is_not_asked_for_again() {
        let (mut stock, begun) = (Stock::default(), Instant::now());
        for _ in 0..5 {
            stock.besides(1, MOST, begun);
        }
        stock.keep(granted(1..16), begun);
        assert_eq!(taken(&mut stock, begun + KEPT_FOR / 2), Some(1));
        let later = begun + KEPT_FOR;
        assert_eq!(stock.left(Some(later)).len(), 14);
        assert_eq!(stock.besides(1, MOST, later), 3);
    }

    #[test]
    fn no_more_are_asked_for_while_some_are_left() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        assert_eq!(
            [1, 1].map(|wanted| stock.besides(wanted, MOST, now)),
            [0, 1]
        );
        stock.keep(granted(1..2), now);
        assert_eq!(stock.besides(1, MOST, now), 0);
        assert_eq!(taken(&mut stock, now), Some(1));
        assert_eq!(stock.besides(1, MOST, now), 3);
    }

    #[test]
    fn what_has_no_nodes_is_given_back_and_to_nobody_else() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        stock.keep(granted(1..2), now);
        let mut empty = granted(2..3);
        empty[0].min_replication = 1;
        stock.keep(empty, now);
        assert_eq!(taken(&mut stock, now), Some(1));
        assert_eq!(taken(&mut stock, now), None);
        assert_eq!(stock.left(Some(now)), [Generation(2)]);
    }

    #[test]
    fn everything_is_given_back_at_the_end() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        stock.keep(granted(1..4), now);
        assert_eq!(stock.left(None).len(), 3);
        assert_eq!(taken(&mut stock, now), None);
    }
}
