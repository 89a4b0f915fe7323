//! `GET /events`: what happens in the cluster, as server-sent events. The gateway only passes them on: where a listener
//! stopped is in the number of the last event it saw, so it may go on at another gateway.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use richardstore_client::EventPosition;
use richardstore_proto::ErrorCode;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::parameters::QueryOf;
use crate::api_error::ApiError;
use crate::app::App;
use crate::event_feed::{EventFeedReceiver, Excerpt};

/// A listener that has gone is noticed when this cannot be written.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Before a browser comes back to a gateway that went away.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
pub(crate) struct EventsQuery {
    after: Option<String>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Infallible>> + Send>>;

/// One listener.
struct Listener {
    feed: EventFeedReceiver,
    after: Option<EventPosition>,
    /// What it was told of the namenode last: whether it answers.
    connected: Option<bool>,
    _place: OwnedSemaphorePermit,
}

/// `GET /events`
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    QueryOf(query): QueryOf<EventsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, ApiError> {
    // A browser that comes back by itself says what it saw last in the header, which is then newer than the address.
    let header = headers.get("last-event-id");
    let header = header.and_then(|value| value.to_str().ok()?.parse().ok());
    let after = match (header, query.after) {
        (Some(after), _) => Some(after),
        (None, Some(text)) => Some(
            text.parse()
                .map_err(|error| ApiError::invalid(format!("after: {error}")))?,
        ),
        (None, None) => None,
    };
    let place = app.listeners.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        let message = "too many listen to this gateway's events already";
        ApiError::new(ErrorCode::Unavailable, message)
    })?;
    let stopping = app.stopping.clone();
    let listener = Listener {
        feed: app.events.listen(),
        after,
        connected: None,
        _place: place,
    };
    let messages = stream::unfold(listener, Listener::next).flatten();
    // A stream without an end would hold up the gateway's own.
    let messages: Messages = Box::pin(messages.take_until(stopping.cancelled_owned()));
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Listener {
    /// The next messages. Never ends by itself: a namenode that is away is waited for.
    async fn next(
        mut self,
    ) -> Option<(
        impl Stream<Item = Result<Message, Infallible>> + use<>,
        Self,
    )> {
        loop {
            let (connected, excerpt) = {
                let feed = self.feed.borrow_and_update();
                (feed.connected, feed.behind(self.after))
            };
            let mut messages = Vec::new();
            if connected != self.connected {
                self.connected = connected;
                messages.push(match connected {
                    Some(true) => Message::default().event("back").retry(PAUSE).data(""),
                    _ => Message::default().event("away").data(""),
                });
            }
            self.pass_on(excerpt, &mut messages);
            if !messages.is_empty() {
                return Some((stream::iter(messages.into_iter().map(Ok)), self));
            }
            self.feed.changed().await.ok()?;
        }
    }

    fn pass_on(&mut self, excerpt: Excerpt, messages: &mut Vec<Message>) {
        if excerpt.gap {
            messages.push(Message::default().event("gap").data(""));
        }
        for event in excerpt.events {
            let position = EventPosition {
                epoch: excerpt.epoch,
                sequence: event.sequence,
            };
            self.after = Some(position);
            let message = Message::default().event("cluster").id(position.to_string());
            match message.json_data(&event) {
                Ok(message) => messages.push(message),
                Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
            }
        }
    }
}
