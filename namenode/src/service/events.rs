//! The stream of events, for those who watch. Each watcher looks into the log a few times a second: nobody has to be woken,
//! and one that reads slowly costs nothing but its own gap.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use richardstore_proto::wire::event_log_server::EventLog;
use richardstore_proto::{ErrorCode, Sequence, StoreError, wire};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status};

use crate::shared::Shared;
use crate::ticker::Ticks;

/// Between two looks into the log.
const PERIOD: Duration = Duration::from_millis(250);
/// Events of one message.
const MAX_EVENTS: usize = 128;

/// Answers the calls of the EventLog service.
#[derive(Clone)]
pub struct EventLogService {
    shared: Arc<Shared>,
}

/// A watcher, and how far it has read.
struct Watcher {
    shared: Arc<Shared>,
    ticks: Ticks,
    after: Sequence,
    /// It waits for its first answer.
    is_new: bool,
    /// It was told of another start of the namenode.
    gap: bool,
    _place: OwnedSemaphorePermit,
}

impl EventLogService {
    /// A service on `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl EventLog for EventLogService {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<wire::FollowResponse, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<wire::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        let place = self.shared.watchers.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            StoreError::new(ErrorCode::Unavailable, "too many watch the events already")
        })?;
        let same_start = request.epoch == self.shared.epoch.0;
        let watcher = Watcher {
            ticks: Ticks::every(PERIOD, self.shared.tasks.stopping()),
            shared: self.shared.clone(),
            after: Sequence(if same_start { request.sequence } else { 0 }),
            is_new: true,
            gap: !same_start && request.epoch != 0,
            _place: place,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            watcher,
            Watcher::next,
        ))))
    }
}

impl Watcher {
    /// The next message: at once the first time, later when something has happened. Ends when the namenode stops.
    async fn next(mut self) -> Option<(Result<wire::FollowResponse, Status>, Self)> {
        loop {
            if !self.ticks.next().await {
                return None;
            }
            let excerpt = self.shared.soft().events.behind(self.after, MAX_EVENTS);
            if !self.is_new && excerpt.events.is_empty() {
                continue;
            }
            if let Some(last) = excerpt.events.last() {
                self.after = last.sequence;
            }
            let response = wire::FollowResponse {
                epoch: self.shared.epoch.0,
                gap: excerpt.gap || self.gap,
                events: excerpt.events.into_iter().map(Into::into).collect(),
            };
            (self.is_new, self.gap) = (false, false);
            return Some((Ok(response), self));
        }
    }
}
