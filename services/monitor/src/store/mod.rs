//! Locks, their batteries and the view of a lane, in Postgres.
//!
//! Each function is a constant number of statements, however many locks there are: rows go in as
//! arrays, some thousand at once. Statements are sent with their types, so that each is one round
//! trip. Names have no schema: the connection's search path says which tables these are.
//!
//! Invariant: rows are written in the order of their keys.

pub mod battery;
pub mod lane;
pub mod locks;

use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

/// Most rows in one statement.
const ROWS_MAX: usize = 4_000;

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

fn failed(error: Error) -> Fault {
    fault::of(&error)
}

/// Times come from records, and are of this century; what is computed from them is not far away.
fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn ms(row: &Row, index: usize) -> Result<i64, Fault> {
    row.try_get(index).map(Timestamp::as_millisecond).map_err(failed)
}

fn optional_ms(row: &Row, index: usize) -> Result<Option<i64>, Fault> {
    let at: Option<Timestamp> = row.try_get(index).map_err(failed)?;
    Ok(at.map(Timestamp::as_millisecond))
}
