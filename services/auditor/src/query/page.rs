//! A page of events out of Postgres, by key and never by number: page 1000 costs what page 1 does,
//! and rows that arrive meanwhile move nothing.
//!
//! Statements are put together from the texts in here and planned for the values that are asked for
//! (unnamed statements), because the partial indexes serve some values only.

use jiff::Timestamp;
use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient};

use super::cursor::Key;
use super::filter::{Filter, Order};
use crate::event::Row;
use crate::history::{self, Unreadable};

/// What to read.
#[derive(Debug)]
pub struct Request<'a> {
    /// Which events, and in which order.
    pub filter: &'a Filter,
    /// Not before then.
    pub since: Option<Timestamp>,
    /// Behind this row.
    pub after: Option<Key>,
    /// At most so many.
    pub limit: usize,
}

/// What was read.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub rows: Vec<Row>,
    /// Where the next page begins, if there may be more.
    pub next: Option<Key>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Postgres does not answer it.
    #[error(transparent)]
    Postgres(#[from] Error),
    /// A row is not what was written.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Reads a page.
pub async fn read(client: &(impl GenericClient + Sync), request: &Request<'_>) -> Result<Page, ReadError> {
    // Asked first: all that is older than this is done now, so the statement that follows sees it.
    let horizon = match request.filter.order {
        Order::Ingest => Some(horizon(client).await?),
        Order::Ascending | Order::Descending => None,
    };
    let statement = statement(request, horizon);
    let rows = client.query_typed(&statement.text, &statement.values()).await?;
    let mut rows = rows.iter().map(history::row).collect::<Result<Vec<_>, _>>()?;
    let has_more = rows.len() > request.limit;
    rows.truncate(request.limit);
    let last = rows.last().map(|row| key(row, request.filter.order));
    let next = match horizon {
        _ if has_more => last,
        // Everything before the horizon has been seen, whether or not the filter let it through.
        Some(horizon) => request.after.max(Some(Key::before_transaction(horizon))),
        None => None,
    };
    Ok(Page { rows, next })
}

/// The oldest transaction that still runs, anywhere on the server: what is older is there or never
/// will be.
pub async fn horizon(client: &(impl GenericClient + Sync)) -> Result<i64, Error> {
    let sql = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// Where a row stands in an order.
fn key(row: &Row, order: Order) -> Key {
    let first = match order {
        Order::Ascending | Order::Descending => row.event.occurred_at_ms,
        Order::Ingest => row.xid as i64,
    };
    Key { first, chain_id: row.chain_id, seq: row.seq }
}

/// The statement of a page, which asks for one row more to see whether there are more.
pub(crate) fn statement(request: &Request<'_>, horizon: Option<i64>) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {} from auditor.event where true", history::COLUMNS));
    push_filter(&mut statement, request);
    let order = match request.filter.order {
        Order::Descending => "occurred_at desc, chain_id desc, seq desc",
        Order::Ascending => "occurred_at, chain_id, seq",
        Order::Ingest => "xid, chain_id, seq",
    };
    if let Some(horizon) = horizon {
        statement.and("xid < ", horizon, Type::INT8, "::text::xid8");
    }
    if let Some(after) = request.after {
        push_after(&mut statement, after, request.filter.order);
    }
    let limit = statement.bind(request.limit as i64 + 1, Type::INT8);
    statement.push(&format!(" order by {order} limit {limit}"));
    statement
}

fn push_filter(statement: &mut Statement, request: &Request<'_>) {
    let filter = request.filter;
    for (column, value) in [
        ("client_id", &filter.client_id),
        ("process_id", &filter.process_id),
        ("action", &filter.action),
        ("verdict", &filter.verdict),
        ("publisher", &filter.publisher),
    ] {
        if let Some(value) = value {
            statement.and(&format!("{column} = "), value.clone(), Type::TEXT, "");
        }
    }
    if let Some(kind) = filter.kind {
        statement.and("kind = ", kind.name(), Type::TEXT, "");
    }
    if let Some(direction) = filter.direction {
        statement.and("direction = ", direction.name(), Type::TEXT, "");
    }
    if let Some(finding) = &filter.finding {
        // The first half is for the index of the few rows that have any.
        statement.and("findings <> '{}' and findings @> array[", finding.clone(), Type::TEXT, "]");
    }
    if let Some(severity) = filter.min_severity {
        statement.and("severity >= ", severity.level(), Type::INT2, "");
    }
    if let Some(since) = request.since {
        statement.and("occurred_at >= ", since, Type::TIMESTAMPTZ, "");
    }
    if let Some(until) = filter.until {
        statement.and("occurred_at < ", until, Type::TIMESTAMPTZ, "");
    }
}

fn push_after(statement: &mut Statement, after: Key, order: Order) {
    let (columns, comparison, first) = match order {
        Order::Ingest => {
            ("xid, chain_id, seq", ">", statement.bind(after.first, Type::INT8) + "::text::xid8")
        }
        Order::Ascending | Order::Descending => {
            let comparison = if order == Order::Ascending { ">" } else { "<" };
            // A time out of range is no row's; it was made up.
            let time = Timestamp::from_millisecond(after.first).unwrap_or_default();
            // Said apart, because partitions are left out by this and not by the comparison of rows.
            statement.and(&format!("occurred_at {comparison}= "), time, Type::TIMESTAMPTZ, "");
            ("occurred_at, chain_id, seq", comparison, statement.bind(time, Type::TIMESTAMPTZ))
        }
    };
    let chain_id = statement.bind(after.chain_id, Type::INT2);
    let seq = statement.bind(after.seq, Type::INT8);
    statement.push(&format!(" and ({columns}) {comparison} ({first}, {chain_id}, {seq})"));
}
