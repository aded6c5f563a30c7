//! Removes what is old, a bounded number of rows at once.

use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::super::store::{failed, time};

const DAY_MS: i64 = 24 * 3_600_000;
/// Closed alarms are kept so long, with their events.
pub const ALARM_KEEP_MS: i64 = 365 * DAY_MS;
/// Battery histories, and silences after their end.
pub const OTHER_KEEP_MS: i64 = 90 * DAY_MS;

// Keys are found first: a join might read the table from end to end.
const ALARMS: &str = "delete from alarm where id = any(array(
    select id from alarm where closed_at < $1 order by closed_at limit 500 for update skip locked))";

const SILENCES: &str = "delete from silence where id = any(array(
    select id from silence where ends_at < $1 order by ends_at limit 500))";

/// A million locks leave a million rows a day: so many are gone within minutes.
const BATTERY_DAYS: &str = "delete from battery_day where ctid = any(array(
    select ctid from battery_day where day < ($1 at time zone 'UTC')::date order by day limit 2000))";

/// How many rows were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Alarms.
    pub alarms: u64,
    /// Silences.
    pub silences: u64,
    /// Days of locks' batteries.
    pub battery_days: u64,
}

/// Removes what is old at this time.
pub(crate) async fn prune(transaction: &Transaction<'_>, now_ms: i64) -> Result<Pruned, Fault> {
    let delete = async |statement: &str, keep_ms: i64| {
        let before = time(now_ms.saturating_sub(keep_ms));
        transaction.execute_typed(statement, &[(&before, Type::TIMESTAMPTZ)]).await.map_err(failed)
    };
    Ok(Pruned {
        alarms: delete(ALARMS, ALARM_KEEP_MS).await?,
        silences: delete(SILENCES, OTHER_KEEP_MS).await?,
        battery_days: delete(BATTERY_DAYS, OTHER_KEEP_MS).await?,
    })
}
