//! Notifications as JSON: ids are texts, times are RFC 3339 in UTC with milliseconds, what is not known
//! is left out.
//!
//! Invariant: an address is masked, and a code is not there.

use jiff::Timestamp;
use latchline_shared::kit::api::view::{given, time};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Error, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::address;
use crate::event::Channel;

/// The columns that [`notification`] reads.
pub const NOTIFICATION_COLUMNS: &str = "id, event_type, severity, client_id, process_id, alarm_id, alarm_no, \
     user_id, contact_id, channel, address, status, reason, attempts, digest is not null and status = 'pending' as is_collected, \
     digest_id, provider, provider_id, due_at, occurred_at, expires_at, sent_at, settled_at, created_at";

/// A notification: one message to one address.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationView {
    /// Its id (UUID).
    pub id: String,
    /// What happened.
    pub event_type: String,
    /// `info`, `warning`, `minor`, `major` or `critical`.
    pub severity: String,
    /// The lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Of a result: its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<String>,
    /// Of an alarm: its id (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_id: Option<String>,
    /// Of an alarm: number of the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_no: Option<i32>,
    /// Who is told.
    pub user_id: String,
    /// Where: id of the contact (UUID).
    pub contact_id: String,
    /// `email`, `sms` or `webhook`.
    pub channel: String,
    /// The address, masked; none if it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "t***@example.com")]
    pub address: Option<String>,
    /// `pending`, `sending`, `sent`, `delivered`, `undelivered`, `ambiguous`, `digested`, `suppressed`,
    /// `expired` or `dead`.
    pub status: String,
    /// One word: why it was suppressed, or how the last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many attempts there were.
    pub attempt_count: i32,
    /// Whether it waits to be told with others.
    pub collected: bool,
    /// The notification that told of it with others (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_id: Option<String>,
    /// Who made the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What the provider calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// While it is pending: when the next attempt is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub due_at: Option<String>,
    /// When it happened.
    #[schema(format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    pub occurred_at: String,
    /// Not told after that.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When a provider accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub sent_at: Option<String>,
    /// When its status became final.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub settled_at: Option<String>,
    /// When it was written.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A notification of a row of [`NOTIFICATION_COLUMNS`].
pub fn notification(row: &Row) -> Result<NotificationView, Error> {
    let (channel, status): (String, String) = (row.try_get("channel")?, row.try_get("status")?);
    let due_at: Timestamp = row.try_get("due_at")?;
    Ok(NotificationView {
        id: row.try_get::<_, Uuid>("id")?.to_string(),
        event_type: row.try_get("event_type")?,
        severity: row.try_get("severity")?,
        client_id: given(row.try_get("client_id")?),
        process_id: row.try_get("process_id")?,
        alarm_id: row.try_get::<_, Option<Uuid>>("alarm_id")?.map(|id| id.to_string()),
        alarm_no: row.try_get("alarm_no")?,
        user_id: row.try_get("user_id")?,
        contact_id: row.try_get::<_, Uuid>("contact_id")?.to_string(),
        address: masked(&channel, row.try_get("address")?),
        channel,
        due_at: (status == "pending").then(|| time(due_at)),
        status,
        reason: row.try_get("reason")?,
        attempt_count: row.try_get("attempts")?,
        collected: row.try_get("is_collected")?,
        digest_id: row.try_get::<_, Option<Uuid>>("digest_id")?.map(|id| id.to_string()),
        provider: row.try_get("provider")?,
        provider_id: row.try_get("provider_id")?,
        occurred_at: time(row.try_get("occurred_at")?),
        expires_at: time(row.try_get("expires_at")?),
        sent_at: row.try_get::<_, Option<_>>("sent_at")?.map(time),
        settled_at: row.try_get::<_, Option<_>>("settled_at")?.map(time),
        created_at: time(row.try_get("created_at")?),
    })
}

/// An address as it may be shown. Of a channel that this version does not know, nothing may.
fn masked(channel: &str, address: &str) -> Option<String> {
    let channel = Channel::from_name(channel);
    let shown = || channel.map_or_else(|| "***".to_owned(), |channel| address::masked(channel, address));
    (!address.is_empty()).then(shown)
}

/// What a notification tells, and in which words.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotificationContent)]
pub struct ContentView {
    /// Language of the message.
    pub locale: String,
    /// Time zone of its times.
    pub time_zone: String,
    /// What is known of the event, without a code; nothing if it was erased.
    #[schema(value_type = Object)]
    pub facts: Value,
}

/// An attempt to deliver.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    /// Number, from 1.
    pub n: i32,
    /// Who was asked.
    pub provider: String,
    /// When it began.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// How long it took, in milliseconds; none while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<i32>,
    /// `started`, `accepted`, `transient`, `unavailable`, `permanent` or `ambiguous`.
    pub outcome: String,
    /// The provider's code, or ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The beginning of what the provider said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_or_not_there() {
        let of = |channel, address| masked(channel, address);
        assert_eq!(of("email", "taro@example.com").as_deref(), Some("t***@example.com"));
        assert_eq!(of("pigeon", "taro@example.com").as_deref(), Some("***"));
        assert_eq!(of("email", ""), None);
    }
}
