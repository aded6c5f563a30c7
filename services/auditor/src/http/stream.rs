//! `GET /v1/audit/stream`: events as they are written, as server-sent events.
//!
//! In the order of writing, as pages with `order=ingest`; how the kit's `live` goes along it is said
//! there. The id of an event is a cursor.

use std::sync::Arc;

use axum::extract::{Query, State as Extract};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use latchline_shared::kit::api::live::{Feed, Live, Page, last_event_id};
use latchline_shared::kit::api::params::{Params, bad};
use latchline_shared::kit::api::{openapi, permit};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::failure::Failure;
use super::openapi::{Lock, StreamFilter};
use super::reads::Read;
use super::{Shared, State};
use crate::event::Row;
use crate::query::cursor::{Cursor, Key};
use crate::query::filter::{Filter, Order};
use crate::query::page;
use crate::query::view::{self, EventView, Raw};

/// Events that are read at once.
const PAGE_ROWS: usize = 100;

/// `after`, `raw` and `Last-Event-ID`.
pub(super) struct StreamParameters;

impl IntoParams for StreamParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            openapi::text("after", "Id of the last event that was seen, as the header `Last-Event-ID`"),
            openapi::flag("raw", "Include the raw records"),
            openapi::last_event_id(),
        ]
    }
}

/// Events as they are written.
///
/// Server-sent events, each an `Event` as JSON, with a cursor as its id. Begins with what is written
/// from now on; with `since`, with what was written before, too; with `Last-Event-ID` (or `after`)
/// behind that event. The stream is a read and becomes an event itself; going on with it does not.
#[utoipa::path(get, path = "/v1/audit/stream", tag = "history",
    params(Lock, StreamFilter, StreamParameters),
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
    let after = match last_event_id(&headers) {
        Some(id) => {
            let decoded = Cursor::decode(id, &filter);
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
    let feed = History { state: Arc::clone(&state), filter, raw, read_seq };
    let (news, shutdown) = (state.api.commits.clone(), state.api.shutdown.clone());
    Ok(Live { feed, after: key, news, shutdown, permit }.into_response())
}

/// The rows of a filter, in the order of writing.
struct History {
    state: Arc<State>,
    filter: Filter,
    raw: Raw,
    read_seq: i64,
}

impl Feed for History {
    type Place = Key;
    type Event = EventView;
    type Failure = Failure;

    const NAME: &'static str = "event";

    async fn page(&self, after: Option<Key>) -> Result<Page<Key, EventView>, Failure> {
        let request =
            page::Request { filter: &self.filter, since: self.filter.since, after, limit: PAGE_ROWS };
        let page = self.state.page(&request).await?;
        let key = |row: &Row| Key { first: row.xid as i64, chain_id: row.chain_id, seq: row.seq };
        let events = page.rows.into_iter().map(|row| (key(&row), view::event(row, self.raw))).collect();
        Ok(Page { events, next: page.next })
    }

    fn id(&self, key: Key) -> String {
        Cursor { since_ms: None, read_seq: self.read_seq, key }.encode(&self.filter)
    }
}

impl State {
    async fn horizon(&self) -> Result<i64, Failure> {
        let client = self.tables.client().await?;
        Ok(page::horizon(&**client).await?)
    }
}
