//! `GET /v1/audit/processes/{process_id}`: how a command went, from its delivery to its result.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use jiff::Timestamp;
use latchline_shared::kit::api::params::{self, Params};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};
use utoipa::ToSchema;

use super::failure::Failure;
use super::openapi::{Lock, UNREADABLE};
use super::reads::Read;
use super::{Shared, State};
use crate::query::filter::{Filter, Order};
use crate::query::page::{self, Page};
use crate::query::view::{self, EventView, Raw};

/// Most events, and most locks, of an answer.
const EVENTS_MAX: usize = 1000;

/// A process id, and what happened under it at each lock.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Processes {
    /// The id.
    process_id: String,
    /// One for each lock that knows the id.
    processes: Vec<Process>,
    /// Whether this is everything; else ask `/v1/audit/events` with `process_id` and `since`, or
    /// `order=ingest`.
    complete: bool,
}

/// How a command went at one lock.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Process {
    /// The lock.
    client_id: String,
    /// What was commanded; while no command is known, what was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// Nonce of the first command that verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce_str: Option<String>,
    /// When the first command that verified says that it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    commanded_at: Option<String>,
    /// When the lock acknowledged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    delivered_at: Option<String>,
    /// When the lock reported the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    reported_at: Option<String>,
    /// `ok`, `failed` or `denied`; not there while there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// Verdict of the first command that verified; while none did, of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    /// What happened, oldest first.
    events: Vec<EventView>,
}

/// How a command went, from its delivery to its result.
///
/// An id may be used at several locks; `client_id` chooses one.
#[utoipa::path(get, path = "/v1/audit/processes/{process_id}", tag = "history",
    params(("process_id" = String, Path, description = "The process"), Lock),
    responses((status = 200, body = Processes), (status = 404, description = "nobody knows the process"),
              (status = 500, description = UNREADABLE)))]
pub(super) async fn process(
    Extract(state): Shared,
    caller: Caller,
    Path(process_id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Processes>, Problem> {
    let process_id = params::id("process_id", process_id)?;
    let mut params = Params::new(pairs);
    let client_id = params.text("client_id");
    params.finish()?;
    let order = Order::Ascending;
    let filter = Filter { client_id, process_id: Some(process_id.clone()), order, ..Filter::default() };

    let asked_for = filter.client_id.as_deref().unwrap_or_default();
    let read =
        Read { caller: &caller, operation: "process", client_id: asked_for, query: filter.to_string() };
    state.record(&read, None).await?;
    let (known, page) = state.process(&filter, &process_id).await?;
    if known.is_empty() && page.rows.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "nobody knows this process"));
    }
    let complete = page.next.is_none() && known.len() < EVENTS_MAX;
    Ok(Json(Processes { process_id, processes: join(known, page), complete }))
}

impl State {
    async fn process(&self, filter: &Filter, process_id: &str) -> Result<(Vec<Process>, Page), Failure> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let known = known(&transaction, process_id, filter.client_id.as_deref()).await?;
        let request = page::Request { filter, since: None, after: None, limit: EVENTS_MAX };
        Ok((known, page::read(&transaction, &request).await?))
    }
}

/// What the joined rows say. They are kept for a shorter time than the history.
async fn known(
    transaction: &Transaction<'_>,
    process_id: &str,
    client_id: Option<&str>,
) -> Result<Vec<Process>, Failure> {
    let select = "select client_id, action, nonce_str, commanded_at, delivered_at, reported_at, outcome, verdict \
         from auditor.process where process_id = $1 and ($2::text is null or client_id = $2) \
         order by client_id limit $3";
    let limit = EVENTS_MAX as i64;
    let rows = transaction
        .query_typed(select, &[(&process_id, Type::TEXT), (&client_id, Type::TEXT), (&limit, Type::INT8)])
        .await?;
    rows.iter().map(|row| Ok(of_row(row)?)).collect()
}

fn of_row(row: &Row) -> Result<Process, tokio_postgres::Error> {
    let time = |index| {
        let time: Option<Timestamp> = row.try_get(index)?;
        Ok::<_, tokio_postgres::Error>(time.map(|time| view::time_ms(time.as_millisecond())))
    };
    Ok(Process {
        client_id: row.try_get(0)?,
        action: row.try_get(1)?,
        nonce_str: row.try_get(2)?,
        commanded_at: time(3)?,
        delivered_at: time(4)?,
        reported_at: time(5)?,
        outcome: row.try_get(6)?,
        verdict: row.try_get(7)?,
        events: Vec::new(),
    })
}

/// The events of each lock beside what is known of it.
fn join(known: Vec<Process>, page: Page) -> Vec<Process> {
    let mut processes: BTreeMap<String, Process> =
        known.into_iter().map(|process| (process.client_id.clone(), process)).collect();
    for row in page.rows {
        let client_id = row.event.client_id.clone();
        let process =
            processes.entry(client_id.clone()).or_insert_with(|| Process { client_id, ..Process::default() });
        process.events.push(view::event(row, Raw::Omitted));
    }
    processes.into_values().collect()
}
