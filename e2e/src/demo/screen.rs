//! How the demo looks: headings, sentences, and one line for each record that Kafka has stored.
#![expect(clippy::disallowed_macros, reason = "the demo talks on standard output")]

use std::io::IsTerminal;
use std::sync::LazyLock;

use serde_json::Value;

use crate::kafka::reader::Record;
use crate::show;
use crate::stack::{REJECTED, STATES};

static COLOURED: LazyLock<bool> = LazyLock::new(|| std::io::stdout().is_terminal());

/// Begins a step.
pub fn heading(text: &str) {
    println!("\n{}", paint("1", text));
}

/// Says something.
pub fn say(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}

/// Says that a step went well.
pub fn proved(text: &str) {
    println!("  {} {text}", paint("32", "✓"));
}

/// Shows a record as it appears.
pub fn record(record: &Record) {
    println!("  {} {}", paint("36", &format!("{:<22}", show::place(record))), brief(record));
}

fn paint(code: &str, text: &str) -> String {
    if *COLOURED { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A record in one line.
fn brief(record: &Record) -> String {
    let Ok(value) = record.json() else { return "a value that is no JSON".to_owned() };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let payload = show::payload(&value).unwrap_or_default();
    let lock = text(&value, "client_id");
    if record.stream == STATES {
        match serde_json::from_str(&payload) {
            Ok(report) => format!("lock {lock} reports: {}", show::report(&report)),
            Err(_) => format!("lock {lock} reports something else"),
        }
    } else {
        let command: Value = serde_json::from_str(&payload).unwrap_or_default();
        let (action, sign) = (text(&command, "action"), text(&command, "sign"));
        let sign = sign.get(sign.len().saturating_sub(6)..).unwrap_or_default();
        if record.stream == REJECTED {
            let reason = text(&value, "reason");
            return format!("refused ({reason}): {action}, signed …{sign}, from {lock}");
        }
        format!("lock {lock} got: {action}, signed …{sign}, from {}", text(&value, "from"))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn check(stream: &str, payload: &str, expected: &str) {
        let payload = STANDARD.encode(payload);
        let value =
            format!(r#"{{"client_id":"1","from":"operator-2","payload":"{payload}","reason":"replay"}}"#);
        let record = Record {
            stream: stream.to_owned(),
            partition: 0,
            offset: 0,
            key: None,
            headers: Default::default(),
            value: value.into_bytes(),
        };
        assert_eq!(brief(&record), expected);
    }

    #[test]
    fn records_are_told_in_one_line() {
        let state = r#"{"client_id":"1","process_id":"2","action":"unlock","battery":9.5,"lock_state":1,"version":1.1}"#;
        check(STATES, state, "lock 1 reports: unlocked, battery 9.5 %");
        check(STATES, "nonsense", "lock 1 reports something else");
        let command = r#"{"process_id":"2","action":"unlock","sign":"0123456789abcdef"}"#;
        check("message_command", command, "lock 1 got: unlock, signed …abcdef, from operator-2");
        check(REJECTED, command, "refused (replay): unlock, signed …abcdef, from 1");
        check("message_command", "nonsense", "lock 1 got: ?, signed …?, from operator-2");
    }
}
