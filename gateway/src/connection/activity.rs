//! [`Activity`]: what one connection is doing, as the admission of others has to know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Shared by the connection's socket, its requests and the table of connections.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    requests: AtomicU64,
    unflushed: AtomicBool,
    /// Milliseconds after `opened` at which it became idle.
    idle_since_ms: AtomicU64,
    evicted: CancellationToken,
}

impl Activity {
    /// A connection that was just opened.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            idle_since_ms: AtomicU64::new(0),
            evicted: CancellationToken::new(),
        })
    }

    /// A request begins; it ends when the guard is dropped, which is when its response was handed to the socket.
    pub(crate) fn begin(self: &Arc<Self>) -> RequestGuard {
        self.requests.fetch_add(1, Ordering::SeqCst);
        RequestGuard(self.clone())
    }

    /// Whether a request is being worked on, or its response not yet written.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::SeqCst) > 0 || self.unflushed.load(Ordering::SeqCst)
    }

    /// Every byte of the responses so far was written.
    pub(crate) fn flushed(&self) {
        if self.unflushed.swap(false, Ordering::SeqCst) {
            let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.idle_since_ms.store(now, Ordering::SeqCst);
        }
    }

    /// How long it has been without a request; `None`: it has one, or is told to go already.
    pub(crate) fn idle(&self) -> Option<Duration> {
        if self.is_busy() || self.evicted.is_cancelled() {
            return None;
        }
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::SeqCst));
        Some(self.opened.elapsed().saturating_sub(since))
    }

    /// Tells the connection to go.
    pub(crate) fn evict(&self) {
        self.evicted.cancel();
    }

    /// Cancelled when the connection is to go.
    pub(crate) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }
}

/// Keeps a connection busy until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        // The response was handed over; it counts as work until the socket says that it was flushed.
        self.0.unflushed.store(true, Ordering::SeqCst);
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_response() {
        let activity = Activity::new();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.idle(), Some(Duration::from_secs(1)));
        let request = activity.begin();
        assert_eq!(activity.idle(), None);
        drop(request);
        assert_eq!(activity.idle(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        activity.flushed();
        assert_eq!(activity.idle(), Some(Duration::ZERO));
        activity.evict();
        assert_eq!(activity.idle(), None);
    }
}
