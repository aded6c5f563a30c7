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

use std::sync::Arc;

use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Transaction};

use crate::lane::Lane;
use crate::rule::load::Rules;

/// Most rows in one statement.
const ROWS_MAX: usize = 4_000;

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A lane as it is stored; `stream` is the one of reports.
pub async fn load(
    transaction: &Transaction<'_>,
    number: i32,
    stream: &str,
    rules: Arc<Rules>,
) -> Result<Box<Lane>, Fault> {
    let known = lane::load(transaction, number).await?;
    let mut lane = Box::new(Lane::new(number, stream.into(), known, rules));
    locks::load(transaction, number, |row| lane.insert(&row)).await?;
    Ok(lane)
}

/// Writes what has changed of a lane, unless somebody else has written since it was read.
pub async fn save(transaction: &Transaction<'_>, number: i32, lane: &mut Lane) -> Result<(), Fault> {
    let (view, days) = (lane.view(), lane.take_days());
    let mut memories = String::new();
    let rows = lane.rows(&mut memories);
    // Statements of one connection: they go out together and are done one after the other.
    let (is_ours, locks, battery) = tokio::join!(
        lane::save(transaction, number, &view),
        locks::save(transaction, number, &rows),
        battery::save(transaction, &days),
    );
    let (is_ours, _) = fault::both(is_ours, fault::both(locks, battery))?;
    if is_ours { Ok(()) } else { Err(Fault::transient(format!("lane {number} is not as it is remembered"))) }
}

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
