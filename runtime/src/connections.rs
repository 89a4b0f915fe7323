//! [`Connections`]: the open connections of one gRPC server. Never more than its limit, whatever arrives (I11).
//!
//! A connection is a stranger until its first bytes have come. Where every place is taken, the stranger that came first
//! makes room for a newcomer; peers that speak are never put out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The table. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    max: usize,
    table: Arc<Mutex<Table>>,
    ended: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: usize,
    /// By age.
    strangers: BTreeMap<u64, CancellationToken>,
    /// Told to go, but still in their places.
    leaving: BTreeSet<u64>,
}

impl Connections {
    /// An empty table for at most `max` connections.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            table: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// Waits for a place. Cancelling `all` cuts the connection in it.
    pub(crate) async fn place(&self, all: &CancellationToken) -> Place {
        loop {
            // Registered before the look, so that a connection that ends right after it is not missed.
            let ended = self.ended.notified();
            if let Some(place) = self.try_place(all) {
                return place;
            }
            ended.await;
        }
    }

    fn try_place(&self, all: &CancellationToken) -> Option<Place> {
        let mut table = self.lock();
        if table.open >= self.max {
            // One for each newcomer: a newcomer may look again before the one that it put out has gone.
            if table.leaving.is_empty()
                && let Some((id, stranger)) = table.strangers.pop_first()
            {
                table.leaving.insert(id);
                stranger.cancel();
            }
            return None;
        }
        let id = table.next;
        table.next += 1;
        table.open += 1;
        let cut = all.child_token();
        table.strangers.insert(id, cut.clone());
        Some(Place {
            id,
            cut,
            connections: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place in the table; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    cut: CancellationToken,
    connections: Connections,
}

impl Place {
    /// Cancelled when the connection has to end.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// The peer spoke: it is no stranger any more.
    pub(crate) fn greeted(&self) {
        self.connections.lock().strangers.remove(&self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.open -= 1;
        table.strangers.remove(&self.id);
        table.leaving.remove(&self.id);
        drop(table);
        // One newcomer waits at most: connections are accepted one after the other.
        self.connections.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn i11_the_oldest_stranger_makes_room_and_who_spoke_does_not() {
        let (connections, all) = (Connections::new(2), CancellationToken::new());
        let known = connections.place(&all).await;
        known.greeted();
        let stranger = connections.place(&all).await;
        let newcomer = connections.place(&all);
        tokio::pin!(newcomer);
        let put_out = stranger.cut().clone();
        tokio::select! {
            _ = &mut newcomer => panic!("a third connection"),
            () = put_out.cancelled() => drop(stranger),
        }
        let second = newcomer.await;
        second.greeted();
        let waited = tokio::time::timeout(Duration::from_secs(60), connections.place(&all)).await;
        assert!(waited.is_err());
        assert!(!known.cut().is_cancelled());
        drop(known);
        connections.place(&all).await;
        assert_eq!(connections.lock().open, 1);
        assert!(connections.lock().strangers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn i11_a_newcomer_puts_out_one_stranger_however_often_it_looks() {
        let (connections, all) = (Connections::new(2), CancellationToken::new());
        let gone = connections.place(&all).await;
        let first = connections.place(&all).await;
        // Nobody waits for this place, so that the next who waits is woken at once.
        drop(gone);
        let second = connections.place(&all).await;
        let newcomer = connections.place(&all);
        tokio::pin!(newcomer);
        let waited = tokio::time::timeout(Duration::from_secs(1), &mut newcomer).await;
        assert!(waited.is_err(), "nobody has left yet");
        assert!(first.cut().is_cancelled());
        assert!(!second.cut().is_cancelled());
        drop(first);
        let third = newcomer.await;
        third.greeted();
        assert!(!second.cut().is_cancelled());
        // The next one is put out as ever.
        let waited = tokio::time::timeout(Duration::from_secs(1), connections.place(&all)).await;
        assert!(waited.is_err() && second.cut().is_cancelled());
    }
}
