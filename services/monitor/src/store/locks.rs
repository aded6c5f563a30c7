//! The present state of locks: read when a lane begins, written with every batch.

use std::pin::pin;

use futures_util::TryStreamExt;
use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::{ROWS_MAX, failed, ms, optional_ms, time};

/// A row of `lock_current`, but for its lane.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The lock.
    pub client_id: &'a str,
    /// Canonical name of its state.
    pub lock_state: &'a str,
    /// The state as the lock numbers it.
    pub lock_state_raw: Option<i64>,
    /// Since when.
    pub since_ms: i64,
    /// Percent.
    pub battery: Option<f32>,
    /// When it said so.
    pub battery_at_ms: Option<i64>,
    /// Raw text.
    pub version: Option<&'a str>,
    /// Time of the newest report.
    pub last_report_at_ms: i64,
    /// Its place.
    pub last_offset: i64,
    /// Whether the lock is heard.
    pub online: bool,
    /// Since when it is, or is not.
    pub online_since_ms: i64,
    /// When the first delay ends.
    pub pending_at_ms: Option<i64>,
    /// What the rules remember: JSON.
    pub memory: &'a str,
}

const LOAD: &str = "select client_id, lock_state, lock_state_raw, since, battery, battery_at, version,
        last_report_at, last_offset, online, online_since, pending_at, memory::text
    from lock_current where partition = $1";

// Most rows are there. What changes with every report is in no index, so that the new row stays on
// the page of the old one. Where partitions were added, a lock may be in two lanes for a while: the one
// that hears of it writes.
const SAVE: &str = "insert into lock_current
        (client_id, partition, lock_state, lock_state_raw, since, battery, battery_at, version,
         last_report_at, last_offset, online, online_since, pending_at, memory)
    select client_id, $1, lock_state, lock_state_raw, since, battery, battery_at, version,
        last_report_at, last_offset, online, online_since, pending_at, memory::json
    from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) as row
        (client_id, lock_state, lock_state_raw, since, battery, battery_at, version,
         last_report_at, last_offset, online, online_since, pending_at, memory)
    on conflict (client_id) do update set
        partition = excluded.partition, lock_state = excluded.lock_state,
        lock_state_raw = excluded.lock_state_raw, since = excluded.since, battery = excluded.battery,
        battery_at = excluded.battery_at, version = excluded.version,
        last_report_at = excluded.last_report_at, last_offset = excluded.last_offset,
        online = excluded.online, online_since = excluded.online_since,
        pending_at = excluded.pending_at, memory = excluded.memory
    where lock_current.partition = excluded.partition
        or lock_current.last_report_at <= excluded.last_report_at";

/// Reads all locks of a lane, each as it comes.
pub async fn load(
    transaction: &Transaction<'_>,
    lane: i32,
    mut take: impl FnMut(Row<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let rows = transaction.query_typed_raw(LOAD, [(lane, Type::INT4)]).await.map_err(failed)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        take(read(&row)?)?;
    }
    Ok(())
}

fn read(row: &tokio_postgres::Row) -> Result<Row<'_>, Fault> {
    Ok(Row {
        client_id: row.try_get(0).map_err(failed)?,
        lock_state: row.try_get(1).map_err(failed)?,
        lock_state_raw: row.try_get(2).map_err(failed)?,
        since_ms: ms(row, 3)?,
        battery: row.try_get(4).map_err(failed)?,
        battery_at_ms: optional_ms(row, 5)?,
        version: row.try_get(6).map_err(failed)?,
        last_report_at_ms: ms(row, 7)?,
        last_offset: row.try_get(8).map_err(failed)?,
        online: row.try_get(9).map_err(failed)?,
        online_since_ms: ms(row, 10)?,
        pending_at_ms: optional_ms(row, 11)?,
        memory: row.try_get(12).map_err(failed)?,
    })
}

/// Writes the locks of a lane that changed. `rows` is in the order of ids, each of them once.
pub async fn save(transaction: &Transaction<'_>, lane: i32, rows: &[Row<'_>]) -> Result<(), Fault> {
    for rows in rows.chunks(ROWS_MAX) {
        save_some(transaction, lane, rows).await?;
    }
    Ok(())
}

async fn save_some(transaction: &Transaction<'_>, lane: i32, rows: &[Row<'_>]) -> Result<(), Fault> {
    let at = |ms: Option<i64>| ms.map(time);
    let ids: Vec<_> = rows.iter().map(|row| row.client_id).collect();
    let states: Vec<_> = rows.iter().map(|row| row.lock_state).collect();
    let raw: Vec<_> = rows.iter().map(|row| row.lock_state_raw).collect();
    let since: Vec<_> = rows.iter().map(|row| time(row.since_ms)).collect();
    let batteries: Vec<_> = rows.iter().map(|row| row.battery).collect();
    let batteries_at: Vec<_> = rows.iter().map(|row| at(row.battery_at_ms)).collect();
    let versions: Vec<_> = rows.iter().map(|row| row.version).collect();
    let reports_at: Vec<_> = rows.iter().map(|row| time(row.last_report_at_ms)).collect();
    let offsets: Vec<_> = rows.iter().map(|row| row.last_offset).collect();
    let online: Vec<_> = rows.iter().map(|row| row.online).collect();
    let online_since: Vec<_> = rows.iter().map(|row| time(row.online_since_ms)).collect();
    let pending: Vec<_> = rows.iter().map(|row| at(row.pending_at_ms)).collect();
    let memories: Vec<_> = rows.iter().map(|row| row.memory).collect();
    transaction
        .execute_typed(
            SAVE,
            &[
                (&lane, Type::INT4),
                (&ids, Type::TEXT_ARRAY),
                (&states, Type::TEXT_ARRAY),
                (&raw, Type::INT8_ARRAY),
                (&since, Type::TIMESTAMPTZ_ARRAY),
                (&batteries, Type::FLOAT4_ARRAY),
                (&batteries_at, Type::TIMESTAMPTZ_ARRAY),
                (&versions, Type::TEXT_ARRAY),
                (&reports_at, Type::TIMESTAMPTZ_ARRAY),
                (&offsets, Type::INT8_ARRAY),
                (&online, Type::BOOL_ARRAY),
                (&online_since, Type::TIMESTAMPTZ_ARRAY),
                (&pending, Type::TIMESTAMPTZ_ARRAY),
                (&memories, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map_err(failed)?;
    Ok(())
}
