//! How changes are told: the record of the alarm stream, and the alert of the webhook in the form
//! that Alertmanager gives it. Pure.

use jiff::Timestamp;
use latchline_shared::alarm::{AlarmRecord, State};
use latchline_shared::kit::outbox::Message;
use serde_json::{Value, json};

use super::{Alarm, Event, FLEET, id};

/// Key of records about no lock.
const FLEET_KEY: &str = "fleet";
/// When an alert ends that has not.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The record of an event that made the alarm what it is.
pub fn record(alarm: &Alarm, event: &Event) -> AlarmRecord {
    AlarmRecord {
        event_id: id::event(event.alarm_id, event.no).to_string(),
        alarm_id: event.alarm_id.to_string(),
        no: event.no,
        client_id: alarm.client_id.clone(),
        alarm_type: alarm.alarm_type,
        severity: event.severity,
        change: event.change,
        from: event.from,
        to: event.to,
        at: event.at_ms,
        raised_at: alarm.raised_at_ms,
        origin: event.origin,
        actor: event.actor.clone(),
        cause: event.cause.clone(),
        value: event.value.clone(),
        count: alarm.count,
        level: alarm.level,
        notify: event.notify,
        suppressed_by: event.suppressed_by.clone(),
    }
}

/// The same for the outbox.
pub fn message(alarm: &Alarm, event: &Event) -> Message {
    let record = record(alarm, event);
    let key = if alarm.client_id == FLEET { FLEET_KEY } else { alarm.client_id.as_str() };
    Message {
        key: key.to_owned(),
        value: json!(record).to_string().into_bytes(),
        headers: vec![("event_id".to_owned(), record.event_id)],
    }
}

/// The alert of an event, if the webhook hears of it: what somebody should be told, and the end of
/// what somebody was told, even if a person made it or nobody should be told of it, so that no alert
/// fires for ever.
pub fn alert(alarm: &Alarm, event: &Event) -> Option<Value> {
    let is_end = alarm.told
        && matches!(event.to, State::Cleared | State::Closed)
        && matches!(event.from, Some(State::Active | State::Acknowledged));
    if !event.notify && !is_end {
        return None;
    }
    let (kind, severity) = (alarm.alarm_type.name(), event.severity.name());
    let what = kind.replace('_', " ");
    let summary = match alarm.client_id.as_str() {
        FLEET => format!("{what}: {severity}"),
        lock => format!("{what} of lock {lock}: {severity}"),
    };
    let ends_at = alarm.cleared_at_ms.filter(|_| matches!(event.to, State::Cleared | State::Closed));
    let fingerprint = format!("{:032x}", alarm.id.as_u128());
    Some(json!({
        "status": if ends_at.is_some() { "resolved" } else { "firing" },
        "labels": {
            "alertname": kind,
            "client_id": alarm.client_id,
            "severity": severity,
            "alarm_id": alarm.id.to_string(),
        },
        "annotations": {
            "summary": summary,
            "description": format!("{}, by {}; came {} times", event.change.name().replace('_', " "), event.actor, alarm.count),
            "value": event.value.to_string(),
        },
        "startsAt": rfc3339(alarm.raised_at_ms),
        "endsAt": ends_at.map_or_else(|| NEVER.to_owned(), rfc3339),
        "fingerprint": &fingerprint[..16],
    }))
}

fn rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).unwrap_or_default().to_string()
}
