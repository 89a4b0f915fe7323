//! [`EventFeed`]: what happens in the cluster, followed once for all who listen to a gateway. The namenode has places for so many
//! who watch: a gateway takes one of them, whatever the number of its listeners.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use richardstore_client::{EventBatch, EventPosition};
use richardstore_proto::{Event, NamenodeEpoch, Sequence};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Events kept for those who come back; as many as a namenode keeps.
const MAX_EVENTS: usize = 1_024;
/// Events handed out at once.
const MAX_EXCERPT: usize = 128;
/// Before a namenode that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Everything that is known.
#[derive(Debug)]
pub(crate) struct EventFeed(watch::Sender<Feed>);

/// What one who listens looks into, and is woken by.
pub(crate) type EventFeedReceiver = watch::Receiver<Feed>;

/// The last events, in order and without a gap.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Whether the namenode answers; `None` before it was asked.
    pub(crate) connected: Option<bool>,
    epoch: NamenodeEpoch,
    events: VecDeque<Event>,
}

/// Events behind a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// They do not follow it.
    pub(crate) gap: bool,
    /// The start of the namenode that counted them.
    pub(crate) epoch: NamenodeEpoch,
    /// The events.
    pub(crate) events: Vec<Event>,
}

impl Default for EventFeed {
    fn default() -> Self {
        Self(watch::Sender::new(Feed::default()))
    }
}

impl EventFeed {
    /// For one more who listens.
    pub(crate) fn listen(&self) -> EventFeedReceiver {
        self.0.subscribe()
    }
}

impl Feed {
    /// A few events behind `after`; from the oldest that is kept where that is `None`.
    pub(crate) fn behind(&self, after: Option<EventPosition>) -> Excerpt {
        let oldest = self.events.front().map(|event| event.sequence);
        let (gap, seen) = match (after, oldest) {
            (Some(after), Some(oldest)) if after.epoch == self.epoch => {
                (after.sequence.next() < oldest, after.sequence)
            }
            (Some(_), Some(_)) => (true, Sequence(0)),
            (None, _) | (_, None) => (false, Sequence(0)),
        };
        let behind = self.events.iter().filter(|event| event.sequence > seen);
        Excerpt {
            gap,
            epoch: self.epoch,
            events: behind.take(MAX_EXCERPT).cloned().collect(),
        }
    }

    /// Where to go on.
    fn position(&self) -> Option<EventPosition> {
        self.events.back().map(|event| EventPosition {
            epoch: self.epoch,
            sequence: event.sequence,
        })
    }

    fn take(&mut self, batch: EventBatch) {
        self.connected = Some(true);
        if batch.gap || batch.epoch != self.epoch {
            self.events.clear();
        }
        self.epoch = batch.epoch;
        self.events.extend(batch.events);
        let surplus = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..surplus);
    }
}

/// Follows the events until the gateway stops.
pub(crate) async fn run_event_feed(app: Arc<App>, stopping: CancellationToken) {
    let following = async {
        loop {
            follow(&app).await;
            app.events.0.send_if_modified(|feed| {
                let knew = feed.connected == Some(false);
                feed.connected = Some(false);
                !knew
            });
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = stopping.cancelled() => {}
    }
}

/// Until the namenode does not answer any more.
async fn follow(app: &App) {
    let position = app.events.0.borrow().position();
    if let Ok(batches) = app.client.follow(position).await {
        let mut batches = pin!(batches);
        while let Some(Ok(batch)) = batches.next().await {
            app.events.0.send_modify(|feed| feed.take(batch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use richardstore_proto::EventKind;

    fn batch(epoch: u64, gap: bool, sequences: std::ops::Range<u64>) -> EventBatch {
        let event = |sequence| Event {
            sequence: Sequence(sequence),
            at_ms: 0,
            kind: EventKind::NodeDead,
            node: None,
            hash: None,
            count: 1,
        };
        EventBatch {
            epoch: NamenodeEpoch(epoch),
            gap,
            events: sequences.map(event).collect(),
        }
    }

    /// Whether there is a gap, and the sequences, behind one of an epoch.
    fn behind(feed: &Feed, epoch: u64, sequence: u64) -> (bool, Vec<u64>) {
        let excerpt = feed.behind(Some(EventPosition {
            epoch: NamenodeEpoch(epoch),
            sequence: Sequence(sequence),
        }));
        let sequences = excerpt.events.iter().map(|event| event.sequence.0);
        (excerpt.gap, sequences.collect())
    }

    #[test]
    fn who_listens_goes_on_where_it_stopped_and_is_told_of_what_it_missed() {
        let mut feed = Feed::default();
        assert_eq!(behind(&feed, 3, 9), (false, vec![]));
        feed.take(batch(3, false, 1..4));
        assert_eq!(behind(&feed, 3, 1), (false, vec![2, 3]));
        assert_eq!(behind(&feed, 3, 3), (false, vec![]));
        assert_eq!(behind(&feed, 2, 3), (true, vec![1, 2, 3]));
        assert_eq!(feed.behind(None).events.len(), 3);
        // The namenode started again.
        feed.take(batch(4, true, 1..2));
        assert_eq!(behind(&feed, 3, 3), (true, vec![1]));
        assert_eq!(behind(&feed, 4, 1), (false, vec![]));
    }

    #[test]
    fn i11_the_oldest_are_forgotten_and_that_is_a_gap() {
        let mut feed = Feed::default();
        for first in 0..20 {
            feed.take(batch(1, false, first * 100 + 1..first * 100 + 101));
        }
        assert_eq!(feed.events.len(), MAX_EVENTS);
        assert!(behind(&feed, 1, 5).0);
        let (gap, excerpt) = behind(&feed, 1, 1_500);
        assert_eq!(
            (gap, excerpt.len(), excerpt[0]),
            (false, MAX_EXCERPT, 1_501)
        );
    }
}
