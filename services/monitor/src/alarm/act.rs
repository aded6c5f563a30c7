//! What people do to an alarm.

use std::time::Duration;

use latchline_shared::alarm::Origin;
use latchline_shared::fault::Fault;
use serde_json::json;
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::desk::Desk;
use super::lifecycle::{Act, By, Illegal};
use super::store;
use super::{Alarm, Context, Event};

/// How long an alarm may be shelved.
pub const SHELF_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// There is no such alarm.
    #[error("there is no such alarm")]
    NotFound,
    /// The alarm does not take it as it stands.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// It makes no sense for any alarm.
    #[error("{0}")]
    Invalid(&'static str),
    /// Postgres.
    #[error("an alarm cannot be changed")]
    Fault(#[from] Fault),
}

/// Does it, in the caller's transaction, and tells what has become of the alarm.
pub async fn act(
    transaction: &Transaction<'_>,
    context: &Context,
    alarm_id: Uuid,
    act: Act,
    actor: &str,
    comment: Option<&str>,
    at_ms: i64,
) -> Result<(Alarm, Event), ActError> {
    check(act, comment, at_ms)?;
    let (alarms, index) = load(transaction, alarm_id).await?.ok_or(ActError::NotFound)?;
    let cause = comment.map_or_else(|| json!({}), |comment| json!({ "comment": comment }));
    let by = By { origin: Origin::Operator, actor, cause, value: None };
    let mut desk = Desk::new(context, alarms, Vec::new(), false);
    // Acts of people are events, whatever they change.
    let event = desk.act(index, act, at_ms, by)?.cloned().ok_or(Fault::Bug("an act made no event".into()))?;
    store::save(transaction, &desk).await?;
    Ok((desk.rows.swap_remove(index).alarm, event))
}

/// Locks and loads the alarm, and the other open ones of its lock, which may be told once it is over;
/// and says which of them it is.
async fn load(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<(Vec<Alarm>, usize)>, Fault> {
    let Some(client_id) = store::lock_of(transaction, id).await? else { return Ok(None) };
    // All of them at once, in the order in which everybody locks them.
    let open = store::open(transaction, &[&client_id]).await?;
    if let Some(index) = open.iter().position(|alarm| alarm.id == id) {
        return Ok(Some((open, index)));
    }
    // A closed one stays closed.
    let closed = store::one(transaction, id).await?;
    Ok(closed.map(|alarm| (vec![alarm], 0)))
}

fn check(act: Act, comment: Option<&str>, at_ms: i64) -> Result<(), ActError> {
    let is_blank = comment.is_none_or(|comment| comment.trim().is_empty());
    match act {
        Act::Acknowledge | Act::Unacknowledge | Act::Unshelve | Act::Clear => Ok(()),
        Act::Comment if is_blank => Err(ActError::Invalid("a comment needs a text")),
        Act::Comment => Ok(()),
        Act::Shelve { until_ms } => {
            let length_ms = i128::from(until_ms) - i128::from(at_ms);
            if length_ms <= 0 || length_ms > SHELF_MAX.as_millis() as i128 {
                return Err(ActError::Invalid("an alarm is shelved for at most 7 days"));
            }
            Ok(())
        }
        _ => Err(ActError::Invalid("this is not for people to do")),
    }
}
