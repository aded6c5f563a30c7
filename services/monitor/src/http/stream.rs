//! `GET /v1/alarms/stream`: changes of alarms as they are written, as server-sent events.
//!
//! In the order of writing; how the kit's `live` goes along it is said there. The id of an event is
//! a cursor.

use std::sync::Arc;

use axum::extract::{Query, State as Extract};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use latchline_shared::kit::api::cursor;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::live::{Feed, Live, Page, last_event_id};
use latchline_shared::kit::api::page;
use latchline_shared::kit::api::params::{Params, bad};
use latchline_shared::kit::api::permit;
use latchline_shared::kit::http::problem::Problem;

use super::openapi::StreamParameters;
use super::{Pairs, Shared, State};
use crate::query::changes::{self, ChangeView, Filter, Key};

/// Changes that are read at once.
const PAGE_ROWS: usize = 100;

/// Changes of alarms as they are written.
///
/// Server-sent events `change`, each a `Change` as JSON, with a cursor as its id. Begins with what
/// is written from now on; with `Last-Event-ID` (or `after`) behind that change, so that nothing is
/// missed and nothing comes twice.
#[utoipa::path(get, path = "/v1/alarms/stream", tag = "alarms", params(StreamParameters),
    responses((status = 200, description = "The changes", content((String = "text/event-stream"))),
              (status = 429, description = "too many streams are open")))]
pub(super) async fn stream(
    Extract(state): Shared,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let mut params = Params::new(pairs);
    let filter = Filter::take(&mut params);
    let question = filter.to_string();
    let after = page::after(&mut params, &question);
    params.finish()?;
    let after: Option<Key> = match last_event_id(&headers) {
        Some(id) => {
            let decoded = cursor::decode(&question, id);
            Some(decoded.map_err(|error| bad(format!("Last-Event-ID: {error}")))?)
        }
        None => after,
    };
    let permit = permit(&state.streams, "streams")?;
    let after = match after {
        Some(key) => key,
        None => state.settled().await?,
    };
    let (news, shutdown) = (state.api.commits.clone(), state.api.shutdown.clone());
    let feed = Changes { state, filter, question };
    Ok(Live { feed, after: Some(after), news, shutdown, permit }.into_response())
}

/// The changes that a filter lets through.
struct Changes {
    state: Arc<State>,
    filter: Filter,
    question: String,
}

impl Feed for Changes {
    type Place = Key;
    type Event = ChangeView;
    type Failure = Failure;

    const NAME: &'static str = "change";

    async fn page(&self, after: Option<Key>) -> Result<Page<Key, ChangeView>, Failure> {
        let mut client = self.state.tables.client().await?;
        let transaction = self.state.tables.reading(&mut client).await?;
        let (events, next) = changes::as_written(&transaction, &self.filter, after, PAGE_ROWS).await?;
        Ok(Page { events, next })
    }

    fn id(&self, key: Key) -> String {
        cursor::encode(&self.question, &key)
    }
}

impl State {
    /// Where a stream begins that shows what is written from now on.
    async fn settled(&self) -> Result<Key, Failure> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        Ok(changes::now(&transaction).await?)
    }
}
