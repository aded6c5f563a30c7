//! What a record tells: the event, how bad it is, and the facts of its text. Pure.
//!
//! Invariant: no event is in the future. A clock that is ahead of ours neither makes a notification
//! live longer nor keeps it from being pruned.

use jiff::Timestamp;
use latchline_shared::command::Action;
use latchline_shared::report::Said;
use uuid::{Uuid, uuid};

use super::record::{Answered, Changed};
use crate::event::{EventType, Facts, Severity};
use crate::route::Event;

/// Ids of notifications are in this namespace.
const NAMESPACE: Uuid = uuid!("5f0c4a9e-93c5-5b0c-8a7e-3b7d4d6f1e20");

/// Something that users are told of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) event_type: EventType,
    pub(super) severity: Severity,
    pub(super) client_id: String,
    /// Of a result.
    pub(super) process_id: Option<String>,
    /// Of an alarm: which one, and the number of the change.
    pub(super) alarm: Option<(Uuid, i32)>,
    pub(super) level: i16,
    pub(super) is_failed_result: bool,
    pub(super) at: Timestamp,
    /// But what a user calls the lock.
    pub(super) facts: Facts,
}

impl Told {
    /// Of a result.
    pub(super) fn result(answered: &Answered, now: Timestamp) -> Self {
        let Answered { lock, at_ms, process_id, action, outcome, error, lock_state, battery } = answered;
        let is_ok = *outcome == Said::Ok;
        let event_type = match (action, is_ok) {
            (Action::Unlock | Action::Unlatch, true) => EventType::Unlocked,
            (Action::Unlock | Action::Unlatch, false) => EventType::UNLOCK_FAILED,
            (Action::Lock, true) => EventType::Locked,
            (Action::Lock, false) => EventType::LockFailed,
        };
        let at = past(*at_ms, now);
        let facts = Facts {
            client_id: lock.clone(),
            at_ms: at.as_millisecond(),
            action: Some(action.name().to_owned()),
            outcome: Some(outcome.name().to_owned()),
            error: *error,
            lock_state: Some(lock_state.name().to_owned()),
            battery: *battery,
            ..Facts::default()
        };
        Self {
            event_type,
            severity: if is_ok { Severity::Info } else { Severity::Major },
            client_id: lock.clone(),
            process_id: Some(process_id.clone()),
            alarm: None,
            level: 0,
            is_failed_result: !is_ok,
            at,
            facts,
        }
    }

    /// Of a change of an alarm.
    pub(super) fn alarm(changed: &Changed, now: Timestamp) -> Self {
        let Changed { alarm_id, record } = changed;
        let at = past(record.at, now);
        let facts = Facts {
            client_id: record.client_id.clone(),
            at_ms: at.as_millisecond(),
            change: Some(record.change),
            raised_at_ms: Some(record.raised_at),
            count: Some(record.count),
            value: record.value.clone(),
            ..Facts::default()
        };
        Self {
            event_type: EventType::Alarm(record.alarm_type),
            severity: record.severity.into(),
            client_id: record.client_id.clone(),
            process_id: None,
            alarm: Some((*alarm_id, record.no)),
            level: record.level,
            is_failed_result: false,
            at,
            facts,
        }
    }

    /// As the route looks at it.
    pub(super) fn event(&self) -> Event<'_> {
        Event {
            event_type: self.event_type,
            severity: self.severity,
            client_id: &self.client_id,
            level: self.level,
            is_failed_result: self.is_failed_result,
            at: self.at,
        }
    }

    /// The notification of it to this address: the same event again is the same one.
    pub(super) fn id(&self, user_id: &str, channel: &str, address: &str) -> Uuid {
        let alarm = self.alarm.map(|(alarm_id, no)| format!("{alarm_id}/{no}"));
        let what = self.process_id.as_deref().or(alarm.as_deref()).unwrap_or_default();
        let mut name = self.event_type.name().to_owned();
        // With their lengths, since a lock calls itself what it wants, also `a|b`.
        for part in [&self.client_id, what, user_id, channel, address] {
            name.push_str(&format!("|{}:{part}", part.len()));
        }
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }
}

fn past(at_ms: i64, now: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at_ms).map_or(now, |at| at.min(now))
}

#[cfg(test)]
mod tests {
    use latchline_shared::alarm::{AlarmRecord, AlarmType};
    use latchline_shared::lock_state::LockState;
    use serde_json::json;

    use super::*;

    const AT_MS: i64 = 1_574_751_635_845;

    fn answered(action: Action, outcome: Said) -> Answered {
        Answered {
            lock: "1".to_owned(),
            at_ms: AT_MS,
            process_id: "7".to_owned(),
            action,
            outcome,
            error: Some(101),
            lock_state: LockState::Unlocked,
            battery: Some(83.4),
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_millisecond(AT_MS + 1_000).unwrap()
    }

    #[test]
    fn a_result_is_an_event() {
        for (action, outcome, event_type, severity) in [
            (Action::Unlock, Said::Ok, "unlocked", "info"),
            (Action::Unlatch, Said::Ok, "unlocked", "info"),
            (Action::Lock, Said::Ok, "locked", "info"),
            (Action::Unlock, Said::Failed, "unlock_failed", "major"),
            (Action::Unlatch, Said::Denied, "unlock_failed", "major"),
            (Action::Lock, Said::Denied, "lock_failed", "major"),
        ] {
            let told = Told::result(&answered(action, outcome), now());
            assert_eq!((told.event_type.name(), told.severity.name()), (event_type, severity));
            assert_eq!((told.level, told.is_failed_result), (0, outcome != Said::Ok));
        }
        let facts = Told::result(&answered(Action::Unlock, Said::Ok), now()).facts;
        let expected = json!({"client_id": "1", "lock_name": "", "at_ms": AT_MS, "action": "unlock", "outcome": "ok",
            "error": 101, "lock_state": "unlocked", "battery": 83.4_f32});
        assert_eq!(serde_json::to_value(facts).unwrap(), expected);
    }

    #[test]
    fn a_change_of_an_alarm_is_an_event() {
        let record: AlarmRecord = serde_json::from_value(json!({
            "event_id": "", "alarm_id": "", "no": 3, "client_id": "", "type": "fleet_connectivity",
            "severity": "critical", "change": "escalated", "from": "active", "to": "active", "at": AT_MS,
            "raised_at": 5, "origin": "clock", "actor": "monitor", "cause": {}, "value": {"lost": 9},
            "count": 2, "level": 1, "notify": true, "suppressed_by": null,
        }))
        .unwrap();
        let told = Told::alarm(&Changed { alarm_id: Uuid::from_u128(9), record }, now());
        assert_eq!(told.event_type, EventType::Alarm(AlarmType::FleetConnectivity));
        assert_eq!((told.severity, told.level, told.client_id.as_str()), (Severity::Critical, 1, ""));
        assert_eq!(told.alarm, Some((Uuid::from_u128(9), 3)));
        let expected = json!({"client_id": "", "lock_name": "", "at_ms": AT_MS, "change": "escalated",
            "raised_at_ms": 5, "count": 2, "value": {"lost": 9}});
        assert_eq!(serde_json::to_value(told.facts).unwrap(), expected);
    }

    #[test]
    fn nothing_happens_in_the_future() {
        let ahead = Answered { at_ms: AT_MS + 9_000_000, ..answered(Action::Unlock, Said::Ok) };
        let told = Told::result(&ahead, now());
        assert_eq!((told.at, told.facts.at_ms), (now(), AT_MS + 1_000));
    }

    #[test]
    fn ids_stay_what_they_are_and_are_of_one_event_and_address() {
        let told = Told::result(&answered(Action::Unlock, Said::Ok), now());
        let id = told.id("taro", "email", "taro@example.com");
        assert_eq!(id.to_string(), "8ec9f78c-d720-5f95-9772-db7ee80f7b2f");
        let again =
            Told::result(&Answered { at_ms: 5, battery: None, ..answered(Action::Unlock, Said::Ok) }, now());
        assert_eq!(again.id("taro", "email", "taro@example.com"), id);
        assert_ne!(told.id("taro", "sms", "taro@example.com"), id);
        assert_ne!(told.id("taro", "email", "jiro@example.com"), id);
        assert_ne!(told.id("jiro", "email", "taro@example.com"), id);
        let of = |lock: &str, process_id: &str| {
            let answered = Answered {
                lock: lock.to_owned(),
                process_id: process_id.to_owned(),
                ..answered(Action::Unlock, Said::Ok)
            };
            Told::result(&answered, now()).id("taro", "email", "taro@example.com")
        };
        assert_ne!(of("1|7", "8"), of("1", "7|8"));
        assert_ne!(of("1|1:7", "8"), of("1", "7|1:8"));
    }
}
