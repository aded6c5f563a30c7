//! One message of many notifications.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Error, Row, Transaction};
use uuid::{Uuid, uuid};

use super::{Made, PARTS_MAX};
use crate::event::{DigestItem, EventType, Facts, Severity};

/// Ids of digests are in this namespace.
const NAMESPACE: Uuid = uuid!("0b8e7a52-6a1f-5e55-9d0f-7c2a6a2f4d31");

// The oldest, held in the order in which all hold several notifications.
const PARTS: &str = "with part as materialized (
        select id from notification where status = 'pending' and digest = $1 order by occurred_at, id limit $2)
    select n.id, event_type, severity, client_id, occurred_at from notification n join part using (id)
    where status = 'pending' order by n.id for update of n";
const FACTS: &str = "select id, facts from notification where id = any($1)";
const RELEASE: &str = "with released as (
        update notification set digest = null, due_at = now() where id = any($1) returning channel),
    woken as (select pg_notify('latchline_notifier', channel) from (select distinct channel from released) as one)
    select (select count(*) from released), (select count(*) from woken)";
const DIGEST: &str = "update notification set status = 'digested', digest_id = $2, settled_at = now()
    where id = any($1)";
// As the newest part, which is to the same address.
const INSERT: &str = "with written as (
        insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id, channel,
            address, locale, time_zone, facts, status, due_at, occurred_at, expires_at)
        select $1, $2, $3, 0, $4, user_id, contact_id, channel, address, locale, time_zone, $5, 'pending',
            now(), occurred_at, (select max(expires_at) from notification where id = any($7))
        from notification where id = $6
        returning channel)
    select pg_notify('latchline_notifier', channel) from written";

/// A notification of a digest.
struct Part {
    id: Uuid,
    client_id: String,
    occurred_at: Timestamp,
    /// `None`: words of a newer version.
    words: Option<(EventType, Severity)>,
}

/// A notification that is told of by a digest.
struct Told {
    id: Uuid,
    client_id: String,
    event_type: EventType,
    severity: Severity,
}

/// Puts all together that waits for this digest. What is alone, or what we cannot read (a newer version
/// can), is told as what it is.
pub(super) async fn digest(transaction: &Transaction<'_>, name: &str) -> Result<Made, Error> {
    let rows = transaction.query_typed(PARTS, &[(&name, Type::TEXT), (&PARTS_MAX, Type::INT8)]).await?;
    let mut parts: Vec<Part> = rows.iter().map(part).collect::<Result<_, _>>()?;
    parts.sort_by_key(|part| (part.occurred_at, part.id));
    let (mut told, mut alone) = (Vec::with_capacity(parts.len()), Vec::new());
    for Part { id, client_id, words, .. } in parts {
        match words {
            Some((event_type, severity)) => told.push(Told { id, client_id, event_type, severity }),
            None => alone.push(id),
        }
    }
    let items = items(transaction, &mut told, &mut alone).await?;
    if told.len() == 1 {
        alone.extend(told.drain(..).map(|told| told.id));
    }
    if !alone.is_empty() {
        transaction.query_typed(RELEASE, &[(&alone, Type::UUID_ARRAY)]).await?;
    }
    write(transaction, &told, items).await?;
    let digests = u64::from(!told.is_empty());
    Ok(Made { digests, parts: told.len() as u64, released: alone.len() as u64, ..Made::default() })
}

fn part(row: &Row) -> Result<Part, Error> {
    let words = EventType::from_name(row.try_get(1)?).zip(Severity::from_name(row.try_get(2)?));
    Ok(Part { id: row.try_get(0)?, client_id: row.try_get(3)?, occurred_at: row.try_get(4)?, words })
}

/// What is known of the newest, the newest last. Of whom nothing can be read, are alone.
async fn items(
    transaction: &Transaction<'_>,
    told: &mut Vec<Told>,
    alone: &mut Vec<Uuid>,
) -> Result<Vec<DigestItem>, Error> {
    let shown = told.split_off(told.len().saturating_sub(Facts::ITEMS_MAX));
    let ids: Vec<Uuid> = shown.iter().map(|part| part.id).collect();
    let rows = transaction.query_typed(FACTS, &[(&ids, Type::UUID_ARRAY)]).await?;
    let mut facts: HashMap<Uuid, Value> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Error>>()?;
    let mut items = Vec::with_capacity(shown.len());
    for part in shown {
        let facts = facts.remove(&part.id).and_then(|facts| serde_json::from_value(facts).ok());
        if let Some(facts) = facts {
            let Told { event_type, severity, .. } = part;
            items.push(DigestItem { event_type, severity, facts });
            told.push(part);
        } else {
            alone.push(part.id);
        }
    }
    Ok(items)
}

/// Writes the message that tells of these parts, if there are any.
async fn write(transaction: &Transaction<'_>, told: &[Told], items: Vec<DigestItem>) -> Result<(), Error> {
    let (Some(first), Some(newest)) = (told.first(), told.last()) else { return Ok(()) };
    let (id, newest_id) = (Uuid::new_v5(&NAMESPACE, first.id.as_bytes()), newest.id);
    let facts = facts(told, items);
    // Nothing is worse than all of them, and nobody waits for what is critical.
    let severity = told.iter().map(|part| part.severity).max().unwrap_or(Severity::Info);
    let ids: Vec<Uuid> = told.iter().map(|part| part.id).collect();
    let insert = [
        (&id as _, Type::UUID),
        (&EventType::Digest.name() as _, Type::TEXT),
        (&severity.name() as _, Type::TEXT),
        (&facts.client_id as _, Type::TEXT),
        (&Json(&facts) as _, Type::JSONB),
        (&newest_id as _, Type::UUID),
        (&ids as _, Type::UUID_ARRAY),
    ];
    transaction.query_typed(INSERT, &insert).await?;
    transaction.execute_typed(DIGEST, &[(&ids, Type::UUID_ARRAY), (&id, Type::UUID)]).await?;
    Ok(())
}

/// What the message says: the newest parts, and how many more there are.
fn facts(told: &[Told], items: Vec<DigestItem>) -> Facts {
    let newest = items.last().map(|item| item.facts.clone()).unwrap_or_default();
    let is_of_one_lock = told.iter().all(|part| part.client_id == newest.client_id);
    let (client_id, lock_name) =
        if is_of_one_lock { (newest.client_id, newest.lock_name) } else { Default::default() };
    let more = told.len() - items.len();
    Facts { client_id, lock_name, at_ms: newest.at_ms, items, more, ..Facts::default() }
}
