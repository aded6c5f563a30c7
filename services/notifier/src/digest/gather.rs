//! One message of many notifications.

use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Error, Row, Transaction};
use uuid::{Uuid, uuid};

use super::PARTS_MAX;
use crate::event::{DigestItem, EventType, Facts, Severity};

/// Ids of digests are in this namespace.
const NAMESPACE: Uuid = uuid!("0b8e7a52-6a1f-5e55-9d0f-7c2a6a2f4d31");

const PARTS: &str = "select id, event_type, severity, client_id from notification
    where status = 'pending' and digest = $1 order by occurred_at, id limit $2 for update";
const FACTS: &str = "select id, facts from notification where id = any($1)";
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
    event_type: EventType,
    severity: Severity,
    client_id: String,
}

/// Puts all together that waits for this digest; of how many notifications it tells.
pub(super) async fn digest(transaction: &Transaction<'_>, name: &str) -> Result<u64, Error> {
    let rows = transaction.query_typed(PARTS, &[(&name, Type::TEXT), (&PARTS_MAX, Type::INT8)]).await?;
    let parts: Vec<Part> = rows.iter().map(part).collect::<Result<_, _>>()?;
    let (Some(first), Some(newest)) = (parts.first(), parts.last()) else { return Ok(0) };
    let (id, newest_id) = (Uuid::new_v5(&NAMESPACE, first.id.as_bytes()), newest.id);
    let facts = facts(transaction, &parts).await?;
    // Nothing is worse than all of them, and nobody waits for what is critical.
    let severity = parts.iter().map(|part| part.severity).max().unwrap_or(Severity::Info);
    let ids: Vec<Uuid> = parts.iter().map(|part| part.id).collect();
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
    Ok(parts.len() as u64)
}

fn part(row: &Row) -> Result<Part, Error> {
    // We wrote these words; what a newer version wrote is told as what we know.
    let event_type = EventType::from_name(row.try_get(1)?).unwrap_or(EventType::Digest);
    let severity = Severity::from_name(row.try_get(2)?).unwrap_or(Severity::Info);
    Ok(Part { id: row.try_get(0)?, event_type, severity, client_id: row.try_get(3)? })
}

/// What the message says: the newest parts, the newest last, and how many more there are.
async fn facts(transaction: &Transaction<'_>, parts: &[Part]) -> Result<Facts, Error> {
    let shown = &parts[parts.len().saturating_sub(Facts::ITEMS_MAX)..];
    let ids: Vec<Uuid> = shown.iter().map(|part| part.id).collect();
    let rows = transaction.query_typed(FACTS, &[(&ids, Type::UUID_ARRAY)]).await?;
    let mut items = Vec::with_capacity(shown.len());
    for Part { id, event_type, severity, .. } in shown {
        let Some(row) = rows.iter().find(|row| row.get::<_, Uuid>(0) == *id) else { continue };
        let facts: serde_json::Value = row.try_get(1)?;
        let facts = serde_json::from_value(facts).unwrap_or_default();
        items.push(DigestItem { event_type: *event_type, severity: *severity, facts });
    }
    let newest = items.last().map(|item| item.facts.clone()).unwrap_or_default();
    let is_of_one_lock = parts.iter().all(|part| part.client_id == newest.client_id);
    let (client_id, lock_name) =
        if is_of_one_lock { (newest.client_id, newest.lock_name) } else { Default::default() };
    let more = parts.len() - items.len();
    Ok(Facts { client_id, lock_name, at_ms: newest.at_ms, items, more, ..Facts::default() })
}
