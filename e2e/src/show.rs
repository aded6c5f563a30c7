//! How records and reports look on a terminal: for `lockctl` and the demo.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::kafka::reader::Record;
use crate::lock::decide::Refusal;
use crate::operator::Report;

/// Names of `lock_state` in the profile `reference` (contract, section 5).
const STATES: [&str; 9] = [
    "locked",
    "unlocked",
    "fault",
    "unknown",
    "unknown",
    "not fully locked",
    "unlatched",
    "locking",
    "unlocking",
];

/// Name of a `lock_state`.
pub fn state_name(lock_state: u64) -> &'static str {
    usize::try_from(lock_state).ok().and_then(|number| STATES.get(number)).copied().unwrap_or("unknown")
}

/// What a lock says: `unlocked, battery 83.4 %`, and before it, in an answer, how it went: `ok, `.
pub fn report(report: &Report) -> String {
    let result = match (report.result.as_deref(), report.error) {
        (Some(result), Some(code)) => match Refusal::from_code(code) {
            Some(refusal) => format!("{result} ({}), ", refusal.name()),
            None => format!("{result} (error {code}), "),
        },
        (Some(result), None) => format!("{result}, "),
        (None, _) => String::new(),
    };
    format!("{result}{}, battery {:.1} %", state_name(report.lock_state), report.battery)
}

/// Where a record is: `message_state/2@17`.
pub fn place(record: &Record) -> String {
    format!("{}/{}@{}", record.stream, record.partition, record.offset)
}

/// The MQTT payload in a record's value, if there is one and it is text.
pub fn payload(value: &Value) -> Option<String> {
    let bytes = STANDARD.decode(value.get("payload")?.as_str()?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()))
}

/// A record in full: place and key, headers, value, and the payload decoded where it is text.
pub fn record(record: &Record) -> String {
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut lines = vec![
        format!("{}  key {}", place(record), record.key.as_deref().unwrap_or("-")),
        format!("  headers  {}", headers.join("  ")),
        format!("  value    {}", String::from_utf8_lossy(&record.value)),
    ];
    if let Some(payload) = record.json().ok().as_ref().and_then(payload) {
        lines.push(format!("  payload  {payload}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: &str) -> Record {
        Record {
            stream: "message_state".to_owned(),
            partition: 2,
            offset: 17,
            key: Some("1".to_owned()),
            headers: [("dup", "false"), ("hook", "message.publish")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            value: value.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_record_is_shown_with_its_payload_where_that_is_text() {
        assert_eq!(
            record(&stored(r#"{"client_id":"1","payload":"eyJhIjoxfQ=="}"#)),
            "message_state/2@17  key 1\n  \
             headers  dup=false  hook=message.publish\n  \
             value    {\"client_id\":\"1\",\"payload\":\"eyJhIjoxfQ==\"}\n  \
             payload  {\"a\":1}"
        );
        for binary in [r#"{"payload":"/w=="}"#, r#"{"payload":"G1sy"}"#, r#"{"client_id":"1"}"#, "no json"] {
            assert!(!record(&stored(binary)).contains("  payload"), "{binary}");
        }
    }

    #[test]
    fn answers_are_shown_in_words() {
        let answer = |result: Option<&str>, error, lock_state| {
            report(&Report {
                client_id: "1".to_owned(),
                process_id: "p1".to_owned(),
                action: "unlock".to_owned(),
                battery: 83.4,
                lock_state,
                result: result.map(str::to_owned),
                error,
            })
        };
        assert_eq!(answer(Some("ok"), None, 1), "ok, unlocked, battery 83.4 %");
        assert_eq!(answer(Some("denied"), Some(102), 0), "denied (replay), locked, battery 83.4 %");
        assert_eq!(answer(Some("failed"), Some(0), 2), "failed (error 0), fault, battery 83.4 %");
        assert_eq!(answer(None, None, 77), "unknown, battery 83.4 %");
    }
}
