//! What a lock says of itself: the payload of `devices/{id}/state` (contract, sections 1 and 5).
//!
//! Strict where a wrong reading would be written into history (ids are strings, `lock_state` is an
//! integer), lenient where it would only lose a report (unknown fields are ignored, a battery that
//! makes no sense is left out and said to be wrong). No number passes through a float but the
//! battery.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::command::Action;

/// A report that can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which command it answers, as the lock says; empty if none.
    pub process_id: String,
    /// What the lock was told, as it says.
    pub action: String,
    /// Percent; `None` if it is not there or makes no sense.
    pub battery: Option<f32>,
    /// The state as the lock numbers it.
    pub lock_state: i64,
    /// The text of `version`, since 1.1 and 1.10 differ.
    pub version: Option<String>,
    /// The lock, as it says.
    pub client_id: String,
    /// How the command ended, if the lock says so.
    pub result: Option<Said>,
    /// Why it did not succeed (contract, section 5).
    pub error: Option<i64>,
    /// What started it, as Matter's `OperationSource`.
    pub source: Option<i64>,
    /// The door, as Matter's `DoorState`.
    pub door_state: Option<i64>,
    /// Matter's `AlarmCode`.
    pub alarm: Option<i64>,
    /// Counts the reports of one start of the lock.
    pub seq: Option<u64>,
    /// Which start of the lock it is.
    pub boot: Option<u64>,
    /// The optional fields that make no sense and were left out.
    pub flaws: Vec<&'static str>,
}

/// How a command ended, in the lock's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Said {
    /// Done.
    Ok,
    /// Refused.
    Denied,
    /// Tried without success.
    Failed,
}

impl Said {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Denied, Self::Failed];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// The one with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|said| said.name() == name)
    }
}

impl Report {
    /// Reads a payload, or says why it is no report.
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        let wire: Wire<'_> = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let mut flaws = Vec::new();
        let mut flaw = |name| flaws.push(name);
        let battery = optional("battery", wire.battery, percent, &mut flaw);
        let result = optional("result", wire.result, said, &mut flaw);
        let error = optional("error", wire.error, Value::as_i64, &mut flaw);
        let source = optional("source", wire.source, Value::as_i64, &mut flaw);
        let door_state = optional("door_state", wire.door_state, Value::as_i64, &mut flaw);
        let alarm = optional("alarm", wire.alarm, Value::as_i64, &mut flaw);
        let seq = optional("seq", wire.seq, Value::as_u64, &mut flaw);
        let boot = optional("boot", wire.boot, Value::as_u64, &mut flaw);
        Ok(Self {
            process_id: wire.process_id,
            action: wire.action,
            battery,
            lock_state: wire.lock_state,
            version: wire.version.map(|raw| raw.get().to_owned()),
            client_id: wire.client_id,
            result,
            error,
            source,
            door_state,
            alarm,
            seq,
            boot,
            flaws,
        })
    }

    /// What it is the result of, if it may be a result: a heartbeat that answers no command has
    /// another action, or no process.
    pub fn answers(&self) -> Option<Action> {
        Action::from_name(&self.action).filter(|_| !self.process_id.is_empty())
    }
}

/// The fields as they are in the payload. What is there and null is something else than what is
/// not there.
#[derive(Deserialize)]
struct Wire<'a> {
    process_id: String,
    action: String,
    #[serde(default, deserialize_with = "there")]
    battery: Option<Value>,
    lock_state: i64,
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    client_id: String,
    #[serde(default, deserialize_with = "there")]
    result: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    error: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    source: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    door_state: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    alarm: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    seq: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    boot: Option<Value>,
}

fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn optional<T>(
    name: &'static str,
    value: Option<Value>,
    read: impl FnOnce(&Value) -> Option<T>,
    flaw: &mut impl FnMut(&'static str),
) -> Option<T> {
    let value = value?;
    let read = read(&value);
    if read.is_none() {
        flaw(name);
    }
    read
}

/// A number, or one in quotation marks, from 0 to 100.
fn percent(value: &Value) -> Option<f32> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    (0.0..=100.0).contains(&number).then_some(number as f32)
}

fn said(value: &Value) -> Option<Said> {
    Said::from_name(value.as_str()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;

    fn read(payload: &str) -> Report {
        Report::read(payload.as_bytes()).unwrap()
    }

    #[test]
    fn the_sample_is_read() {
        let report = read(SAMPLE);
        assert_eq!(report.process_id, "7802441525528958");
        assert_eq!(report.answers(), Some(Action::Unlock));
        assert_eq!((report.battery, report.lock_state), (Some(83.4), 1));
        assert_eq!(report.client_id, "10083618796833171");
        assert_eq!(report.version.as_deref(), Some("1.1"));
        assert_eq!((report.result, report.error, report.seq, report.flaws), (None, None, None, vec![]));
        let ten = read(&SAMPLE.replace("1.1", "1.10"));
        assert_eq!(ten.version.as_deref(), Some("1.10"));
    }

    #[test]
    fn optional_fields_are_read() {
        let more = r#""result":"denied","error":101,"source":7,"door_state":1,"alarm":6,"seq":18446744073709551615,"boot":3,"other":{"a":[null]},"#;
        let report = read(&SAMPLE.replacen('{', &format!("{{{more}"), 1));
        assert_eq!((report.result, report.error), (Some(Said::Denied), Some(101)));
        assert_eq!((report.source, report.door_state, report.alarm), (Some(7), Some(1), Some(6)));
        assert_eq!((report.seq, report.boot), (Some(u64::MAX), Some(3)));
        assert!(report.flaws.is_empty());
    }

    #[test]
    fn a_battery_that_makes_no_sense_is_left_out() {
        for (battery, expected) in [
            ("83.4", Some(83.4)),
            (r#""83.4""#, Some(83.4)),
            ("0", Some(0.0)),
            ("100", Some(100.0)),
            (r#""100.0""#, Some(100.0)),
            ("100.1", None),
            ("-0.1", None),
            ("1e400", None),
            ("null", None),
            ("true", None),
            ("[83.4]", None),
            (r#""NaN""#, None),
            (r#""inf""#, None),
            (r#""""#, None),
            (r#""83,4""#, None),
        ] {
            let payload = SAMPLE.replace("83.4", battery);
            // 1e400 is beyond what the JSON reader takes for a number.
            let Ok(report) = Report::read(payload.as_bytes()) else {
                assert_eq!(battery, "1e400");
                continue;
            };
            assert_eq!(report.battery, expected, "{battery}");
            assert_eq!(report.flaws.is_empty(), expected.is_some(), "{battery}");
        }
        let without = read(&SAMPLE.replace(r#""battery": 83.4,"#, ""));
        assert_eq!((without.battery, without.flaws), (None, vec![]), "a lock may have none");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (name, value) in
            [("result", r#""done""#), ("error", "1.5"), ("alarm", r#""6""#), ("seq", "-1"), ("boot", "null")]
        {
            let report = read(&SAMPLE.replacen('{', &format!("{{\"{name}\":{value},"), 1));
            assert_eq!(report.flaws, [name]);
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for payload in [
            "",
            "null",
            "[]",
            "{}",
            "nonsense",
            &SAMPLE.replace("83.4", "NaN"),
            &SAMPLE.replace(r#""lock_state": 1"#, r#""lock_state": 1.0"#),
            &SAMPLE.replace(r#""lock_state": 1"#, r#""lock_state": "1""#),
            &SAMPLE.replace(r#""lock_state": 1"#, r#""lock_state": null"#),
            &SAMPLE.replace(r#""lock_state": 1"#, r#""lock_state": 9223372036854775808"#),
            &SAMPLE.replace(r#""lock_state": 1,"#, ""),
            &SAMPLE.replace(r#""lock_state": 1"#, r#""lock_state": 1, "lock_state": 0"#),
            &SAMPLE.replace(r#""10083618796833171""#, "10083618796833171"),
            &SAMPLE.replace(r#""7802441525528958""#, "7802441525528958"),
            &SAMPLE.replace("client_id", "client"),
            &format!("{SAMPLE} {SAMPLE}"),
        ] {
            assert!(Report::read(payload.as_bytes()).is_err(), "{payload}");
        }
    }

    #[test]
    fn a_heartbeat_answers_nothing() {
        for (from, to) in [("\"unlock\"", "\"heartbeat\""), ("\"7802441525528958\"", "\"\"")] {
            assert_eq!(read(&SAMPLE.replace(from, to)).answers(), None, "{to}");
        }
        for action in ["lock", "unlatch"] {
            assert!(read(&SAMPLE.replace("unlock", action)).answers().is_some(), "{action}");
        }
    }

    proptest! {
        #[test]
        fn a_battery_is_a_percentage_or_not_there(number in any::<f64>(), quoted in any::<bool>()) {
            let text = serde_json::to_string(&number).unwrap();
            let text = if quoted { format!("\"{text}\"") } else { text };
            let report = read(&SAMPLE.replace("83.4", &text));
            prop_assert_eq!(report.battery.is_some(), (0.0..=100.0).contains(&number));
            prop_assert!(report.battery.is_none_or(|battery| (0.0..=100.0).contains(&battery)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = Report::read(&bytes);
        }
    }
}
