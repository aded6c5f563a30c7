//! `GET /v1/audit/events` and `GET /v1/audit/locks/{id}/timeline`: events in pages.

use axum::extract::{Path, Query, State as Extract};
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use latchline_shared::kit::api;
use latchline_shared::kit::api::page::Place;
use latchline_shared::kit::api::params::{self, Params};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::Serialize;
use utoipa::ToSchema;

use super::failure::Failure;
use super::openapi::{Cursor as CursorParameter, Lock, PageFilter, PageParameters, UNREADABLE};
use super::reads::Read;
use super::{Shared, State};
use crate::query::cursor::Cursor;
use crate::query::filter::{Filter, Order};
use crate::query::page::{self, Page};
use crate::query::view::{self, EventView, Raw};

type Pairs = Query<Vec<(String, String)>>;

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    /// The events.
    events: Vec<EventView>,
    /// What to give as `after` for the next page; null if there is none. With `order=ingest` there
    /// always is one.
    next: Option<String>,
}

/// Events, by time or as they were written.
///
/// Goes back 7 days from `until` unless `since` is given; `order=ingest` has no such default. Follow
/// `next`, or `Link` with `rel="next"`, for more. With `order=ingest` each event comes once,
/// however late its transaction ends; ask again with `next` after an empty page. The read itself
/// becomes an event; pages that continue it do not.
#[utoipa::path(get, path = "/v1/audit/events", tag = "history",
    params(Lock, PageFilter, CursorParameter, PageParameters),
    responses((status = 200, body = Events,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`"))),
              (status = 500, description = UNREADABLE)))]
pub(super) async fn events(
    Extract(state): Shared,
    caller: Caller,
    uri: Uri,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let client_id = params.text("client_id");
    list(&state, &caller, "events", client_id, params, &Place { uri, pairs }).await
}

/// Events of one lock.
///
/// As `/v1/audit/events` with `client_id`.
#[utoipa::path(get, path = "/v1/audit/locks/{id}/timeline", tag = "history",
    params(("id" = String, Path, description = "The lock"), PageFilter, CursorParameter, PageParameters),
    responses((status = 200, body = Events,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`"))),
              (status = 500, description = UNREADABLE)))]
pub(super) async fn timeline(
    Extract(state): Shared,
    caller: Caller,
    uri: Uri,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let id = params::id("id", id)?;
    let params = Params::new(pairs.clone());
    list(&state, &caller, "timeline", Some(id), params, &Place { uri, pairs }).await
}

async fn list(
    state: &State,
    caller: &Caller,
    operation: &'static str,
    client_id: Option<String>,
    mut params: Params,
    place: &Place,
) -> Result<Response, Problem> {
    let orders = [Order::Descending, Order::Ascending, Order::Ingest];
    let filter = Filter { client_id, ..Filter::take(&mut params, &orders) };
    let limit = api::page::limit(&mut params);
    let raw = if params.flag("raw") { Raw::Included } else { Raw::Omitted };
    let after =
        params.parsed("after", |text| Cursor::decode(text, &filter).map_err(|error| error.to_string()));
    params.finish()?;

    let since = match after {
        Some(cursor) => cursor.since_ms.and_then(|since| Timestamp::from_millisecond(since).ok()),
        None => filter.since(Timestamp::now()),
    };
    let client_id = filter.client_id.as_deref().unwrap_or_default();
    // The bound that is the default is written down, too: a cursor that goes back behind it is of
    // another read.
    let query = match since.filter(|_| filter.since.is_none()) {
        Some(since) => format!("{filter}&since_default={}", since.as_millisecond()),
        None => filter.to_string(),
    };
    let read = Read { caller, operation, client_id, query };
    let read_seq = state.record(&read, after.map(|cursor| cursor.read_seq)).await?;
    let request = page::Request { filter: &filter, since, after: after.map(|cursor| cursor.key), limit };
    let page = state.page(&request).await?;
    let since_ms = since.map(Timestamp::as_millisecond);
    let next = page.next.map(|key| Cursor { since_ms, read_seq, key }.encode(&filter));
    let events = page.rows.into_iter().map(|row| view::event(row, raw)).collect();
    Ok(place.answer(Events { events, next: next.clone() }, next.as_deref()))
}

impl State {
    /// Reads a page, within the time of a query.
    pub(super) async fn page(&self, request: &page::Request<'_>) -> Result<Page, Failure> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        Ok(page::read(&transaction, request).await?)
    }
}
