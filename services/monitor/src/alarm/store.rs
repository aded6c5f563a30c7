//! Alarms in Postgres: loaded under their locks and written in bulk, a constant number of statements
//! however many there are.
//!
//! Ordering: whoever takes several locks takes them in the order of locks' ids and types, and the
//! locks on open alarms before it raises new ones. Two who raise the same alarm meet at the unique
//! index of open alarms: the second waits for the first, sees that it did not write its row, and
//! starts again from what is there then.

use jiff::Timestamp;
use latchline_shared::alarm::{AlarmType, Change, Origin, Severity, State};
use latchline_shared::fault::Fault;
use latchline_shared::kit::outbox;
use latchline_shared::kit::postgres::fault;
use serde_json::Value;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Error, Row, Transaction};
use uuid::Uuid;

use super::desk::{Desk, Entry};
use super::{Alarm, Event};

/// The columns of an alarm, in the order of [`alarm`].
pub const COLUMNS: &str = "id, client_id, type, severity, state, condition, raised_at, last_at, cleared_at, \
    closed_at, acked_at, acked_by, shelved_until, count, value, level, announced_at, changed_at, look_at, no, \
    told";

/// The columns of an event, in the order of [`event`].
pub const EVENT_COLUMNS: &str = "alarm_id, no, at, change, from_state, to_state, severity, origin, actor, \
    cause, value, notify, suppressed_by";

/// A join of this form looks into the index once for each lock, whatever the planner knows.
const OPEN: &str = "select alarm.* from unnest($1) with ordinality as wanted (client_id, n)
    cross join lateral (
        select {columns} from alarm where alarm.client_id = wanted.client_id and state <> 'closed'
        order by type {lock}
    ) as alarm order by n, alarm.type";

const ROWS: &str = "insert into alarm ({columns})
    select {columns} from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
        $19, $20, $21) with ordinality as row ({columns}, n)
    order by n on conflict";

/// By the key, which is there: an update that uses the index, whatever the planner knows.
const CHANGED: &str = "(id) do update set
        severity = excluded.severity, state = excluded.state, condition = excluded.condition,
        last_at = excluded.last_at, cleared_at = excluded.cleared_at, closed_at = excluded.closed_at,
        acked_at = excluded.acked_at, acked_by = excluded.acked_by, shelved_until = excluded.shelved_until,
        count = excluded.count, value = excluded.value, level = excluded.level,
        announced_at = excluded.announced_at, changed_at = excluded.changed_at, look_at = excluded.look_at,
        no = excluded.no, told = excluded.told";

const EVENTS: &str = "insert into alarm_event ({columns})
    select {columns} from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        with ordinality as row ({columns}, n) order by n";

const ALERTS: &str = "insert into webhook (body)
    select body from unnest($1) with ordinality as row (body, n) order by n";

/// Whether all was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It was.
    All,
    /// Somebody else has raised one of the alarms. Nothing was written.
    Nothing,
}

/// Locks and loads the open alarms of these locks, which must be in order.
pub async fn open(transaction: &Transaction<'_>, client_ids: &[&str]) -> Result<Vec<Alarm>, Fault> {
    of_locks(transaction, client_ids, "for update").await
}

/// Loads the open alarms of these locks, as they are for whoever changes nothing about them.
pub async fn peek(transaction: &Transaction<'_>, client_ids: &[&str]) -> Result<Vec<Alarm>, Fault> {
    // As with a lock: a bound keeps the planner from making it a join of its own choice.
    of_locks(transaction, client_ids, "limit 1000").await
}

async fn of_locks(
    transaction: &Transaction<'_>,
    client_ids: &[&str],
    lock: &str,
) -> Result<Vec<Alarm>, Fault> {
    let select = OPEN.replace("{columns}", COLUMNS).replace("{lock}", lock);
    let rows = transaction.query_typed(&select, &[(&client_ids, Type::TEXT_ARRAY)]).await.map_err(failed)?;
    rows.iter().map(alarm).collect()
}

/// The lock that an alarm is about.
pub async fn lock_of(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<String>, Fault> {
    let select = "select client_id from alarm where id = $1";
    let rows = transaction.query_typed(select, &[(&id, Type::UUID)]).await.map_err(failed)?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(failed)
}

/// Locks and loads an alarm.
pub async fn one(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Alarm>, Fault> {
    let select = format!("select {COLUMNS} from alarm where id = $1 for update");
    let rows = transaction.query_typed(&select, &[(&id, Type::UUID)]).await.map_err(failed)?;
    rows.first().map(alarm).transpose()
}

/// Writes what has become of a desk's alarms, with the events and what tells of them.
pub async fn save(transaction: &Transaction<'_>, desk: &Desk<'_>) -> Result<Saved, Fault> {
    let of = |is_new: bool| {
        desk.rows.iter().filter(|entry| entry.is_changed && entry.is_new == is_new).collect::<Vec<_>>()
    };
    let (changed, mut new) = (of(false), of(true));
    new.sort_by(|a, b| order(&a.alarm).cmp(&order(&b.alarm)));
    let is_contested = !new.is_empty();
    if is_contested {
        transaction.batch_execute("savepoint alarms").await.map_err(failed)?;
    }
    // First: what is closed makes room for what is raised.
    write(transaction, &changed, CHANGED).await?;
    if is_contested {
        if write(transaction, &new, "do nothing").await? < new.len() as u64 {
            transaction.batch_execute("rollback to savepoint alarms").await.map_err(failed)?;
            return Ok(Saved::Nothing);
        }
        transaction.batch_execute("release savepoint alarms").await.map_err(failed)?;
    }
    write_events(transaction, &desk.events).await?;
    if let Some(table) = &desk.context.outbox {
        outbox::insert(transaction, table, &desk.messages).await?;
    }
    write_alerts(transaction, &desk.alerts).await?;
    Ok(Saved::All)
}

/// An alarm that was closed within the batch comes before the next one of its kind.
fn order(alarm: &Alarm) -> (&str, &'static str, bool, i64) {
    (&alarm.client_id, alarm.alarm_type.name(), alarm.is_open(), alarm.raised_at_ms)
}

async fn write(transaction: &Transaction<'_>, entries: &[&Entry], on_conflict: &str) -> Result<u64, Fault> {
    if entries.is_empty() {
        return Ok(0);
    }
    let alarms: Vec<&Alarm> = entries.iter().map(|entry| &entry.alarm).collect();
    let times = |of: fn(&Alarm) -> Option<i64>| -> Vec<Option<Timestamp>> {
        alarms.iter().map(|alarm| of(alarm).and_then(time)).collect()
    };
    let words = |of: fn(&Alarm) -> &str| -> Vec<&str> { alarms.iter().map(|alarm| of(alarm)).collect() };
    let raised = times(|alarm| Some(alarm.raised_at_ms));
    let last = times(|alarm| Some(alarm.last_at_ms));
    let (cleared, closed) = (times(|alarm| alarm.cleared_at_ms), times(|alarm| alarm.closed_at_ms));
    let (acked, shelved) = (times(|alarm| alarm.acked_at_ms), times(|alarm| alarm.shelved_until_ms));
    let (announced, changed) =
        (times(|alarm| alarm.announced_at_ms), times(|alarm| Some(alarm.changed_at_ms)));
    let look = times(|alarm| alarm.look_at_ms);
    let ids: Vec<Uuid> = alarms.iter().map(|alarm| alarm.id).collect();
    let conditions: Vec<bool> = alarms.iter().map(|alarm| alarm.condition).collect();
    let acked_by: Vec<Option<&str>> = alarms.iter().map(|alarm| alarm.acked_by.as_deref()).collect();
    let counts: Vec<i32> = alarms.iter().map(|alarm| alarm.count).collect();
    let values: Vec<Json<&Value>> = alarms.iter().map(|alarm| Json(&alarm.value)).collect();
    let levels: Vec<i16> = alarms.iter().map(|alarm| alarm.level).collect();
    let numbers: Vec<i32> = alarms.iter().map(|alarm| alarm.no).collect();
    let told: Vec<bool> = alarms.iter().map(|alarm| alarm.told).collect();
    let statement = format!("{} {on_conflict}", ROWS.replace("{columns}", COLUMNS));
    let parameters: [(&(dyn ToSql + Sync), Type); 21] = [
        (&ids, Type::UUID_ARRAY),
        (&words(|alarm| &alarm.client_id), Type::TEXT_ARRAY),
        (&words(|alarm| alarm.alarm_type.name()), Type::TEXT_ARRAY),
        (&words(|alarm| alarm.severity.name()), Type::TEXT_ARRAY),
        (&words(|alarm| alarm.state.name()), Type::TEXT_ARRAY),
        (&conditions, Type::BOOL_ARRAY),
        (&raised, Type::TIMESTAMPTZ_ARRAY),
        (&last, Type::TIMESTAMPTZ_ARRAY),
        (&cleared, Type::TIMESTAMPTZ_ARRAY),
        (&closed, Type::TIMESTAMPTZ_ARRAY),
        (&acked, Type::TIMESTAMPTZ_ARRAY),
        (&acked_by, Type::TEXT_ARRAY),
        (&shelved, Type::TIMESTAMPTZ_ARRAY),
        (&counts, Type::INT4_ARRAY),
        (&values, Type::JSON_ARRAY),
        (&levels, Type::INT2_ARRAY),
        (&announced, Type::TIMESTAMPTZ_ARRAY),
        (&changed, Type::TIMESTAMPTZ_ARRAY),
        (&look, Type::TIMESTAMPTZ_ARRAY),
        (&numbers, Type::INT4_ARRAY),
        (&told, Type::BOOL_ARRAY),
    ];
    transaction.execute_typed(&statement, &parameters).await.map_err(failed)
}

async fn write_events(transaction: &Transaction<'_>, events: &[Event]) -> Result<(), Fault> {
    if events.is_empty() {
        return Ok(());
    }
    let words = |of: fn(&Event) -> Option<&str>| -> Vec<Option<&str>> { events.iter().map(of).collect() };
    let values =
        |of: fn(&Event) -> &Value| -> Vec<Json<&Value>> { events.iter().map(of).map(Json).collect() };
    let ids: Vec<Uuid> = events.iter().map(|event| event.alarm_id).collect();
    let numbers: Vec<i32> = events.iter().map(|event| event.no).collect();
    let at: Vec<Option<Timestamp>> = events.iter().map(|event| time(event.at_ms)).collect();
    let notify: Vec<bool> = events.iter().map(|event| event.notify).collect();
    let statement = EVENTS.replace("{columns}", EVENT_COLUMNS);
    let parameters: [(&(dyn ToSql + Sync), Type); 13] = [
        (&ids, Type::UUID_ARRAY),
        (&numbers, Type::INT4_ARRAY),
        (&at, Type::TIMESTAMPTZ_ARRAY),
        (&words(|event| Some(event.change.name())), Type::TEXT_ARRAY),
        (&words(|event| event.from.map(State::name)), Type::TEXT_ARRAY),
        (&words(|event| Some(event.to.name())), Type::TEXT_ARRAY),
        (&words(|event| Some(event.severity.name())), Type::TEXT_ARRAY),
        (&words(|event| Some(event.origin.name())), Type::TEXT_ARRAY),
        (&words(|event| Some(&event.actor)), Type::TEXT_ARRAY),
        (&values(|event| &event.cause), Type::JSON_ARRAY),
        (&values(|event| &event.value), Type::JSON_ARRAY),
        (&notify, Type::BOOL_ARRAY),
        (&words(|event| event.suppressed_by.as_deref()), Type::TEXT_ARRAY),
    ];
    transaction.execute_typed(&statement, &parameters).await.map_err(failed).map(drop)
}

async fn write_alerts(transaction: &Transaction<'_>, alerts: &[Value]) -> Result<(), Fault> {
    if alerts.is_empty() {
        return Ok(());
    }
    let alerts: Vec<Json<&Value>> = alerts.iter().map(Json).collect();
    transaction.execute_typed(ALERTS, &[(&alerts, Type::JSON_ARRAY)]).await.map_err(failed).map(drop)
}

/// The alarm of a row of [`COLUMNS`].
pub fn alarm(row: &Row) -> Result<Alarm, Fault> {
    let ms =
        |index: usize| row.try_get::<_, Option<Timestamp>>(index).map(|at| at.map(Timestamp::as_millisecond));
    let always_ms =
        |index: usize| row.try_get::<_, Timestamp>(index).map(Timestamp::as_millisecond).map_err(failed);
    Ok(Alarm {
        id: row.try_get(0).map_err(failed)?,
        client_id: row.try_get(1).map_err(failed)?,
        alarm_type: word(row, 2, AlarmType::from_name)?,
        severity: word(row, 3, Severity::from_name)?,
        state: word(row, 4, State::from_name)?,
        condition: row.try_get(5).map_err(failed)?,
        raised_at_ms: always_ms(6)?,
        last_at_ms: always_ms(7)?,
        cleared_at_ms: ms(8).map_err(failed)?,
        closed_at_ms: ms(9).map_err(failed)?,
        acked_at_ms: ms(10).map_err(failed)?,
        acked_by: row.try_get(11).map_err(failed)?,
        shelved_until_ms: ms(12).map_err(failed)?,
        count: row.try_get(13).map_err(failed)?,
        value: row.try_get(14).map_err(failed)?,
        level: row.try_get(15).map_err(failed)?,
        announced_at_ms: ms(16).map_err(failed)?,
        changed_at_ms: always_ms(17)?,
        look_at_ms: ms(18).map_err(failed)?,
        no: row.try_get(19).map_err(failed)?,
        told: row.try_get(20).map_err(failed)?,
    })
}

/// The event of a row of [`EVENT_COLUMNS`].
pub fn event(row: &Row) -> Result<Event, Fault> {
    let from: Option<&str> = row.try_get(4).map_err(failed)?;
    Ok(Event {
        alarm_id: row.try_get(0).map_err(failed)?,
        no: row.try_get(1).map_err(failed)?,
        at_ms: row.try_get::<_, Timestamp>(2).map_err(failed)?.as_millisecond(),
        change: word(row, 3, Change::from_name)?,
        from: from.map(|_| word(row, 4, State::from_name)).transpose()?,
        to: word(row, 5, State::from_name)?,
        severity: word(row, 6, Severity::from_name)?,
        origin: word(row, 7, Origin::from_name)?,
        actor: row.try_get(8).map_err(failed)?,
        cause: row.try_get(9).map_err(failed)?,
        value: row.try_get(10).map_err(failed)?,
        notify: row.try_get(11).map_err(failed)?,
        suppressed_by: row.try_get(12).map_err(failed)?,
    })
}

fn word<T>(row: &Row, index: usize, read: fn(&str) -> Option<T>) -> Result<T, Fault> {
    let word: &str = row.try_get(index).map_err(failed)?;
    let name = row.columns()[index].name();
    read(word).ok_or_else(|| Fault::Bug(format!("column {name} of an alarm holds the word {word}").into()))
}

/// What an error of a statement means.
pub(super) fn failed(error: Error) -> Fault {
    fault::of(&error)
}

/// Times of records are between 2000 and 2100.
pub(super) fn time(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}
