//! What a delivery report changes, in one statement.
//!
//! | report | follows |
//! |---|---|
//! | delivered | whatever was tried: also `undelivered`, and what waits to be sent again, so that no second copy is |
//! | undelivered, gone | `sent` and `ambiguous` by this gateway, and its first attempt while it is under way |
//!
//! Invariant: nothing follows `delivered`; a report that does not follow changes nothing.

use deadpool_postgres::Pool;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::channel::sms::gateway_settings::Meaning;

/// A report that says something.
#[derive(Debug)]
pub(super) struct End<'a> {
    /// Who reports.
    pub(super) gateway: &'a str,
    /// Of what.
    pub(super) subject: Subject,
    /// What became of it.
    pub(super) meaning: Meaning,
    /// What the gateway calls the message.
    pub(super) provider_id: Option<&'a str>,
}

/// Of which message a report is.
#[derive(Debug)]
pub(super) enum Subject {
    /// This one.
    Notification(Uuid),
    /// The one that the gateway calls this.
    ProviderId(String),
}

/// What a report has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// Where the message stands.
    Changed,
    /// Nothing: that was known, or cannot follow.
    Unchanged,
    /// Nothing: there is no such message.
    NoSuch,
}

const DELIVERED: &str = "status in ('sending', 'sent', 'ambiguous', 'undelivered')
    or status in ('pending', 'expired', 'dead') and attempts > 0";

/// What another attempt, or another gateway, does meanwhile is not known by this one.
const UNDELIVERED: &str = "(status in ('sent', 'ambiguous') or status = 'sending' and attempts = 1)
    and coalesce(provider, $2) = $2";

/// A code that verifies a contact is not kept longer than it is needed.
const FACTS: &str = "case when event_type = 'verification' then facts - 'code' else facts end";

/// Writes what follows.
pub(super) async fn apply(pool: &Pool, end: &End<'_>) -> Result<Applied, Failure> {
    let client = pool.get().await?;
    let statement = statement(end);
    let row = client.query_typed_one(&statement.text, &statement.values()).await?;
    Ok(match (row.try_get(0)?, row.try_get(1)?) {
        (false, _) => Applied::NoSuch,
        (true, true) => Applied::Changed,
        (true, false) => Applied::Unchanged,
    })
}

fn statement(end: &End<'_>) -> Statement {
    let mut statement = Statement::default();
    let subject = match &end.subject {
        Subject::Notification(id) => {
            statement.bind(*id, Type::UUID);
            "id = $1"
        }
        Subject::ProviderId(id) => {
            statement.bind(id.clone(), Type::TEXT);
            "provider_id = $1 and provider = $2"
        }
    };
    statement.bind(end.gateway.to_owned(), Type::TEXT);
    statement.bind(end.provider_id.map(str::to_owned), Type::TEXT);
    let (status, follows) = match end.meaning {
        Meaning::Delivered => ("delivered", DELIVERED),
        Meaning::Undelivered | Meaning::Gone | Meaning::None => ("undelivered", UNDELIVERED),
    };
    statement.push(&format!(
        "with found as (select id from notification where {subject} and channel = 'sms'),
        told as (
            update notification set status = '{status}', settled_at = now(), lease_owner = null,
                lease_until = null, facts = {FACTS}, provider = coalesce(provider, $2),
                provider_id = coalesce(provider_id, $3)
            from found where notification.id = found.id and ({follows})
            returning contact_id)"
    ));
    if end.meaning == Meaning::Gone {
        statement.push(&format!(
            ", gone as (
                update contact set status = 'bounced', bounced_at = now()
                from told where contact.id = told.contact_id and contact.status = 'active'
                returning contact.id),
            others as (
                update notification set status = 'suppressed', reason = 'bounced', settled_at = now(),
                    facts = {FACTS}
                from gone where contact_id = gone.id and notification.status = 'pending')"
        ));
    }
    statement.push(" select exists (select from found), exists (select from told)");
    statement
}
