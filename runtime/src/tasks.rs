//! [`Tasks`]: the background loops of one role, which all end when the role ends.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns loops, tells them to stop, and joins them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    running: TaskTracker,
}

impl Tasks {
    /// No tasks yet, and no stop asked for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tasks that also stop when `parent` is cancelled.
    pub fn under(parent: &CancellationToken) -> Self {
        Self {
            stop: parent.child_token(),
            running: TaskTracker::new(),
        }
    }

    /// Cancelled when the role is to stop. Every loop selects on it.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `task` until it ends by itself; it is expected to watch [`Tasks::stopping`].
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(task);
    }

    /// Asks everything to stop and waits. `false` when something was still running after `limit`.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.running.close();
        tokio::time::timeout(limit, self.running.wait())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stop_joins_loops_that_watch_the_token() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn(async move { stopping.cancelled().await });
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_gives_up_after_its_limit() {
        let tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        assert!(!tasks.stop(Duration::from_secs(1)).await);
    }
}
