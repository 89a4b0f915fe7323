//! [`Connections`]: the table of open connections. Never more than its limit, whatever arrives.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::activity::Activity;
use super::admission::{Admission, admit};
use crate::metrics::Metrics;

/// The table. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    max: usize,
    table: Arc<Mutex<Table>>,
    closed: Arc<Notify>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Arc<Activity>>,
}

impl Connections {
    /// An empty table for at most `max` connections.
    pub(crate) fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            max: max.max(1),
            table: Arc::default(),
            closed: Arc::default(),
            metrics,
        }
    }

    /// Connections open now.
    pub(crate) fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Waits for a place, closing a connection that idles where there is none. With every place taken by a request under
    /// way, newcomers wait in the kernel's queue.
    pub(crate) async fn place(&self) -> Place {
        loop {
            // Registered before the look, so that a connection that ends right after it is not missed.
            let closed = self.closed.notified();
            match self.try_place() {
                Ok(place) => return place,
                Err(Admission::Wait(time)) => {
                    let _ = tokio::time::timeout(time, closed).await;
                }
                Err(_) => closed.await,
            }
        }
    }

    fn try_place(&self) -> Result<Place, Admission> {
        let mut table = self.lock();
        let idle = table
            .open
            .iter()
            .map(|(id, activity)| (*id, activity.idle()));
        match admit(self.max, table.open.len(), idle) {
            Admission::Admit => {
                let id = table.next;
                table.next += 1;
                let activity = Activity::new();
                table.open.insert(id, activity.clone());
                Ok(Place {
                    id,
                    activity,
                    connections: self.clone(),
                })
            }
            Admission::Evict(id) => {
                if let Some(activity) = table.open.get(&id) {
                    activity.evict();
                    self.metrics
                        .evicted_connections
                        .fetch_add(1, Ordering::Relaxed);
                }
                Err(Admission::Evict(id))
            }
            wait @ Admission::Wait(_) => Err(wait),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place in the table; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    activity: Arc<Activity>,
    connections: Connections,
}

impl Place {
    /// What the connection in this place is doing.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
        // One newcomer waits at most: connections are accepted one after the other.
        self.connections.closed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connection::admission::GRACE;

    fn table() -> Connections {
        Connections::new(2, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
        let connections = table();
        let busy = connections.place().await;
        let request = busy.activity().begin();
        let idle = connections.place().await;
        let newcomer = connections.place();
        tokio::pin!(newcomer);
        let evicted = idle.activity().clone();
        tokio::select! {
            _ = &mut newcomer => panic!("a third connection"),
            () = evicted.evicted().cancelled() => drop(idle),
        }
        newcomer.await;
        assert!(!busy.activity().evicted().is_cancelled());
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn with_only_busy_connections_a_newcomer_waits() {
        let connections = table();
        let places = [connections.place().await, connections.place().await];
        let requests = places.each_ref().map(|place| place.activity().begin());
        let waited = tokio::time::timeout(Duration::from_secs(60), connections.place()).await;
        assert!(waited.is_err());
        drop(requests);
        drop(places);
        assert_eq!(connections.count(), 0);
        assert!(
            tokio::time::timeout(GRACE, connections.place())
                .await
                .is_ok()
        );
    }
}
