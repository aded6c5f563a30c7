//! Events as they come, as server-sent events.
//!
//! Each stream asks its [`Feed`] page by page, woken when there is news and once a second besides;
//! nothing is sent to it that it must keep up with. So a slow client holds up nobody and misses
//! nothing: its next question is asked when it has taken the last answer.
//!
//! The id of an event is a place in the feed: a client that comes back with `Last-Event-ID` goes on
//! behind it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The longest wait for news that nobody told of: other instances write too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest time from one look to the next.
const REST: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: &str = "last-event-id";

/// Where the events of a stream come from: an order in which nothing comes late, read page by page.
pub trait Feed: Send + Sync + 'static {
    /// A place in the order.
    type Place: Copy + PartialEq + Send + Sync;
    /// What an event says, as JSON.
    type Event: Serialize + Send;
    /// Why there is no page; the stream waits, and asks again.
    type Failure: Debug + Send;

    /// What the events are called (`event:`).
    const NAME: &'static str;

    /// The events behind a place, or from the beginning; as many as are held in memory at once.
    fn page(
        &self,
        after: Option<Self::Place>,
    ) -> impl Future<Output = Result<Page<Self::Place, Self::Event>, Self::Failure>> + Send;

    /// A place as the id of an event.
    fn id(&self, place: Self::Place) -> String;
}

/// Events of a feed.
#[derive(Debug)]
pub struct Page<P, E> {
    /// The events, each at its place.
    pub events: Vec<(P, E)>,
    /// How far was looked, if that is further than the last event: what follows is not shown.
    pub next: Option<P>,
}

/// A stream that is about to begin.
#[derive(Debug)]
pub struct Live<F: Feed> {
    /// Its events.
    pub feed: F,
    /// It begins behind this place; without one, at the beginning.
    pub after: Option<F::Place>,
    /// Changes when there may be news.
    pub news: watch::Receiver<u64>,
    /// When it ends, if the client does not end it.
    pub shutdown: CancellationToken,
    /// Its place among the streams that may be open.
    pub permit: OwnedSemaphorePermit,
}

/// The id of the last event that a client saw, if it comes back; what is no text is no place.
pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default())
}

impl<F: Feed> IntoResponse for Live<F> {
    fn into_response(self) -> Response {
        let mut running = Running { live: self, waiting: VecDeque::new(), is_failing: false };
        // From the first moment on, whoever reconnects goes on here.
        running.mark();
        let events = stream::unfold(running, async |mut running| {
            let event = running.next().await?;
            Some((Ok::<_, Infallible>(event), running))
        });
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
    }
}

/// A stream that goes on.
struct Running<F: Feed> {
    live: Live<F>,
    /// Read and not yet sent.
    waiting: VecDeque<Event>,
    /// Whether the last look failed, which was logged.
    is_failing: bool,
}

impl<F: Feed> Running<F> {
    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let shutdown = self.live.shutdown.clone();
            shutdown.run_until_cancelled(self.look()).await?;
        }
    }

    /// Reads what is new, or waits for it. Cancel safety: nothing is kept across awaits but what is
    /// in `self` after the page was read.
    async fn look(&mut self) {
        self.live.news.borrow_and_update();
        match self.live.feed.page(self.live.after).await {
            Ok(page) => {
                self.is_failing = false;
                self.take(page);
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(?failure, "a stream waits: its events cannot be read");
                }
            }
        }
        if self.waiting.is_empty() {
            self.wait().await;
        }
    }

    /// Tells how far the stream has come, without an event.
    fn mark(&mut self) {
        if let Some(place) = self.live.after {
            self.waiting.push_back(Event::default().id(self.live.feed.id(place)));
        }
    }

    fn take(&mut self, page: Page<F::Place, F::Event>) {
        let last = page.events.last().map(|(place, _)| *place);
        let next = page.next.or(last).or(self.live.after);
        let is_silent = last.is_none() && next != self.live.after;
        for (place, event) in page.events {
            let id = self.live.feed.id(place);
            match Event::default().id(id).event(F::NAME).json_data(event) {
                Ok(event) => self.waiting.push_back(event),
                Err(error) => warn!(%error, "an event cannot be written as json"),
            }
        }
        self.live.after = next;
        if is_silent {
            self.mark();
        }
    }

    /// Waits until there is news, or for a while.
    async fn wait(&mut self) {
        sleep(REST).await;
        // Cancel safety: a change that is not waited for is seen by the next look.
        tokio::select! {
            changed = self.live.news.changed() => if changed.is_err() {
                // Nobody tells any more.
                sleep(LOOK_EVERY).await;
            },
            () = sleep(LOOK_EVERY) => {}
        }
    }
}
