//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// A token that the first signal cancels. Must be called on a runtime.
pub fn stop_on_signals() -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        first.cancel();
        next().await;
        // Whoever asks twice does not want to wait for anything; what was acknowledged is durable.
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    Ok(stop)
}
