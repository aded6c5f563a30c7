//! Signals of a lane, or of the fleet, become changes of alarms.

use std::collections::BTreeSet;

use latchline_shared::alarm::AlarmType;
use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;

use super::desk::Desk;
use super::store::{self, Saved, failed};
use super::{Applied, Context, FLEET, silence};
use crate::signal::Located;

/// How often somebody else may be faster.
const ROUNDS_MAX: u32 = 8;
/// Read without a lock: whether it is so makes a difference to what is told only.
const FLEET_DOWN: &str =
    "select exists (select from alarm where client_id = '' and type = 'fleet_connectivity'
        and state <> 'closed' and condition)";

/// Applies signals in their order, in the caller's transaction: rows, events, and records of them. A
/// constant number of statements; none at all without signals.
pub async fn apply(
    transaction: &Transaction<'_>,
    context: &Context,
    signals: Vec<Located>,
) -> Result<Applied, Fault> {
    let Some(first_ms) = signals.iter().map(|located| located.signal.at_ms).min() else {
        return Ok(Applied::default());
    };
    let client_ids: BTreeSet<&str> = signals.iter().map(|located| located.client_id.as_str()).collect();
    let client_ids: Vec<&str> = client_ids.into_iter().collect();
    for _ in 0..ROUNDS_MAX {
        let open = store::open(transaction, &client_ids).await?;
        let (silences, is_fleet_down) =
            tokio::try_join!(silence::list(transaction, first_ms), is_fleet_down(transaction, &signals))?;
        let mut desk = Desk::new(context, open, silences, is_fleet_down);
        for located in &signals {
            desk.signal(located);
        }
        if store::save(transaction, &desk).await? == Saved::All {
            return Ok(desk.applied());
        }
    }
    Err(Fault::transient(format!("alarms of {} locks are raised elsewhere all the time", client_ids.len())))
}

async fn is_fleet_down(transaction: &Transaction<'_>, signals: &[Located]) -> Result<bool, Fault> {
    let is_of_fleet = |located: &Located| {
        located.client_id != FLEET
            && matches!(located.signal.alarm, AlarmType::DeviceOffline | AlarmType::CommandNoResult)
    };
    if !signals.iter().any(is_of_fleet) {
        return Ok(false);
    }
    let rows = transaction.query_typed(FLEET_DOWN, &[]).await.map_err(failed)?;
    rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed)
}
