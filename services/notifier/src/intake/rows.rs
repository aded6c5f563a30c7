//! What the intake reads and writes in Postgres: processes, rates, running windows of digests, and
//! notifications.
//!
//! Each function is a statement for some thousand rows, which go in as arrays.
//!
//! Ordering: lanes hold what they write until they commit. All that lanes of this or another instance may
//! both write is written in order, of all chunks: processes first, then rates, by their keys;
//! notifications last, by their ids. Contacts are only shared. So lanes wait for each other, never in a
//! circle.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Transaction};
use uuid::Uuid;

use super::draft::Draft;
use super::record::Answered;
use crate::event::{Channel, Severity};
use crate::status::Status;

/// Most rows in one statement.
const ROWS_MAX: usize = 4_000;

/// On which delivery listens; what is said is a channel's name.
const NOTIFY: &str = "select pg_notify('latchline_notifier', channel) from unnest($1) as channel";

const PROCESSES: &str = "insert into process (client_id, process_id, at)
    select * from unnest($1, $2, $3)
    on conflict do nothing returning client_id, process_id";

const KNOWN: &str = "select id from notification where id = any($1)";

// The row is locked whether it was there or not.
const RATES: &str = "insert into rate (key, full_at) select key, $2 from unnest($1) as key
    on conflict (key) do update set full_at = rate.full_at returning key, full_at";
const TAKE: &str = "update rate set full_at = taken.full_at
    from unnest($1, $2) as taken (key, full_at) where rate.key = taken.key";

// The first part of each, however many wait. A window that ends just now may be closed already: who
// joined it would be told alone, at once. (If it is not, the digest takes all of its name.)
const WINDOWS: &str = "select name, due_at from unnest($1) as name cross join lateral (
    select due_at from notification
    where status = 'pending' and digest = name and due_at > statement_timestamp() + interval '1 second'
    order by due_at limit 1) as part";

// A contact that goes while we decide, goes with all that was to be told to it: whoever deletes it waits
// until our rows are there.
const HOLD: &str =
    "select id from contact where id = any($1) and status = 'active' order by id for key share";

// What is due at once is due by the clock that says so to delivery.
const INSERT: &str = "insert into notification
        (id, event_type, severity, priority, client_id, process_id, alarm_id, alarm_no, user_id, contact_id,
         channel, address, locale, time_zone, facts, status, reason, due_at, digest, occurred_at, expires_at,
         settled_at)
    select id, event_type, severity, (severity = 'critical')::int, client_id, process_id, alarm_id, alarm_no,
        user_id, contact_id, channel, address, locale, time_zone, facts::jsonb, status,
        case status when 'expired' then 'late' end, coalesce(due_at, now()), digest, occurred_at, expires_at,
        case status when 'expired' then now() end
    from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) as row
        (id, event_type, severity, client_id, process_id, alarm_id, alarm_no, user_id, contact_id,
         channel, address, locale, time_zone, facts, status, due_at, digest, occurred_at, expires_at)
    on conflict (id) do nothing returning id";

fn failed(error: Error) -> Fault {
    fault::of(&error)
}

async fn query(
    transaction: &Transaction<'_>,
    sql: &str,
    values: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Fault> {
    transaction.query_typed(sql, values).await.map_err(failed)
}

fn column<T: for<'a> tokio_postgres::types::FromSql<'a>>(row: &Row, index: usize) -> Result<T, Fault> {
    row.try_get(index).map_err(failed)
}

/// Writes down processes; which of them nobody had seen, by lock and process. Each is there once.
pub(super) async fn processes(
    transaction: &Transaction<'_>,
    answered: &[&Answered],
    now: Timestamp,
) -> Result<HashSet<(String, String)>, Fault> {
    let mut news = HashSet::new();
    let mut answered = answered.to_vec();
    answered.sort_by_key(|one| (one.lock.as_str(), one.process_id.as_str()));
    for answered in answered.chunks(ROWS_MAX) {
        let locks: Vec<&str> = answered.iter().map(|one| one.lock.as_str()).collect();
        let processes: Vec<&str> = answered.iter().map(|one| one.process_id.as_str()).collect();
        let at = |one: &&Answered| Timestamp::from_millisecond(one.at_ms).map_or(now, |at| at.min(now));
        let times: Vec<Timestamp> = answered.iter().map(at).collect();
        let values: [(&(dyn ToSql + Sync), Type); 3] =
            [(&locks, Type::TEXT_ARRAY), (&processes, Type::TEXT_ARRAY), (&times, Type::TIMESTAMPTZ_ARRAY)];
        for row in query(transaction, PROCESSES, &values).await? {
            news.insert((column(&row, 0)?, column(&row, 1)?));
        }
    }
    Ok(news)
}

/// Which of these notifications are there.
pub(super) async fn known(transaction: &Transaction<'_>, ids: &[Uuid]) -> Result<HashSet<Uuid>, Fault> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = query(transaction, KNOWN, &[(&ids, Type::UUID_ARRAY)]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// When these buckets are full again. They are held until the end of the transaction. `keys` are in
/// order, each once.
pub(super) async fn rates(
    transaction: &Transaction<'_>,
    keys: &[&str],
    now: Timestamp,
) -> Result<HashMap<String, Timestamp>, Fault> {
    let mut full_at = HashMap::with_capacity(keys.len());
    for keys in keys.chunks(ROWS_MAX) {
        let values: [(&(dyn ToSql + Sync), Type); 2] = [(&keys, Type::TEXT_ARRAY), (&now, Type::TIMESTAMPTZ)];
        for row in query(transaction, RATES, &values).await? {
            full_at.insert(column(&row, 0)?, column(&row, 1)?);
        }
    }
    Ok(full_at)
}

/// Writes when buckets are full again.
pub(super) async fn take(
    transaction: &Transaction<'_>,
    taken: &HashMap<String, Timestamp>,
) -> Result<(), Fault> {
    let taken: Vec<(&str, Timestamp)> = taken.iter().map(|(key, at)| (key.as_str(), *at)).collect();
    for taken in taken.chunks(ROWS_MAX) {
        let (keys, times): (Vec<&str>, Vec<Timestamp>) = taken.iter().copied().unzip();
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&keys, Type::TEXT_ARRAY), (&times, Type::TIMESTAMPTZ_ARRAY)];
        transaction.execute_typed(TAKE, &values).await.map_err(failed)?;
    }
    Ok(())
}

/// When those of these digests are due that somebody waits for.
pub(super) async fn windows(
    transaction: &Transaction<'_>,
    names: &[&str],
) -> Result<HashMap<String, Timestamp>, Fault> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = query(transaction, WINDOWS, &[(&names, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
}

/// Writes notifications, but those that are there and those whose contact is gone, and wakes delivery;
/// which were written.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    drafts: &[Draft<'_>],
) -> Result<HashSet<Uuid>, Fault> {
    let contacts: HashSet<Uuid> = drafts.iter().map(|draft| draft.contact.id).collect();
    if contacts.is_empty() {
        return Ok(HashSet::new());
    }
    let contacts: Vec<Uuid> = contacts.into_iter().collect();
    let rows = query(transaction, HOLD, &[(&contacts, Type::UUID_ARRAY)]).await?;
    let held: HashSet<Uuid> = rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
    let mut drafts: Vec<&Draft<'_>> =
        drafts.iter().filter(|draft| held.contains(&draft.contact.id)).collect();
    drafts.sort_by_key(|draft| draft.id);
    let mut written = HashSet::new();
    for drafts in drafts.chunks(ROWS_MAX) {
        for row in insert_some(transaction, drafts).await? {
            written.insert(column(&row, 0)?);
        }
    }
    wake(transaction, drafts.iter().filter(|draft| written.contains(&draft.id) && draft.is_due())).await?;
    Ok(written)
}

async fn wake<'a>(
    transaction: &Transaction<'_>,
    drafts: impl Iterator<Item = &'a &'a Draft<'a>>,
) -> Result<(), Fault> {
    let channels: HashSet<Channel> = drafts.map(|draft| draft.contact.channel).collect();
    if !channels.is_empty() {
        let channels: Vec<&str> = channels.into_iter().map(Channel::name).collect();
        query(transaction, NOTIFY, &[(&channels, Type::TEXT_ARRAY)]).await?;
    }
    Ok(())
}

async fn insert_some(transaction: &Transaction<'_>, drafts: &[&Draft<'_>]) -> Result<Vec<Row>, Fault> {
    fn list<'a, T>(drafts: &'a [&'a Draft<'a>], of: impl FnMut(&'a Draft<'a>) -> T) -> Vec<T> {
        drafts.iter().copied().map(of).collect()
    }
    let values: [(&(dyn ToSql + Sync), Type); 19] = [
        (&list(drafts, |draft| draft.id), Type::UUID_ARRAY),
        (&list(drafts, |draft| draft.told.event_type.name()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| Severity::name(draft.told.severity)), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.told.client_id.as_str()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.told.process_id.as_deref()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.told.alarm.map(|(id, _)| id)), Type::UUID_ARRAY),
        (&list(drafts, |draft| draft.told.alarm.map(|(_, no)| no)), Type::INT4_ARRAY),
        (&list(drafts, |draft| draft.member.user.id.as_str()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.contact.id), Type::UUID_ARRAY),
        (&list(drafts, |draft| draft.contact.channel.name()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.contact.address.as_str()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.member.user.locale.as_str()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.member.user.time_zone.as_str()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.facts.as_str()), Type::TEXT_ARRAY),
        (&list(drafts, |draft| Status::name(draft.status())), Type::TEXT_ARRAY),
        (&list(drafts, Draft::due_at), Type::TIMESTAMPTZ_ARRAY),
        (&list(drafts, Draft::digest), Type::TEXT_ARRAY),
        (&list(drafts, |draft| draft.told.at), Type::TIMESTAMPTZ_ARRAY),
        (&list(drafts, Draft::expires_at), Type::TIMESTAMPTZ_ARRAY),
    ];
    query(transaction, INSERT, &values).await
}
