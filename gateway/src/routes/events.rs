//! `GET /events`: what happens in the cluster, as server-sent events. The gateway only passes them on: where a listener
//! stopped is in the number of the last event it saw, so it may go on at another gateway.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::HeaderMap;
use richardstore_client::{ClientError, EventBatch, EventPosition};
use richardstore_proto::ErrorCode;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::parameters::QueryOf;
use crate::api_error::ApiError;
use crate::app::App;

/// A listener that has gone is noticed when this cannot be written.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Before a namenode that did not answer is asked again, and before a browser comes back to a gateway that went away.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
pub(crate) struct EventsQuery {
    after: Option<String>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Infallible>> + Send>>;

/// One listener.
struct Listener {
    app: Arc<App>,
    after: Option<EventPosition>,
    upstream: Upstream,
    _place: OwnedSemaphorePermit,
}

enum Upstream {
    /// To be asked now.
    New,
    /// Did not answer; the listener knows it.
    Away,
    Connected(BoxStream<'static, Result<EventBatch, ClientError>>),
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
        app,
        after,
        upstream: Upstream::New,
        _place: place,
    };
    let messages = stream::unfold(listener, |listener| listener.next().map(Some)).flatten();
    // A stream without an end would hold up the gateway's own.
    let messages: Messages = Box::pin(messages.take_until(stopping.cancelled_owned()));
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Listener {
    /// The next messages. Never ends by itself: a namenode that is away is waited for.
    async fn next(
        mut self,
    ) -> (
        impl Stream<Item = Result<Message, Infallible>> + use<>,
        Self,
    ) {
        let messages = match self.upstream {
            Upstream::New => self.connect().await,
            Upstream::Away => {
                tokio::time::sleep(PAUSE).await;
                self.connect().await
            }
            Upstream::Connected(ref mut batches) => match batches.next().await {
                Some(Ok(batch)) => self.passed_on(batch),
                Some(Err(_)) | None => self.away(),
            },
        };
        (stream::iter(messages.into_iter().map(Ok)), self)
    }

    async fn connect(&mut self) -> Vec<Message> {
        let was_away = matches!(self.upstream, Upstream::Away);
        match self.app.client.follow(self.after).await {
            Ok(batches) => {
                self.upstream = Upstream::Connected(batches.boxed());
                vec![Message::default().event("back").retry(PAUSE).data("")]
            }
            Err(_) if was_away => Vec::new(),
            Err(_) => self.away(),
        }
    }

    fn away(&mut self) -> Vec<Message> {
        self.upstream = Upstream::Away;
        vec![Message::default().event("away").data("")]
    }

    fn passed_on(&mut self, batch: EventBatch) -> Vec<Message> {
        let gap = batch.gap.then(|| Message::default().event("gap").data(""));
        let mut messages: Vec<Message> = gap.into_iter().collect();
        for event in batch.events {
            let position = EventPosition {
                epoch: batch.epoch,
                sequence: event.sequence,
            };
            self.after = Some(position);
            let message = Message::default().event("cluster").id(position.to_string());
            match message.json_data(&event) {
                Ok(message) => messages.push(message),
                Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
            }
        }
        messages
    }
}
