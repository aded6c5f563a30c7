//! What the clock does to alarms: looks at the fleet, ends shelves, escalates, tells again or at
//! last, closes what nobody acknowledged. What is old is removed apart from it (`prune`).
//!
//! One instance sweeps at a time (an advisory lock of the transaction, for each schema), a bounded
//! number of rows at once. Each alarm has the time at which it is to be looked at (`look_at`), so
//! that a sweep reads what is due and nothing else. An alarm that somebody else holds is left for the
//! next one.

pub mod fleet;
pub mod metrics;
pub mod prune;
pub mod task;

use std::collections::{BTreeSet, HashSet};

use latchline_shared::alarm::Origin;
use latchline_shared::fault::Fault;
use serde_json::json;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::desk::Desk;
use super::lifecycle::{Act, By};
use super::store::{self, failed, time};
use super::{Alarm, Applied, Context, MONITOR, apply, silence};
use crate::rule::threshold::Fleet;

/// Alarms that are looked at in one sweep.
pub const LOOK_MAX: i64 = 1_000;
/// Acts that one look may lead to: a shelf ends, the alarm is told, it is escalated.
const ACTS_MAX: usize = 4;
const LOCK: &str =
    "select pg_try_advisory_xact_lock(hashtextextended('latchline monitor sweep ' || current_schema(), 0))";

/// How the clock acts.
#[derive(Debug, Clone)]
pub struct SweepSettings {
    /// What applies to all alarms.
    pub context: Context,
    /// When the fleet is down.
    pub fleet: Fleet,
}

/// What a sweep has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whether no other instance was at it.
    pub is_ours: bool,
    /// Changes of alarms.
    pub applied: Applied,
    /// How many alarms were looked at.
    pub looked_at: usize,
}

/// Does what is due at this time, in the caller's transaction.
pub async fn sweep(
    transaction: &Transaction<'_>,
    settings: &SweepSettings,
    now_ms: i64,
) -> Result<Swept, Fault> {
    let rows = transaction.query_typed(LOCK, &[]).await.map_err(failed)?;
    let is_ours = rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed)?;
    if !is_ours {
        return Ok(Swept::default());
    }
    // First: it waits for the lock on the fleet's alarm, which is before all others in the order.
    let mut applied = fleet::watch(transaction, settings, now_ms).await?;
    let (looked_at, by_clock) = look(transaction, &settings.context, now_ms).await?;
    applied.add(&by_clock);
    Ok(Swept { is_ours, applied, looked_at })
}

/// Looks at the alarms that are due.
async fn look(
    transaction: &Transaction<'_>,
    context: &Context,
    now_ms: i64,
) -> Result<(usize, Applied), Fault> {
    let due = due(transaction, now_ms).await?;
    if due.is_empty() {
        return Ok((0, Applied::default()));
    }
    let count = due.len();
    let others = others(transaction, &due).await?;
    let silences = silence::list(transaction, now_ms).await?;
    let is_fleet_down = apply::is_fleet_down(transaction).await?;
    let alarms = due.into_iter().chain(others).collect();
    let live_ms = fleet::live_since(transaction, now_ms).await?;
    let mut desk = Desk::new(context, alarms, silences, is_fleet_down).live_since(live_ms);
    for index in 0..count {
        look_at(&mut desk, index, now_ms);
    }
    // No alarm is raised here, so nobody can be faster.
    store::save(transaction, &desk).await?;
    Ok((count, desk.applied()))
}

/// Locks and loads those that are due and that nobody else holds.
async fn due(transaction: &Transaction<'_>, now_ms: i64) -> Result<Vec<Alarm>, Fault> {
    let select = format!(
        "select {} from alarm where look_at <= $1 order by look_at, id limit {LOOK_MAX} for update skip locked",
        store::COLUMNS
    );
    let rows =
        transaction.query_typed(&select, &[(&time(now_ms), Type::TIMESTAMPTZ)]).await.map_err(failed)?;
    rows.iter().map(store::alarm).collect()
}

/// The other open alarms of their locks, which may say more.
async fn others(transaction: &Transaction<'_>, due: &[Alarm]) -> Result<Vec<Alarm>, Fault> {
    let client_ids: BTreeSet<&str> = due.iter().map(|alarm| alarm.client_id.as_str()).collect();
    let client_ids: Vec<&str> = client_ids.into_iter().collect();
    let known: HashSet<_> = due.iter().map(|alarm| alarm.id).collect();
    let mut others = store::peek(transaction, &client_ids).await?;
    others.retain(|alarm| !known.contains(&alarm.id));
    Ok(others)
}

fn look_at(desk: &mut Desk<'_>, index: usize, now_ms: i64) {
    for _ in 0..ACTS_MAX {
        let alarm = desk.alarm(index);
        let at_ms = alarm.ordered(now_ms);
        let Some(act) = desk.due(index, at_ms) else { break };
        let cause = match act {
            Act::Announce if alarm.announced_at_ms.is_none() => json!({ "why": "not told yet" }),
            Act::Announce => json!({ "why": "still active" }),
            _ => json!({}),
        };
        let by = By { origin: Origin::Clock, actor: MONITOR, cause, value: None };
        // What is due is legal; if it were not, it would be due again.
        if desk.act(index, act, now_ms, by).is_err() {
            break;
        }
    }
    desk.look_again(index, now_ms);
}
