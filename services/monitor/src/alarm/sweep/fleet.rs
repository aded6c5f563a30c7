//! The fleet: what all lanes see together, and what is remembered of it in the database, so that
//! any instance can go on.
//!
//! While no lane keeps up nobody knows how the fleet is, and nothing is decided.

use latchline_shared::fault::Fault;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Row, Transaction};

use super::super::store::{failed, time};
use super::super::{Applied, FLEET, apply::apply};
use super::SweepSettings;
use crate::rule::fleet::{Remembered, Totals, decide};
use crate::rule::threshold::Fleet;
use crate::signal::{Located, Place, What};

/// A lane that has not written for so long is somebody's who is gone; by our clock or by Postgres's,
/// whichever is behind.
const FRESH_MS: i64 = 30_000;

const TOTALS: &str = "select coalesce(sum(locks), 0)::bigint, coalesce(sum(offline), 0)::bigint,
        coalesce(sum(lost), 0)::bigint,
        count(*) filter (where live_since <= $2 and locks - offline >= $3 and last_report_at <= $2),
        count(*) filter (where live_since is not null)
    from lane where updated_at > least($1, now() - interval '30 seconds')";

const LIVE_SINCE: &str = "select max(coalesce(live_since, $1)) from lane where updated_at > $2";

const REMEMBERED: &str = "select memory, is_down, recovered_at from fleet";

const REMEMBER: &str = "insert into fleet (is_down, recovered_at, memory) values ($1, $2, $3)
    on conflict (one) do update set is_down = excluded.is_down,
        recovered_at = coalesce(excluded.recovered_at, fleet.recovered_at),
        memory = excluded.memory, updated_at = now()";

/// What lanes must know of the fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetState {
    /// Whether it is down, even if somebody has ended its alarm.
    pub is_down: bool,
    /// When it was down last.
    pub recovered_at_ms: Option<i64>,
}

/// How the fleet is.
pub async fn fleet_state(transaction: &Transaction<'_>) -> Result<FleetState, Fault> {
    let rows = transaction.query_typed(REMEMBERED, &[]).await.map_err(failed)?;
    let Some(row) = rows.first() else { return Ok(FleetState::default()) };
    let recovered_at: Option<jiff::Timestamp> = row.try_get(2).map_err(failed)?;
    Ok(FleetState {
        is_down: row.try_get(1).map_err(failed)?,
        recovered_at_ms: recovered_at.map(jiff::Timestamp::as_millisecond),
    })
}

/// Looks at the fleet, and raises or ends its alarm.
pub(super) async fn watch(
    transaction: &Transaction<'_>,
    settings: &SweepSettings,
    now_ms: i64,
) -> Result<Applied, Fault> {
    let totals = totals(transaction, &settings.fleet, now_ms).await?;
    let rows = transaction.query_typed(REMEMBERED, &[]).await.map_err(failed)?;
    let before: Remembered =
        rows.first().map_or(Ok(Json(Remembered::default())), |row| row.try_get(0)).map_err(failed)?.0;
    let mut after = before;
    let signal = match totals {
        Some(totals) => decide(&settings.fleet, &totals, &mut after, now_ms),
        None => {
            // What is not known is not few.
            after.few_since_ms = None;
            None
        }
    };
    let is_same = (before.is_down, before.few_since_ms) == (after.is_down, after.few_since_ms);
    if !is_same || after.is_down || signal.is_some() {
        let recovered_at = signal.as_ref().filter(|signal| signal.what == What::End);
        let recovered_at = recovered_at.and_then(|signal| time(signal.at_ms));
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&after.is_down, Type::BOOL), (&recovered_at, Type::TIMESTAMPTZ), (&Json(after), Type::JSON)];
        transaction.execute_typed(REMEMBER, &parameters).await.map_err(failed)?;
    }
    let located =
        signal.map(|signal| Located { client_id: FLEET.to_owned(), place: Place::default(), signal });
    apply(transaction, &settings.context, located.into_iter().collect()).await
}

/// Since when all lanes keep up: alarms of a backlog are told no earlier, whenever they were raised.
/// Now, if one of them does not, or nobody has any.
pub(super) async fn live_since(transaction: &Transaction<'_>, now_ms: i64) -> Result<i64, Fault> {
    let fresh = time(now_ms.saturating_sub(FRESH_MS));
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&time(now_ms), Type::TIMESTAMPTZ), (&fresh, Type::TIMESTAMPTZ)];
    let rows = transaction.query_typed(LIVE_SINCE, &parameters).await.map_err(failed)?;
    let since: Option<jiff::Timestamp> =
        rows.first().map_or(Ok(None), |row| row.try_get(0)).map_err(failed)?;
    Ok(since.map_or(now_ms, jiff::Timestamp::as_millisecond))
}

/// What the lanes see together; none while none of them keeps up.
async fn totals(transaction: &Transaction<'_>, rule: &Fleet, now_ms: i64) -> Result<Option<Totals>, Fault> {
    let fresh = time(now_ms.saturating_sub(FRESH_MS));
    let silent = time(now_ms.saturating_sub(rule.partition_silent_ms));
    let locks_min = i64::try_from(rule.partition_locks_min).unwrap_or(i64::MAX);
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&fresh, Type::TIMESTAMPTZ), (&silent, Type::TIMESTAMPTZ), (&locks_min, Type::INT8)];
    let rows = transaction.query_typed(TOTALS, &parameters).await.map_err(failed)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let totals = Totals {
        locks: count(row, 0)?,
        offline: count(row, 1)?,
        lost: count(row, 2)?,
        silent_lanes: count(row, 3)?,
    };
    Ok((count(row, 4)? > 0).then_some(totals))
}

fn count(row: &Row, index: usize) -> Result<u64, Fault> {
    let count: i64 = row.try_get(index).map_err(failed)?;
    Ok(u64::try_from(count).unwrap_or_default())
}
