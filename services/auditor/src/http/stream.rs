//! `GET /v1/audit/stream`: events as they are written, as server-sent events.
//!
//! Each stream asks by key in the order of writing, woken when rows were written and once a second
//! besides; nothing is sent to it that it must keep up with. So a slow client holds up nobody and
//! misses nothing: its next question is asked when it has taken the last answer.
//!
//! The id of an event is a cursor: a client that comes back with `Last-Event-ID` goes on behind it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State as Extract};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tracing::warn;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::failure::Failure;
use super::openapi::{self, FilterParameters, Lock};
use super::reads::Read;
use super::{Shared, State, permit};
use crate::query::cursor::{Cursor, Key};
use crate::query::filter::{Filter, Order};
use crate::query::page::{self, Page};
use crate::query::params::{Params, bad};
use crate::query::view::{self, Raw};

/// Events that are read at once.
const PAGE_ROWS: usize = 100;
/// The longest wait for news that nobody told of: other instances write too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest time from one look to the next.
const REST: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: &str = "last-event-id";

/// `after` and `raw`.
pub(super) struct StreamParameters;

impl IntoParams for StreamParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            openapi::text("after", "Id of the last event that was seen, as the header `Last-Event-ID`"),
            openapi::flag("raw", "Include the raw records"),
        ]
    }
}

/// Events as they are written.
///
/// Server-sent events, each an `Event` as JSON, with a cursor as its id. Begins with what is written
/// from now on; with `since`, with what was written before, too; with `Last-Event-ID` (or `after`)
/// behind that event. The stream is a read and becomes an event itself; going on with it does not.
#[utoipa::path(get, path = "/v1/audit/stream", tag = "history",
    params(Lock, FilterParameters, StreamParameters),
    responses((status = 200, description = "The events", content((String = "text/event-stream"))),
              (status = 429, description = "too many streams are open")))]
pub(super) async fn stream(
    Extract(state): Shared,
    caller: Caller,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let mut params = Params::new(pairs);
    let client_id = params.text("client_id");
    let filter = Filter { client_id, ..Filter::take(&mut params, &[Order::Ingest]) };
    let raw = if params.flag("raw") { Raw::Included } else { Raw::Omitted };
    let after =
        params.parsed("after", |text| Cursor::decode(text, &filter).map_err(|error| error.to_string()));
    params.finish()?;
    let after = match headers.get(LAST_EVENT_ID) {
        Some(id) => {
            let decoded = Cursor::decode(id.to_str().unwrap_or_default(), &filter);
            Some(decoded.map_err(|error| bad(format!("Last-Event-ID: {error}")))?)
        }
        None => after,
    };
    let permit = permit(&state.streams, "streams")?;

    let client_id = filter.client_id.as_deref().unwrap_or_default();
    let read = Read { caller: &caller, operation: "stream", client_id, query: filter.to_string() };
    let key = match after {
        Some(cursor) => Some(cursor.key),
        None if filter.since.is_some() => None,
        None => Some(Key::before_transaction(state.horizon().await?)),
    };
    let read_seq = state.record(&read, after.map(|cursor| cursor.read_seq)).await?;
    let mut live = Live {
        commits: state.api.commits.clone(),
        state: Arc::clone(&state),
        filter,
        raw,
        read_seq,
        key,
        waiting: VecDeque::new(),
        is_failing: false,
        _permit: permit,
    };
    // From the first moment on, whoever reconnects goes on here.
    live.mark();
    let events = stream::unfold(live, async |mut live| {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// A stream that goes on.
struct Live {
    state: Arc<State>,
    commits: watch::Receiver<u64>,
    filter: Filter,
    raw: Raw,
    read_seq: i64,
    key: Option<Key>,
    /// Read and not yet sent.
    waiting: VecDeque<Event>,
    /// Whether the last look failed, which was logged.
    is_failing: bool,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let shutdown = self.state.api.shutdown.clone();
            shutdown.run_until_cancelled(self.look()).await?;
        }
    }

    /// Reads what is new, or waits for it. Cancel safety: nothing is kept across awaits but what is
    /// in `self` after the page was read.
    async fn look(&mut self) {
        self.commits.borrow_and_update();
        let request = page::Request {
            filter: &self.filter,
            since: self.filter.since,
            after: self.key,
            limit: PAGE_ROWS,
        };
        match self.state.page(&request).await {
            Ok(page) => {
                self.is_failing = false;
                self.take(page);
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(?failure, "a stream waits: history cannot be read");
                }
            }
        }
        if self.waiting.is_empty() {
            self.news().await;
        }
    }

    /// Tells how far the stream has come, without an event.
    fn mark(&mut self) {
        if let Some(key) = self.key {
            let id = Cursor { since_ms: None, read_seq: self.read_seq, key }.encode(&self.filter);
            self.waiting.push_back(Event::default().id(id));
        }
    }

    fn take(&mut self, page: Page) {
        let has_moved = page.next.is_some_and(|next| Some(next) != self.key);
        let is_empty = page.rows.is_empty();
        for row in page.rows {
            let key = Key { first: row.xid as i64, chain_id: row.chain_id, seq: row.seq };
            let id = Cursor { since_ms: None, read_seq: self.read_seq, key }.encode(&self.filter);
            let event = Event::default().id(id).event("event");
            match event.json_data(view::event(row, self.raw)) {
                Ok(event) => self.waiting.push_back(event),
                Err(error) => warn!(%error, "an event cannot be written as json"),
            }
        }
        self.key = page.next.or(self.key);
        if is_empty && has_moved {
            self.mark();
        }
    }

    /// Waits until rows were written, or for a while.
    async fn news(&mut self) {
        sleep(REST).await;
        // Cancel safety: a change that is not waited for is seen by the next look.
        tokio::select! {
            changed = self.commits.changed() => if changed.is_err() {
                // Nobody tells any more.
                sleep(LOOK_EVERY).await;
            },
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

impl State {
    async fn horizon(&self) -> Result<i64, Failure> {
        let client = self.api.pool.get().await?;
        Ok(page::horizon(&**client).await?)
    }
}
