//! [`RecentUploads`]: whether somebody uploads here now, for whom background work steps back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// An uploader who has sent nothing for this long does not come back for the next file.
const RECENT: Duration = Duration::from_secs(1);

/// The last upload of one datanode, copies not counted.
#[derive(Default)]
pub(crate) struct RecentUploads {
    last: Mutex<Option<Instant>>,
}

impl RecentUploads {
    /// Bytes of an upload have come.
    pub(crate) fn note(&self) {
        *self.last() = Some(Instant::now());
    }

    /// Whether some came a moment ago.
    pub(crate) fn any(&self) -> bool {
        self.last().is_some_and(|last| last.elapsed() < RECENT)
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_recent_for_a_while() {
        let uploads = RecentUploads::default();
        assert!(!uploads.any());
        uploads.note();
        assert!(uploads.any());
        tokio::time::advance(RECENT).await;
        assert!(!uploads.any());
    }
}
