//! [`run_sampler`]: takes the samples of the history until the gateway stops.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use richardstore_runtime::SharedClock;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::history::{Backlog, INTERVAL_MS, Moved};
use crate::routes::cluster::ask;

/// One sample at a time, so that a namenode that is slow to answer only makes them rarer.
pub(crate) async fn run_sampler(app: Arc<App>, clock: SharedClock, stopping: CancellationToken) {
    let mut ticks = interval(Duration::from_millis(INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sample = async {
        loop {
            ticks.tick().await;
            let backlog = ask(&app).await.ok().map(|info| Backlog {
                files_to_repair: info
                    .under_replicated
                    .max(info.repairs_copying.saturating_add(info.repairs_waiting)),
                commands_pending: info.commands_pending,
            });
            let moved = Moved {
                received_bytes: app.metrics.received_bytes.load(Ordering::Relaxed),
                sent_bytes: app.metrics.sent_bytes.load(Ordering::Relaxed),
            };
            app.history().take(clock.now_ms(), moved, backlog);
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = sample => {}
    }
}
