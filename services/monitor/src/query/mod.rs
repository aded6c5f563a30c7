//! Questions about alarms and locks: what may be asked, and how it becomes SQL.
//!
//! Pages are read by key and never by number: page 1000 costs what page 1 does, and rows that
//! arrive meanwhile move nothing. Where a page ended is a [`cursor`]; rows go out as [`view`]s.
//! Names of tables are not qualified: the pool's search path says which schema is asked.
//!
//! Invariant: text of a request never becomes text of a statement; it is bound.

pub mod view;

pub mod alarms;
pub mod battery;
pub mod changes;
pub mod fleet;
pub mod locks;
pub mod silences;

use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};

/// What was read, and whether there is more behind it.
#[derive(Debug)]
pub struct Page<T> {
    /// What was read.
    pub rows: Vec<T>,
    /// Whether there is more.
    pub has_more: bool,
}

/// Reads a page of `limit` rows by a statement that has no limit yet.
async fn page<T>(
    client: &(impl GenericClient + Sync),
    mut statement: Statement,
    limit: usize,
    of_row: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Page<T>, Error> {
    // One row more than is asked for shows whether there are more.
    let rows_max = statement.bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1), Type::INT8);
    statement.push(&format!(" limit {rows_max}"));
    let rows = client.query_typed(&statement.text, &statement.values()).await?;
    let has_more = rows.len() > limit;
    let rows = rows.iter().take(limit).map(of_row).collect::<Result<_, _>>()?;
    Ok(Page { rows, has_more })
}
