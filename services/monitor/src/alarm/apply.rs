//! Signals of a lane, or of the fleet, become changes of alarms.

use std::collections::BTreeSet;

use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;

use super::desk::Desk;
use super::store::{self, Saved, failed};
use super::{Applied, Context, silence, suppression};
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
        let silences = silence::list(transaction, first_ms).await?;
        let is_fleet_down = signals.iter().any(is_of_fleet) && is_fleet_down(transaction).await?;
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

/// Whether the fleet makes a difference to who is told of this.
fn is_of_fleet(located: &Located) -> bool {
    suppression::is_of_fleet(located.signal.alarm)
}

/// Whether the fleet's alarm says more than that of a lock.
pub(super) async fn is_fleet_down(transaction: &Transaction<'_>) -> Result<bool, Fault> {
    let rows = transaction.query_typed(FLEET_DOWN, &[]).await.map_err(failed)?;
    rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed)
}
