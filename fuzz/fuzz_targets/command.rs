//! Commands: whatever the bytes, reading them ends without a panic; and what can be read means one
//! thing only.
//!
//! What parses is written anew from its canonical text, and signed: that parses too, verifies, has
//! the same canonical text, and does not verify under another key or for another lock.

#![no_main]

use latchline_shared::command::draft::{Draft, SignLength, Value, sign_command};
use latchline_shared::command::{Command, ShortSign};
use latchline_shared::keys::CommandKey;
use libfuzzer_sys::fuzz_target;

const LOCK: &str = "10083618796833171";

fuzz_target!(|payload: &[u8]| {
    let Ok(command) = Command::parse(payload, LOCK) else { return };
    let (key, other) = (CommandKey::from_bytes([7; 32]), CommandKey::from_bytes([8; 32]));
    assert!(!command.verify(&other, ShortSign::Refused), "a signature by chance");
    let extra = extra(&command);
    let extra: Vec<_> = extra.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let draft = Draft {
        process_id: &command.process_id,
        action: command.action,
        nonce: &command.nonce,
        ts: command.ts,
        ttl: command.canonical.contains("&ttl=").then_some(command.ttl),
        kid: command.kid.as_deref(),
        extra: &extra,
    };
    // Written anew it may be longer than a command can be: nothing else may be wrong with it.
    let again = match sign_command(&draft, LOCK, &key, SignLength::Full) {
        Ok(again) => again,
        Err(error) => {
            assert!(error.to_string().contains("longer than"), "{error}: {}", command.canonical);
            return;
        }
    };
    let again = Command::parse(again.as_bytes(), LOCK).expect("what was signed is a command");
    assert_eq!(again.canonical, command.canonical);
    assert_eq!((again.ts, again.ttl, &again.kid), (command.ts, command.ttl, &command.kid));
    assert!(again.verify(&key, ShortSign::Refused) && !again.verify(&other, ShortSign::Refused));
    let elsewhere = Command::parse(payload, "10083618796833172");
    assert!(elsewhere.is_err() || elsewhere.is_ok_and(|moved| moved.canonical != command.canonical));
});

/// The fields beside those that a draft knows, out of the canonical text. What their type was, it
/// does not say; `7` and `"7"` are the same text, so text serves for all.
fn extra(command: &Command) -> Vec<(String, Value)> {
    const KNOWN: [&str; 7] = ["process_id", "action", "nonce_str", "ts", "ttl", "kid", "client_id"];
    let pairs = command.canonical.split('&').map(|pair| pair.split_once('=').expect("name=value"));
    pairs
        .filter(|(name, _)| !KNOWN.contains(name))
        .map(|(name, value)| (name.to_owned(), Value::Text(decoded(value))))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at(2);
            let digits = str::from_utf8(digits).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).expect("it was text")
}
