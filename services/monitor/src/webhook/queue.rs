//! The table `webhook` as a queue.
//!
//! Rows are leased by moving their next attempt behind the end of the lease; whoever leased them may
//! die. Ordering: nothing is taken while anything is leased or waits for another attempt, and one
//! instance looks at a time, so rows leave in the order in which they came.

use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use serde_json::Value;
use tokio_postgres::types::Type;

/// Rows that are counted one by one.
const COUNT_MAX: i64 = 100_000;

/// An alert that is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its place in the order.
    pub seq: i64,
    /// The alert.
    pub body: Value,
    /// Which attempt this is, from 1.
    pub attempts: i32,
    /// How long ago it was written.
    pub age: Duration,
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Rows, as far as they are counted.
    pub rows: i64,
    /// Age of the oldest.
    pub age_seconds: f64,
}

/// Leases the oldest rows, if their time has come.
pub async fn take(pool: &Pool, rows_max: usize, lease: Duration) -> Result<Vec<Row>, Fault> {
    let mut client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let taken = async {
        let transaction = client.transaction().await?;
        // By what the name means to this connection: two schemas may have a table of this name.
        let lock = "select pg_try_advisory_xact_lock( \
             hashtextextended('latchline webhook ' || 'webhook'::regclass::oid::text, 0))";
        if !transaction.query_typed_one(lock, &[]).await?.try_get(0)? {
            return Ok(Vec::new());
        }
        let update = "update webhook set attempts = attempts + 1, next_attempt_at = now() + $2 * interval '1 second' \
             where seq in (select seq from webhook \
                 where not exists (select from webhook where next_attempt_at > now()) \
                 order by seq limit $1 for update skip locked) \
             returning seq, body, attempts, greatest(0, extract(epoch from now() - created_at))::float8";
        let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let rows = transaction
            .query_typed(update, &[(&rows_max, Type::INT8), (&lease.as_secs_f64(), Type::FLOAT8)])
            .await?;
        let rows = rows.iter().map(of_row).collect::<Result<Vec<_>, _>>()?;
        transaction.commit().await?;
        Ok(rows)
    };
    let mut rows: Vec<Row> = taken.await.map_err(|error| fault::of(&error))?;
    rows.sort_unstable_by_key(|row| row.seq);
    Ok(rows)
}

/// Removes rows that are done with.
pub async fn remove(pool: &Pool, rows: &[Row]) -> Result<(), Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let delete = "delete from webhook where seq = any($1)";
    let done = client.execute_typed(delete, &[(&seqs(rows), Type::INT8_ARRAY)]).await;
    done.map(drop).map_err(|error| fault::of(&error))
}

/// Ends the lease of rows, and tries them again after a while.
pub async fn wait(pool: &Pool, rows: &[Row], delay: Duration) -> Result<(), Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let update = "update webhook set next_attempt_at = now() + $2 * interval '1 second' where seq = any($1)";
    let done = client
        .execute_typed(update, &[(&seqs(rows), Type::INT8_ARRAY), (&delay.as_secs_f64(), Type::FLOAT8)])
        .await;
    done.map(drop).map_err(|error| fault::of(&error))
}

/// What waits, or is under way.
pub async fn backlog(pool: &Pool) -> Result<Backlog, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let select = format!(
        "select (select count(*) from (select from webhook limit {COUNT_MAX}) counted), \
         coalesce((select extract(epoch from now() - created_at)::float8 from webhook order by seq limit 1), 0)"
    );
    let measured = async {
        let row = client.query_typed_one(&select, &[]).await?;
        Ok::<_, tokio_postgres::Error>(Backlog { rows: row.try_get(0)?, age_seconds: row.try_get(1)? })
    };
    measured.await.map_err(|error| fault::of(&error))
}

fn seqs(rows: &[Row]) -> Vec<i64> {
    rows.iter().map(|row| row.seq).collect()
}

fn of_row(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    Ok(Row {
        seq: row.try_get(0)?,
        body: row.try_get(1)?,
        attempts: row.try_get(2)?,
        age: Duration::try_from_secs_f64(row.try_get(3)?).unwrap_or_default(),
    })
}
