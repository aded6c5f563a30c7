//! What a webhook's receiver gets. It is for programs: no template, no locale, UTC.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::event::{DigestItem, EventType, Facts, Severity};

/// The body, in the form that Standard Webhooks recommends:
///
/// ```json
/// {
///   "type": "battery_low",
///   "timestamp": "2026-07-11T23:15:00Z",
///   "data": {
///     "id": "0191…", "severity": "warning", "client_id": "10083618796833171", "lock_name": "玄関",
///     "change": "raised", "raised_at": "2026-07-11T23:15:00Z", "count": 1, "value": { "battery": 14.5 },
///     "outcome": null, "action": null, "error": null, "lock_state": null, "battery": null,
///     "items": [], "more": 0, "code": null
///   }
/// }
/// ```
///
/// `type` is the event type (`unlocked`, `lock_failed`, an alarm's type, `digest`, `verification`,
/// `test`), `timestamp` when it happened. All keys are always there: what does not apply is null.
/// Results have `action`, `outcome` (`ok`, `denied`, `failed`), `error` (contract, section 5), `lock_state`
/// and `battery` in percent; alarms `change`, `raised_at`, `count`, and `value`, the last value that was
/// looked at, as the monitor has it. A digest has `items`: each a `type`, a `timestamp` and `data` like this
/// one, without `id` and items of their own, the newest last, and `more`, how many are not listed. A
/// verification has `code`. `id` is the notification's, the same in every attempt.
///
/// Texts are those of the lock, as they are: whoever shows them to people escapes them.
pub(super) fn body(event: EventType, severity: Severity, id: Uuid, facts: &Facts) -> Value {
    let id = id.to_string();
    let event = Event::new(event, severity, Some(&id), facts);
    serde_json::to_value(event).unwrap_or_default()
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    event_type: EventType,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    severity: Severity,
    client_id: &'a str,
    lock_name: &'a str,
    action: Option<&'a str>,
    outcome: Option<&'a str>,
    error: Option<i64>,
    lock_state: Option<&'a str>,
    battery: Option<f64>,
    change: Option<&'static str>,
    raised_at: Option<String>,
    count: Option<i32>,
    value: &'a Value,
    items: Vec<Event<'a>>,
    more: usize,
    code: Option<&'a str>,
}

impl<'a> Event<'a> {
    fn new(event_type: EventType, severity: Severity, id: Option<&'a str>, facts: &'a Facts) -> Self {
        let data = Data {
            id,
            severity,
            client_id: &facts.client_id,
            lock_name: &facts.lock_name,
            action: facts.action.as_deref(),
            outcome: facts.outcome.as_deref(),
            error: facts.error,
            lock_state: facts.lock_state.as_deref(),
            battery: facts.battery.map(tenths),
            change: facts.change.map(latchline_shared::alarm::Change::name),
            raised_at: facts.raised_at_ms.map(rfc_3339),
            count: facts.count,
            value: &facts.value,
            items: facts.items.iter().map(Self::item).collect(),
            more: facts.more,
            code: facts.code.as_deref(),
        };
        Self { event_type, timestamp: rfc_3339(facts.at_ms), data }
    }

    fn item(item: &'a DigestItem) -> Self {
        Self::new(item.event_type, item.severity, None, &item.facts)
    }
}

/// What was 83.4 stays 83.4, and is not its nearest 32-bit number in 64 bits.
fn tenths(percent: f32) -> f64 {
    (f64::from(percent) * 10.0).round() / 10.0
}

/// The time; a lock's clock that is out of its mind is at the end of all time.
pub(super) fn timestamp(at_ms: i64) -> Timestamp {
    let end = if at_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at_ms).unwrap_or(end)
}

fn rfc_3339(at_ms: i64) -> String {
    timestamp(at_ms).to_string()
}

#[cfg(test)]
mod tests {
    use latchline_shared::alarm::{AlarmType, Change};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_is_told_to_programs() {
        let facts = Facts {
            client_id: "10083618796833171".to_owned(),
            lock_name: "<玄関>".to_owned(),
            at_ms: 1_783_811_700_000,
            action: Some("unlock".to_owned()),
            outcome: Some("ok".to_owned()),
            battery: Some(83.4),
            ..Facts::default()
        };
        let body = body(EventType::Unlocked, Severity::Info, Uuid::nil(), &facts);
        assert_eq!(body["type"], "unlocked");
        assert_eq!(body["timestamp"], "2026-07-11T23:15:00Z");
        let data = &body["data"];
        assert_eq!(data["id"], "00000000-0000-0000-0000-000000000000");
        assert_eq!((&data["battery"], &data["lock_name"]), (&json!(83.4), &json!("<玄関>")));
        assert_eq!((&data["change"], &data["items"]), (&Value::Null, &json!([])));
    }

    #[test]
    fn a_digest_has_its_items() {
        let alarm = EventType::Alarm(AlarmType::BatteryLow);
        let change = Some(Change::Raised);
        let facts = Facts {
            client_id: "1".to_owned(),
            at_ms: i64::MAX,
            change,
            value: json!({"a": 1}),
            ..Facts::default()
        };
        let items = vec![DigestItem { event_type: alarm, severity: Severity::Warning, facts }];
        let digest = Facts { items, more: 3, ..Facts::default() };
        let body = body(EventType::Digest, Severity::Warning, Uuid::nil(), &digest);
        let item = &body["data"]["items"][0];
        assert_eq!((&item["type"], &item["data"]["change"]), (&json!("battery_low"), &json!("raised")));
        assert_eq!(item["data"]["value"], json!({"a": 1}));
        assert!(item["data"].get("id").is_none());
        assert_eq!(body["data"]["more"], 3);
    }
}
