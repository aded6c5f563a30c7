//! What the demo says of a record, a message, a command: one line each, for people. Pure.

use serde_json::Value;

use crate::demo::cast::name_of;
use crate::kafka::reader::Record;
use crate::show;
use crate::sink::Message;
use crate::stack::{ALARMS, COMMANDS, FINDINGS, REJECTED, STATES};

/// Widest line that most terminals show whole.
pub const WIDTH: usize = 100;
/// Digits of a signature or a nonce that are shown at its begin and at its end.
const DIGITS: usize = 6;

/// A record: where it is, and what is in it.
pub fn record(record: &Record) -> String {
    format!("{:<28} {}", show::place(record), content(record))
}

fn content(record: &Record) -> String {
    let Ok(value) = record.json() else { return "a value that is no JSON".to_owned() };
    let lock = name_of(text(&value, "client_id"));
    let payload = show::payload(&value).unwrap_or_default();
    match record.stream.as_str() {
        STATES => match serde_json::from_str(&payload) {
            Ok(report) => format!("{lock} reports: {}", show::report(&report)),
            Err(_) => format!("{lock} reports something else"),
        },
        COMMANDS => format!("{lock} got: {}, from {}", command(&payload), publisher(text(&value, "from"))),
        REJECTED => {
            let lock = text(&value, "topic").split('/').nth(1).map_or("?", name_of);
            format!("refused ({}): {} for {lock}", text(&value, "reason"), command(&payload))
        }
        FINDINGS => {
            format!("{lock}, {}: {} ({})", text(&value, "kind"), wrong(&value), text(&value, "severity"))
        }
        ALARMS => {
            let (kind, severity) = (text(&value, "type"), text(&value, "severity"));
            format!("{lock}: {kind} ({severity}) {}", text(&value, "change"))
        }
        _ => "something else".to_owned(),
    }
}

/// The auditor's verdict, and what else it found.
fn wrong(finding: &Value) -> String {
    let further = finding["findings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let all: Vec<&str> = std::iter::once(text(finding, "verdict")).chain(further).collect();
    all.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

fn command(payload: &str) -> String {
    let command: Value = serde_json::from_str(payload).unwrap_or_default();
    let sign = text(&command, "sign");
    let end = sign.get(sign.len().saturating_sub(DIGITS)..).unwrap_or_default();
    format!("{}, signed …{end}", text(&command, "action"))
}

/// A user's client ids begin with the user's name.
pub fn publisher(client_id: &str) -> &str {
    client_id.split('-').next().unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("?")
}

/// A message: whom to, and what about.
pub fn message(message: &Message) -> String {
    let about = message.subject.as_deref().unwrap_or(&message.text);
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{:<28} {about}", format!("to {}", message.to.join(", ")))
}

/// A command's payload in two lines, with the middle of the signature and of the nonce left out.
pub fn payload(payload: &str) -> String {
    let mut shown = payload.to_owned();
    for key in ["nonce_str", "sign"] {
        let begin = format!("\"{key}\":\"");
        let Some(from) = shown.find(&begin).map(|at| at + begin.len()) else { continue };
        let Some(length) = shown[from..].find('"') else { continue };
        let (first, last) = (from + DIGITS, from + length.saturating_sub(DIGITS));
        if first < last && shown.is_char_boundary(first) && shown.is_char_boundary(last) {
            shown.replace_range(first..last, "…");
        }
    }
    shown.replacen(",\"nonce_str\"", ",\n \"nonce_str\"", 1)
}

/// A text that is not wider than so many letters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let begin: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{begin}…")
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn check(stream: &str, value: Value, expected: &str) {
        let value = value.to_string().into_bytes();
        let (stream, headers) = (stream.to_owned(), Default::default());
        let record = super::record(&Record { stream, partition: 0, offset: 7, key: None, headers, value });
        let (place, content) = record.split_at(29);
        assert_eq!((place.split('/').nth(1).unwrap().trim_end(), content), ("0@7", expected));
    }

    #[test]
    fn records_are_told_in_one_line() {
        let message = |payload: &str| {
            json!({
                "client_id": "10083618796833171", "from": "operator-2", "reason": "replay",
                "topic": "devices/10083618796833172/command", "payload": STANDARD.encode(payload),
            })
        };
        let state = r#"{"client_id":"1","process_id":"2","action":"unlock","battery":9.5,"lock_state":1,"version":1.1}"#;
        check(STATES, message(state), "Front door reports: unlocked, battery 9.5 %");
        check(STATES, message("nonsense"), "Front door reports something else");
        let command = r#"{"process_id":"2","action":"unlock","sign":"0123456789abcdef"}"#;
        check(COMMANDS, message(command), "Front door got: unlock, signed …abcdef, from operator");
        check(COMMANDS, message("nonsense"), "Front door got: ?, signed …?, from operator");
        check(REJECTED, message(command), "refused (replay): unlock, signed …abcdef for Office");
        let finding = |findings: Value| {
            json!({
                "client_id": "7", "kind": "attempt", "verdict": "replay", "severity": "critical",
                "findings": findings,
            })
        };
        check(FINDINGS, finding(json!([])), "7, attempt: replay (critical)");
        check(FINDINGS, finding(json!(["no_result"])), "7, attempt: replay, no_result (critical)");
        let alarm = json!({ "client_id": "7", "type": "tamper", "severity": "critical", "change": "raised" });
        check(ALARMS, alarm, "7: tamper (critical) raised");
        check("other", json!([]), "something else");
    }

    #[test]
    fn messages_are_told_by_subject_or_text() {
        let mut told = Message {
            id: String::new(),
            at_ms: 0,
            from: String::new(),
            to: vec!["+81".to_owned()],
            subject: None,
            text: "two\nlines".to_owned(),
            html: None,
        };
        assert_eq!(message(&told), format!("{:<28} two lines", "to +81"));
        told.subject = Some("subject".to_owned());
        assert_eq!(message(&told), format!("{:<28} subject", "to +81"));
    }

    #[test]
    fn what_is_long_is_shortened() {
        for (whole, expected) in [
            (
                r#"{"nonce_str":"0123456789abcdef","sign":"0123456789abcdef"}"#,
                r#"{"nonce_str":"012345…abcdef","sign":"012345…abcdef"}"#,
            ),
            (r#"{"a":"b","nonce_str":"1"}"#, "{\"a\":\"b\",\n \"nonce_str\":\"1\"}"),
            (r#"{"sign":"0123456789ab"}"#, r#"{"sign":"0123456789ab"}"#),
            (r#"{"sign":"ääääääääääääää"}"#, r#"{"sign":"äää…äää"}"#),
            (r#"{"sign":"0123"#, r#"{"sign":"0123"#),
            ("", ""),
        ] {
            assert_eq!(payload(whole), expected);
        }
        assert_eq!([cut("äöü", 3), cut("äöüß", 3), cut("", 0)], ["äöü", "äö…", ""]);
    }
}
