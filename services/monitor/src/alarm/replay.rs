//! The signals of a rebuild become changes of alarms again, and what does not follow from records
//! comes in its place between them, from where it was written down: what people and the clock did,
//! and why nobody was told.
//!
//! The numbers of events say what came between what: after event n of an alarm, event n + 1 is done
//! at once if somebody or the clock had made it. What such an event does goes the way of every act,
//! so the row and the event come out by the same code; only the value that was looked at last is that
//! of the written event, because an alarm that holds on may have been seen in between without an event.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use latchline_shared::alarm::{AlarmType, Change, Origin};
use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::desk::Desk;
use super::lifecycle::{Act, By};
use super::store::{self, Saved, failed, time};
use super::suppression::Suppressed;
use super::{Alarm, Applied, Context, Event};
use crate::signal::Located;

/// What is kept of these locks in the tables `was_…`: events that do not follow from records, and
/// those of which nobody was told. `$2`: what was over before is over.
const WRITTEN: &str = "select {columns}, (select shelved_until from was_alarm where id = alarm_id)
    from was_alarm_event
    where alarm_id = any(array(select id from was_alarm
            where client_id = any($1) and (closed_at is null or closed_at >= $2)))
        and (origin in ('operator', 'clock') or suppressed_by is not null)";

/// Events as they were written once, by alarm and number.
#[derive(Debug, Default)]
pub struct Written(HashMap<(Uuid, i32), Was>);

#[derive(Debug)]
struct Was {
    event: Event,
    shelved_until_ms: Option<i64>,
}

/// Applies signals in their order, in the caller's transaction, with all that was written between.
pub async fn replay(
    transaction: &Transaction<'_>,
    context: &Context,
    signals: &[Located],
) -> Result<Applied, Fault> {
    let Some(first_ms) = signals.iter().map(|located| located.signal.at_ms).min() else {
        return Ok(Applied::default());
    };
    let client_ids: BTreeSet<&str> = signals.iter().map(|located| located.client_id.as_str()).collect();
    let client_ids: Vec<&str> = client_ids.into_iter().collect();
    let open = store::open(transaction, &client_ids).await?;
    let written = Written::load(transaction, &client_ids, first_ms).await?;
    let mut desk = Desk::repeating(context, open, &written);
    for located in signals {
        let before = desk.events.len();
        desk.signal(located);
        if desk.events.len() > before {
            written.go_on(&mut desk);
        }
    }
    match store::save(transaction, &desk).await? {
        Saved::All => Ok(desk.applied()),
        Saved::Nothing => Err(Fault::Bug("somebody else writes into the shadow schema".into())),
    }
}

impl Written {
    async fn load(transaction: &Transaction<'_>, client_ids: &[&str], first_ms: i64) -> Result<Self, Fault> {
        let select = WRITTEN.replace("{columns}", store::EVENT_COLUMNS);
        let parameters = [
            (&client_ids as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY),
            (&time(first_ms), Type::TIMESTAMPTZ),
        ];
        let rows = transaction.query_typed(&select, &parameters).await.map_err(failed)?;
        let mut written = HashMap::with_capacity(rows.len());
        for row in rows {
            let event = store::event(&row)?;
            let until: Option<Timestamp> = row.try_get(13).map_err(failed)?;
            let was = Was { shelved_until_ms: until.map(Timestamp::as_millisecond), event };
            written.insert((was.event.alarm_id, was.event.no), was);
        }
        Ok(Self(written))
    }

    /// Why nobody was told of what happens to the alarm next.
    pub(super) fn suppressed(&self, alarm: &Alarm) -> Option<Suppressed> {
        let was = self.0.get(&(alarm.id, alarm.no + 1))?;
        read(was.event.suppressed_by.as_deref()?)
    }

    /// Does what people and the clock did next to the alarm of the last event.
    fn go_on(&self, desk: &mut Desk<'_>) {
        while let Some(last) = desk.events.last() {
            let (id, no) = (last.alarm_id, last.no + 1);
            let Some((was, act)) = self.0.get(&(id, no)).and_then(|was| Some((was, was.act()?))) else {
                return;
            };
            let Some(index) = desk.rows.iter().rposition(|entry| entry.alarm.id == id) else { return };
            let Event { at_ms, origin, actor, cause, value, .. } = &was.event;
            let by = By { origin: *origin, actor, cause: cause.clone(), value: None };
            // What cannot be done to the alarm as it stands now is a difference, and found as one.
            let Ok(Some(_)) = desk.act(index, act, *at_ms, by) else { return };
            if let Some(event) = desk.events.last_mut() {
                event.value = value.clone();
            }
        }
    }
}

impl Was {
    /// What was done, if people or the clock did it.
    fn act(&self) -> Option<Act> {
        if !matches!(self.event.origin, Origin::Operator | Origin::Clock) {
            return None;
        }
        Some(match self.event.change {
            Change::Acknowledged => Act::Acknowledge,
            Change::Unacknowledged => Act::Unacknowledge,
            // Only the last shelf's end is kept; it makes no difference of what the others were.
            Change::Shelved => Act::Shelve { until_ms: self.shelved_until_ms.unwrap_or(self.event.at_ms) },
            Change::Unshelved => Act::Unshelve,
            Change::Cleared => Act::Clear,
            Change::Commented => Act::Comment,
            Change::Escalated => Act::Escalate,
            Change::Announced => Act::Announce,
            Change::Expired => Act::Expire,
            Change::Raised | Change::Repeated | Change::Worsened | Change::ReturnedToNormal => return None,
        })
    }
}

/// Reads what [`Suppressed`] is written as; of its times nothing is written.
fn read(word: &str) -> Option<Suppressed> {
    match word.split_once(':') {
        None => (word == "shelved").then_some(Suppressed::Shelved { until_ms: 0 }),
        Some(("silence", id)) => Some(Suppressed::Silence { id: id.parse().ok()?, ends_at_ms: 0 }),
        Some(("inhibited", by)) => AlarmType::from_name(by).map(Suppressed::Inhibited),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nobody_was_told_is_read_as_it_was_written() {
        let id = Uuid::from_u128(7);
        for suppressed in [
            Suppressed::Shelved { until_ms: 0 },
            Suppressed::Silence { id, ends_at_ms: 0 },
            Suppressed::Inhibited(AlarmType::DoorForced),
        ] {
            assert_eq!(read(&suppressed.to_string()), Some(suppressed));
        }
        for wrong in ["", "silence:", "inhibited:burning", "other:1"] {
            assert_eq!(read(wrong), None);
        }
    }
}
