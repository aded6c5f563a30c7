//! Rows as JSON: ids are texts, times are RFC 3339 in UTC with milliseconds, words are those of
//! `shared/src/alarm.rs`, what is not known is left out.

use latchline_shared::kit::api::view::{given, time};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Error, Row};
use utoipa::ToSchema;
use uuid::Uuid;

/// The columns that [`alarm`] reads.
pub const ALARM_COLUMNS: &str = "id, client_id, type, severity, state, condition, raised_at, last_at, \
     cleared_at, closed_at, acked_at, acked_by, shelved_until, count, value, level, announced_at, no";

/// An alarm: something about a lock that needs somebody.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alarm)]
pub struct AlarmView {
    /// Its id (UUID).
    pub id: String,
    /// The lock; none if it is an alarm of the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What is wrong.
    #[serde(rename = "type")]
    pub alarm_type: String,
    /// `warning`, `minor`, `major` or `critical`.
    pub severity: String,
    /// `active`, `acknowledged`, `cleared` or `closed`.
    pub state: String,
    /// Whether it still is so.
    pub condition: bool,
    /// When it was raised.
    #[schema(format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    pub raised_at: String,
    /// When it was seen last.
    #[schema(format = DateTime)]
    pub last_at: String,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub cleared_at: Option<String>,
    /// When it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub closed_at: Option<String>,
    /// When somebody acknowledged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub acked_at: Option<String>,
    /// Who: the name of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_by: Option<String>,
    /// Until when nobody wants to hear of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub shelved_until: Option<String>,
    /// How often it came.
    pub count: i32,
    /// What was looked at last, by type.
    #[schema(value_type = Object)]
    pub value: Value,
    /// How often it was escalated.
    pub level: i16,
    /// When somebody should have been told last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub announced_at: Option<String>,
    /// Number of its last change.
    pub no: i32,
}

/// An alarm of a row of [`ALARM_COLUMNS`].
pub fn alarm(row: &Row) -> Result<AlarmView, Error> {
    Ok(AlarmView {
        id: row.try_get::<_, Uuid>(0)?.to_string(),
        client_id: given(row.try_get(1)?),
        alarm_type: row.try_get(2)?,
        severity: row.try_get(3)?,
        state: row.try_get(4)?,
        condition: row.try_get(5)?,
        raised_at: time(row.try_get(6)?),
        last_at: time(row.try_get(7)?),
        cleared_at: row.try_get::<_, Option<_>>(8)?.map(time),
        closed_at: row.try_get::<_, Option<_>>(9)?.map(time),
        acked_at: row.try_get::<_, Option<_>>(10)?.map(time),
        acked_by: row.try_get(11)?,
        shelved_until: row.try_get::<_, Option<_>>(12)?.map(time),
        count: row.try_get(13)?,
        value: row.try_get(14)?,
        level: row.try_get(15)?,
        announced_at: row.try_get::<_, Option<_>>(16)?.map(time),
        no: row.try_get(17)?,
    })
}
