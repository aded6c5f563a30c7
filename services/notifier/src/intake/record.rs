//! Records as the notifier reads them: what one means before anything is known of its lock. Pure.
//!
//! 20,000 of them come in a second, and nearly all are heartbeats that answer nothing: of those nothing
//! is kept. Ids are compared as they came; what goes on is bounded ([`bounded`]).
//!
//! Only what is no record at all is poison. A payload that cannot be read is the monitor's business.

use latchline_shared::alarm::{AlarmRecord, AlarmType, Change};
use latchline_shared::command::Action;
use latchline_shared::kit::kafka::consumer::envelope::{lock_of, parse, poison, time};
use latchline_shared::kit::kafka::consumer::{Poison, Record};
use latchline_shared::lock_state::{LockState, Profiles};
use latchline_shared::record::PublishRecord;
use latchline_shared::report::{Report, Said};
use latchline_shared::text::bounded;
use latchline_shared::words;
use uuid::Uuid;

use crate::event::Severity;
use crate::settings::Streams;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Nothing that anybody is told of.
    Nothing(Nothing),
    /// A lock answered a command; perhaps not for the first time.
    Result(Box<Answered>),
    /// An alarm changed, and somebody should be told.
    Alarm(Box<Changed>),
}

words! {
    /// Why there is nothing to tell.
    Nothing {
        /// A report that answers no command.
        Heartbeat = "heartbeat",
        /// A payload that cannot be read.
        Unreadable = "unreadable",
        /// Topic, publisher and payload do not name one lock.
        Mismatched = "mismatched",
        /// A change of an alarm that nobody should be told of.
        NotToBeTold = "not_to_be_told",
        /// An alarm that says what the result before it has said.
        ToldByResult = "told_by_result",
    }
}

/// A report that answers a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The lock.
    pub lock: String,
    /// When the broker saw it, in Unix milliseconds.
    pub at_ms: i64,
    /// What is answered.
    pub process_id: String,
    /// What the lock was told.
    pub action: Action,
    /// What became of it.
    pub outcome: Said,
    /// Why it failed (contract, section 5).
    pub error: Option<i64>,
    /// How the lock is.
    pub lock_state: LockState,
    /// Percent.
    pub battery: Option<f32>,
}

/// A change of an alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The alarm.
    pub alarm_id: Uuid,
    /// The record.
    pub record: AlarmRecord,
}

/// Reads a record of one of the streams.
pub fn decode(record: &Record, streams: &Streams, profiles: &Profiles) -> Result<Item, Poison> {
    match &*record.stream {
        stream if stream == streams.states => report(record, profiles),
        stream if Some(stream) == streams.alarms.as_deref() => alarm(record),
        stream => Err(poison("stream", format!("{stream} is no stream of the notifier"))),
    }
}

fn report(record: &Record, profiles: &Profiles) -> Result<Item, Poison> {
    let value: PublishRecord = parse(record)?;
    let lock = lock_of(&value.topic, "state")?;
    let at_ms = time(value.ts)?;
    let Ok(report) = Report::read(&value.payload) else { return Ok(Item::Nothing(Nothing::Unreadable)) };
    let Some(action) = report.answers() else { return Ok(Item::Nothing(Nothing::Heartbeat)) };
    if value.publisher != lock || report.client_id != lock {
        return Ok(Item::Nothing(Nothing::Mismatched));
    }
    let lock_state = profiles.of(lock).read(report.lock_state).state;
    let by_state = if lock_state.is_success_of(action) { Said::Ok } else { Said::Failed };
    Ok(Item::Result(Box::new(Answered {
        lock: bounded(lock),
        at_ms,
        process_id: bounded(&report.process_id),
        action,
        outcome: report.result.unwrap_or(by_state),
        error: report.error,
        lock_state,
        battery: report.battery,
    })))
}

fn alarm(record: &Record) -> Result<Item, Poison> {
    let mut record: AlarmRecord = parse(record)?;
    time(u64::try_from(record.at).unwrap_or_default())?;
    let no_id = |error: uuid::Error| poison("value", format!("alarm_id: {error}"));
    let alarm_id = Uuid::parse_str(&record.alarm_id).map_err(no_id)?;
    if !record.notify {
        return Ok(Item::Nothing(Nothing::NotToBeTold));
    }
    if is_told_by_result(&record) {
        return Ok(Item::Nothing(Nothing::ToldByResult));
    }
    record.client_id = bounded(&record.client_id);
    Ok(Item::Alarm(Box::new(Changed { alarm_id, record })))
}

/// Whoever is told of the alarm was told of the result that made it, as what it is: major. A worse one
/// says more.
fn is_told_by_result(record: &AlarmRecord) -> bool {
    record.alarm_type == AlarmType::UnlockFailed
        && matches!(record.change, Change::Raised | Change::Repeated)
        && Severity::from(record.severity) < Severity::Critical
}

#[cfg(test)]
mod tests {
    use latchline_shared::message::Qos;
    use latchline_shared::record::{Publish, write_publish};
    use serde_json::{Value, json};

    use super::*;

    const LOCK: &str = "10083618796833171";
    const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
    const TS: u64 = 1_574_751_635_845;

    fn read(stream: &str, value: Vec<u8>) -> Result<Item, Poison> {
        let streams = Streams { states: "message_state".to_owned(), alarms: Some("lock_alarm".to_owned()) };
        let profiles = json!({ "default": "reference", "locks": [{ "lock": "m-*", "profile": "matter" }] });
        let profiles = serde_json::from_value(profiles).unwrap();
        let (stream, headers) = (stream.into(), Vec::new());
        let record =
            Record { stream, partition: 0, offset: 7, timestamp_ms: None, key: None, value, headers };
        decode(&record, &streams, &profiles)
    }

    fn state(topic: &str, publisher: &str, payload: &str, ts: u64) -> Result<Item, Poison> {
        let mut value = Vec::new();
        let (payload, qos) = (payload.as_bytes(), Qos::AtLeastOnce);
        write_publish(&mut value, &Publish { publisher, username: "", topic, payload, qos, node: "n", ts });
        read("message_state", value)
    }

    fn of_lock(payload: &str) -> Item {
        state(&format!("devices/{LOCK}/state"), LOCK, payload, TS).unwrap()
    }

    #[test]
    fn the_reference_result_is_read() {
        let Item::Result(answered) = of_lock(STATE) else { panic!("a result") };
        let expected = Answered {
            lock: LOCK.to_owned(),
            at_ms: TS as i64,
            process_id: "7802441525528958".to_owned(),
            action: Action::Unlock,
            outcome: Said::Ok,
            error: None,
            lock_state: LockState::Unlocked,
            battery: Some(83.4),
        };
        assert_eq!(*answered, expected);
    }

    #[test]
    fn the_locks_own_word_comes_before_its_state() {
        for (action, lock_state, more, expected) in [
            ("unlock", 1, "", Said::Ok),
            ("unlock", 6, "", Said::Ok),
            ("unlock", 0, "", Said::Failed),
            ("unlock", 99, "", Said::Failed),
            ("lock", 0, "", Said::Ok),
            ("lock", 1, "", Said::Failed),
            ("unlatch", 6, "", Said::Ok),
            ("unlock", 0, r#""result":"ok","#, Said::Ok),
            ("unlock", 1, r#""result":"denied","error":102,"#, Said::Denied),
            ("unlock", 1, r#""result":"nonsense","#, Said::Ok),
        ] {
            let payload = STATE
                .replace("\"unlock\"", &format!("\"{action}\""))
                .replace("\"lock_state\": 1", &format!("\"lock_state\": {lock_state}"))
                .replacen('{', &format!("{{{more}"), 1);
            let Item::Result(answered) = of_lock(&payload) else { panic!("a result") };
            assert_eq!(answered.outcome, expected, "{payload}");
            assert_eq!(answered.error.is_some(), more.contains("error"));
        }
        let matter = STATE.replace(LOCK, "m-1");
        let Ok(Item::Result(answered)) = state("devices/m-1/state", "m-1", &matter, TS) else {
            panic!("a result")
        };
        assert_eq!((answered.lock_state, answered.outcome), (LockState::Locked, Said::Failed));
    }

    #[test]
    fn nearly_everything_is_nothing() {
        let topic = format!("devices/{LOCK}/state");
        let other = STATE.replace(LOCK, "2");
        for (topic, publisher, payload, expected) in [
            (topic.as_str(), LOCK, STATE.replace("unlock", "heartbeat"), Nothing::Heartbeat),
            (&topic, LOCK, STATE.replace("7802441525528958", ""), Nothing::Heartbeat),
            (&topic, LOCK, "nonsense".to_owned(), Nothing::Unreadable),
            (&topic, LOCK, STATE.replace("83.4", "NaN"), Nothing::Unreadable),
            (&topic, "2", STATE.to_owned(), Nothing::Mismatched),
            ("devices/2/state", LOCK, STATE.to_owned(), Nothing::Mismatched),
            (&topic, LOCK, other, Nothing::Mismatched),
        ] {
            assert_eq!(
                state(topic, publisher, &payload, TS),
                Ok(Item::Nothing(expected)),
                "{topic} {payload}"
            );
        }
    }

    #[test]
    fn what_is_no_record_is_poison() {
        let class = |result: Result<Item, Poison>| result.unwrap_err().class;
        assert_eq!(class(state("devices/1/command", LOCK, STATE, TS)), "topic");
        assert_eq!(class(state("devices/1/state", LOCK, STATE, 1)), "ts");
        for stream in ["message_state", "lock_alarm"] {
            for value in ["", "{}", "null", "nonsense"] {
                assert_eq!(class(read(stream, value.into())), "value", "{stream} {value}");
            }
        }
        assert_eq!(class(read("other", Vec::new())), "stream");
        assert_eq!(class(change(|alarm| alarm["alarm_id"] = "7".into())), "value");
        assert_eq!(class(change(|alarm| alarm["at"] = (-1).into())), "ts");
        assert_eq!(class(change(|alarm| alarm["type"] = "burning".into())), "value");
    }

    fn change(edit: impl FnOnce(&mut Value)) -> Result<Item, Poison> {
        let mut alarm = json!({
            "event_id": "1151b2e5-a77d-5a4c-a82d-25ce339979a3", "alarm_id": "830f383c-1f2b-548e-bcdf-4964a31da4d2",
            "no": 1, "client_id": LOCK, "type": "tamper", "severity": "critical", "change": "raised",
            "from": null, "to": "active", "at": TS, "raised_at": TS, "origin": "report", "actor": "monitor",
            "cause": {}, "value": {"state": 1}, "count": 1, "level": 0, "notify": true, "suppressed_by": null,
        });
        edit(&mut alarm);
        read("lock_alarm", alarm.to_string().into_bytes())
    }

    #[test]
    fn alarms_are_told_if_somebody_should_be_and_no_result_has() {
        let Ok(Item::Alarm(changed)) = change(|_| ()) else { panic!("an alarm") };
        assert_eq!(changed.alarm_id.to_string(), changed.record.alarm_id);
        assert_eq!(change(|alarm| alarm["notify"] = false.into()), Ok(Item::Nothing(Nothing::NotToBeTold)));
        for (kind, change_name, severity, is_told) in [
            ("unlock_failed", "raised", "major", false),
            ("unlock_failed", "repeated", "major", false),
            ("unlock_failed", "raised", "critical", true),
            ("unlock_failed", "worsened", "critical", true),
            ("unlock_failed", "escalated", "major", true),
            ("unlock_failed", "announced", "major", true),
            ("unlock_failed", "returned_to_normal", "major", true),
            ("lock_fault", "raised", "major", true),
            ("command_no_result", "raised", "major", true),
        ] {
            let read = change(|alarm| {
                alarm["type"] = kind.into();
                alarm["change"] = change_name.into();
                alarm["severity"] = severity.into();
            });
            let told = matches!(read, Ok(Item::Alarm(_)));
            assert_eq!(told, is_told, "{kind} {change_name} {severity}");
            assert!(told || read == Ok(Item::Nothing(Nothing::ToldByResult)));
        }
    }

    #[test]
    fn no_text_is_refused_by_postgres() {
        let long = "x\0".repeat(5_000);
        let payload = STATE.replace(LOCK, &long.replace('\0', "\\u0000"));
        let Ok(Item::Result(answered)) = state(&format!("devices/{long}/state"), &long, &payload, TS) else {
            panic!("a result")
        };
        assert!(answered.lock.len() < 256 && !answered.lock.contains('\0'));
        let Ok(Item::Alarm(changed)) = change(|alarm| alarm["client_id"] = long.into()) else {
            panic!("an alarm")
        };
        assert_eq!(changed.record.client_id, answered.lock);
    }
}
