//! The table as its only publisher sees it.
//!
//! Invariant: all that is done to it is done on the connection that holds the lock, so whoever has
//! lost the lock has lost the connection, and removes nothing any more. The lock is the session's:
//! a pooler that gives each transaction another session is no way to reach Postgres.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::timeout;
use tokio_postgres::Error;

use super::Message;
use crate::fault::Fault;
use crate::kit::postgres::fault;

/// Longer than any statement; for a server that stands still with its connections open.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A holder that is silent for so long has lost its host or stands still: Postgres ends its session.
/// Longer than a batch may take.
const IDLE_MAX: Duration = Duration::from_secs(180);
/// The backlog is counted up to here.
const COUNT_MAX: i64 = 1_000_000;

/// A table whose only publisher we are, as long as the connection lives.
pub(super) struct Held {
    /// None while dropping.
    connection: Option<Object>,
    head: String,
    remove: String,
    refuse: String,
    backlog: String,
}

/// A row that waits.
pub(super) struct Row {
    pub(super) seq: i64,
    /// Or why it cannot be read.
    pub(super) message: Result<Message, String>,
}

/// What waits.
pub(super) struct Backlog {
    pub(super) rows: i64,
    pub(super) age_seconds: f64,
}

impl Held {
    /// Holds the table, unless somebody else does.
    pub(super) async fn take(pool: &Pool, table: &str) -> Result<Option<Self>, Fault> {
        let connection = pool.get().await.map_err(|error| fault::of_pool(&error))?;
        // From here on closed rather than given back: a statement may be under way.
        let held = Self {
            connection: Some(connection),
            head: format!(
                "select seq, key, value, headers::text from (
                     select *, sum(octet_length(key) + octet_length(value)) over (order by seq)
                         - octet_length(key) - octet_length(value) as bytes_before
                     from (select * from {table} where refused_at is null order by seq limit $1) as first
                 ) as measured where bytes_before < $2 order by seq"
            ),
            remove: format!("delete from {table} where seq = any($1)"),
            refuse: format!("update {table} set refused_at = now() where seq = any($1)"),
            backlog: format!(
                "select (select count(*) from (
                     select from {table} where refused_at is null limit {COUNT_MAX}) as counted),
                 coalesce((
                     select extract(epoch from now() - created_at)::float8 from {table}
                     where refused_at is null order by seq limit 1), 0)"
            ),
        };
        // By what the name means to this connection: two schemas may have a table of this name.
        let lock = "select pg_try_advisory_lock(
            hashtextextended('latchline outbox ' || $1::text::regclass::oid::text, 0))";
        let connection = held.connection()?;
        let is_ours = bounded(async {
            let statement = connection.prepare_cached(lock).await?;
            connection.query_one(&statement, &[&table]).await?.try_get(0)
        });
        if is_ours.await? {
            // Whoever is gone without a word lets go of the table. A holder asks each second.
            let forget = format!("set idle_session_timeout = '{}s'", IDLE_MAX.as_secs());
            bounded(held.connection()?.batch_execute(&forget)).await?;
            return Ok(Some(held));
        }
        held.give_back();
        Ok(None)
    }

    fn give_back(mut self) {
        drop(self.connection.take());
    }

    /// The first rows that wait: at most so many, and so many bytes beside the last of them.
    pub(super) async fn head(&self, rows_max: i64, bytes_max: i64) -> Result<Vec<Row>, Fault> {
        let connection = self.connection()?;
        bounded(async {
            let statement = connection.prepare_cached(&self.head).await?;
            let rows = connection.query(&statement, &[&rows_max, &bytes_max]).await?;
            rows.iter().map(row).collect()
        })
        .await
    }

    /// These are published.
    pub(super) async fn remove(&self, seqs: &[i64]) -> Result<(), Fault> {
        self.change(&self.remove, seqs).await
    }

    /// These will never be.
    pub(super) async fn refuse(&self, seqs: &[i64]) -> Result<(), Fault> {
        self.change(&self.refuse, seqs).await
    }

    pub(super) async fn backlog(&self) -> Result<Backlog, Fault> {
        let connection = self.connection()?;
        bounded(async {
            let statement = connection.prepare_cached(&self.backlog).await?;
            let row = connection.query_one(&statement, &[]).await?;
            Ok(Backlog { rows: row.try_get(0)?, age_seconds: row.try_get(1)? })
        })
        .await
    }

    async fn change(&self, sql: &str, seqs: &[i64]) -> Result<(), Fault> {
        if seqs.is_empty() {
            return Ok(());
        }
        let connection = self.connection()?;
        bounded(async {
            let statement = connection.prepare_cached(sql).await?;
            connection.execute(&statement, &[&seqs]).await.map(drop)
        })
        .await
    }

    fn connection(&self) -> Result<&Object, Fault> {
        self.connection.as_ref().ok_or(Fault::Bug("the connection was given back".into()))
    }
}

async fn bounded<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
    let late = |_| Fault::transient(format!("no answer within {TIMEOUT:?}"));
    timeout(TIMEOUT, question).await.map_err(late)?.map_err(|error| fault::of(&error))
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Closed: that gives the lock back, whatever is under way.
            drop(Object::take(connection));
        }
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, Error> {
    let headers = serde_json::from_str::<BTreeMap<String, String>>(row.try_get(3)?);
    let (key, value) = (row.try_get(1)?, row.try_get(2)?);
    let message = match headers {
        Ok(headers) => Ok(Message { key, value, headers: headers.into_iter().collect() }),
        Err(error) => Err(format!("headers: {error}")),
    };
    Ok(Row { seq: row.try_get(0)?, message })
}
