//! Notifications that people ask for (a code, a test): they go to one contact, whatever its user
//! prefers.
//!
//! The contact is held meanwhile: whoever deletes it waits, and then erases this, too.

use std::time::Duration;

use anyhow::Context;
use tokio_postgres::Transaction;
use tokio_postgres::types::{Json, Type};
use uuid::{Builder, Uuid};

use super::secret::random;
use crate::event::{EventType, Facts};

/// Writes such a notification and wakes delivery when the transaction is committed; its id.
pub async fn enqueue(
    transaction: &Transaction<'_>,
    contact_id: Uuid,
    event_type: EventType,
    facts: &Facts,
    lifetime: Duration,
) -> anyhow::Result<Uuid> {
    // Asked for twice is told twice: no id from what it is of.
    let id = Builder::from_random_bytes(random()?).into_uuid();
    let insert = "with written as ( \
             insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id, \
                 channel, address, locale, time_zone, facts, status, due_at, occurred_at, expires_at) \
             select $1, $2, 'info', 0, '', users.id, contact.id, contact.channel, contact.address, \
                 users.locale, users.time_zone, $3, 'pending', now(), now(), \
                 now() + $4 * interval '1 second' \
             from contact join users on users.id = contact.user_id where contact.id = $5 \
             for key share of contact \
             returning channel) \
         select pg_notify('latchline_notifier', channel) from written";
    transaction
        .query_typed_opt(
            insert,
            &[
                (&id, Type::UUID),
                (&event_type.name(), Type::TEXT),
                (&Json(facts), Type::JSONB),
                (&lifetime.as_secs_f64(), Type::FLOAT8),
                (&contact_id, Type::UUID),
            ],
        )
        .await?
        .context("the contact is gone")?;
    Ok(id)
}
