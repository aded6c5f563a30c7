//! `GET /v1/audit/export`: the history as a file, streamed.
//!
//! An export is one snapshot, read in pages by key over a connection that leaves the pool, so it
//! holds up nobody and takes the memory of one page. The next page is read when the client has
//! taken the last one.
//!
//! Invariant: an export that fails breaks its connection off: what has a proper end is whole.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State as Extract};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::{ClientWrapper, Object};
use futures_util::stream;
use jiff::Timestamp;
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::api::{openapi, permit};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::failure::Failure;
use super::openapi::{ExportFilter, Lock};
use super::reads::Read;
use super::{Shared, State};
use crate::ndjson;
use crate::query::csv::Sheet;
use crate::query::cursor::Key;
use crate::query::filter::{Filter, Order};
use crate::query::page::{self, Page};

/// Rows that are read at once.
const PAGE_ROWS: usize = 500;
/// How long a client may take for a page before its snapshot is given up.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The form of a file.
#[derive(Debug, Clone, Copy)]
enum Format {
    Ndjson,
    Csv,
}

const FORMATS: [(&str, Format); 2] = [("ndjson", Format::Ndjson), ("csv", Format::Csv)];

/// `format`, `order`, `raw` and `bom`.
pub(super) struct ExportParameters;

impl IntoParams for ExportParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            openapi::word("format", "`ndjson` by default", FORMATS.map(|(name, _)| name)),
            openapi::word("order", "`asc` by default", ["asc", "desc"]),
            openapi::flag("raw", "Include the raw records in CSV; NDJSON always has them"),
            openapi::flag("bom", "Begin CSV with a byte order mark, for Excel"),
        ]
    }
}

/// The history as a file.
///
/// NDJSON holds everything that `latchline-auditor verify` needs. CSV is for spreadsheets: a text
/// that one would execute (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return) gets a `'`
/// in front. If the connection breaks off, the file is not whole. Needs the scope `export`, and is
/// an event itself.
#[utoipa::path(get, path = "/v1/audit/export", tag = "history",
    params(Lock, ExportFilter, ExportParameters),
    responses((status = 200, description = "The file", content(
        (String = "application/x-ndjson"), (String = "text/csv"))),
        (status = 429, description = "too many exports run")))]
pub(super) async fn export(
    Extract(state): Shared,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let mut params = Params::new(pairs);
    let client_id = params.text("client_id");
    let filter = Filter { client_id, ..Filter::take(&mut params, &[Order::Ascending, Order::Descending]) };
    let format = params.word("format", &FORMATS).unwrap_or(Format::Ndjson);
    let (has_raw, has_bom) = (params.flag("raw"), params.flag("bom"));
    params.finish()?;
    let permit = permit(&state.exports, "exports")?;

    let name = match format {
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    };
    let client_id = filter.client_id.as_deref().unwrap_or_default();
    let query = format!("format={name}&{filter}");
    state.record(&Read { caller: &caller, operation: "export", client_id, query }, None).await?;
    let snapshot = state.snapshot().await?;
    let (writer, content_type, file_name) = match format {
        Format::Ndjson => (Writer::Ndjson, "application/x-ndjson", "history.ndjson"),
        Format::Csv => {
            let sheet = Sheet::new(has_raw, has_bom);
            (Writer::Csv(sheet), "text/csv; charset=utf-8; header=present", "history.csv")
        }
    };
    let export = Export {
        snapshot,
        since: filter.since(Timestamp::now()),
        filter,
        after: None,
        writer,
        until: Instant::now() + state.api.limits.export_timeout,
        shutdown: state.api.shutdown.clone(),
        _permit: permit,
    };
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{file_name}\""))
        .map_err(|error| Problem::from(anyhow::Error::new(error)))?;
    let body = Body::from_stream(stream::unfold(Some(export), next_chunk));
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(content_type)), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, body).into_response())
}

impl State {
    /// A connection of its own, that sees the history as it is now.
    pub(super) async fn snapshot(&self) -> Result<ClientWrapper, Failure> {
        // Out of the pool, so that it is closed with the export, wherever that ends.
        let client = Object::take(self.api.pool.get().await?);
        let query_ms = self.api.limits.query_timeout.as_millis();
        let idle_ms = IDLE_MAX.as_millis();
        let begin = format!(
            "begin isolation level repeatable read, read only; \
             set local statement_timeout = {query_ms}; \
             set local idle_in_transaction_session_timeout = {idle_ms}"
        );
        client.batch_execute(&begin).await?;
        Ok(client)
    }
}

enum Writer {
    Ndjson,
    Csv(Sheet),
}

impl Writer {
    fn write(&mut self, page: &Page) -> Result<Vec<u8>, csv::Error> {
        match self {
            Self::Ndjson => {
                let mut out = Vec::new();
                page.rows.iter().for_each(|row| ndjson::write(row, &mut out));
                Ok(out)
            }
            Self::Csv(sheet) => sheet.write(&page.rows),
        }
    }
}

/// An export that goes on.
struct Export {
    snapshot: ClientWrapper,
    filter: Filter,
    since: Option<Timestamp>,
    after: Option<Key>,
    writer: Writer,
    until: Instant,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the server ends")]
    Shutdown,
    #[error("it took too long")]
    TooLong,
    #[error("a page cannot be read")]
    Read(#[from] page::ReadError),
    #[error("a row cannot be written")]
    Csv(#[from] csv::Error),
}

/// One step of the body. An error breaks the connection off.
async fn next_chunk(export: Option<Export>) -> Option<(Result<Vec<u8>, Broken>, Option<Export>)> {
    let mut export = export?;
    match export.chunk().await {
        Ok((chunk, true)) => Some((Ok(chunk), Some(export))),
        Ok((chunk, false)) => Some((Ok(chunk), None)),
        Err(broken) => {
            warn!(error = &broken as &dyn std::error::Error, "export broke off");
            Some((Err(broken), None))
        }
    }
}

impl Export {
    /// The next part, and whether there is another one.
    async fn chunk(&mut self) -> Result<(Vec<u8>, bool), Broken> {
        let request =
            page::Request { filter: &self.filter, since: self.since, after: self.after, limit: PAGE_ROWS };
        // Cancel safety: the connection is given up if reading is.
        let page = tokio::select! {
            () = self.shutdown.cancelled() => return Err(Broken::Shutdown),
            () = tokio::time::sleep_until(self.until) => return Err(Broken::TooLong),
            page = page::read(&*self.snapshot, &request) => page?,
        };
        self.after = page.next;
        Ok((self.writer.write(&page)?, page.next.is_some()))
    }
}
