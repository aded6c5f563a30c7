//! Records of what locks, operators and attackers do, for tests.

use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::kafka::consumer::{Decoded, Record};
use latchline_shared::message::Qos;
use latchline_shared::record::{Delivery, Publish, write_delivery, write_publish, write_rejected};
use serde_json::json;

use crate::event::Event;
use crate::judge::Settings;
use crate::keys::{Keys, KeysConfig};
use crate::record::{Item, Streams, decode};

const MASTER: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";
pub(crate) const LOCK: &str = "10083618796833171";
/// 2026-01-01.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
pub(crate) const LANE: i16 = 3;

pub(crate) fn streams() -> Streams {
    let [states, commands, rejected] =
        ["message_state", "message_command", "message_command_rejected"].map(str::to_owned);
    Streams { states, commands, rejected }
}

pub(crate) fn keys() -> Keys {
    let config: KeysConfig = serde_json::from_value(json!({"master_key": MASTER, "master_key_file": "",
        "named": [], "lock_secrets_file": "", "short_sign_locks": [], "revoked_locks": []}))
    .unwrap();
    Keys::load(&config).unwrap()
}

pub(crate) fn settings() -> Settings {
    serde_json::from_value(json!({
        "result_timeout_ms": 30_000, "orphan_grace_ms": 30_000, "idle_grace_ms": 5_000,
        "nonce_keep_s": 86_400, "process_keep_s": 2_592_000,
        "publishers": {"client_ids": [], "usernames": []},
        "profiles": {"default": "reference", "locks": []},
    }))
    .unwrap()
}

/// A record that is to be: who did what, when.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Deliver { receiver: String, from: String, lock: String, payload: String, mid: u8, dup: bool },
    Reject { from: String, lock: String, payload: String, reason: &'static str },
    State { publisher: String, lock: String, payload: String },
}

/// A signed command.
pub(crate) fn command(lock: &str, action: Action, process_id: &str, nonce: &str, at_ms: i64) -> String {
    let key = MasterKey::from_hex(MASTER).unwrap().command_key(lock);
    let draft = Draft { process_id, action, nonce, ts: at_ms / 1_000, ttl: None, kid: None, extra: &[] };
    sign_command(&draft, lock, &key, SignLength::Full).unwrap()
}

/// The lock has the command.
pub(crate) fn delivered(payload: &str, mid: u8) -> Act {
    let (receiver, from, lock) = (LOCK.to_owned(), "backend".to_owned(), LOCK.to_owned());
    Act::Deliver { receiver, from, lock, payload: payload.to_owned(), mid, dup: false }
}

pub(crate) fn state(process_id: &str, action: &str, lock_state: i64) -> Act {
    state_with(process_id, action, lock_state, "")
}

/// With further fields, each with a comma behind it.
pub(crate) fn state_with(process_id: &str, action: &str, lock_state: i64, more: &str) -> Act {
    let payload = format!(
        r#"{{{more}"process_id":"{process_id}","action":"{action}","battery":83.4,"lock_state":{lock_state},"version":1.1,"client_id":"{LOCK}"}}"#
    );
    Act::State { publisher: LOCK.to_owned(), lock: LOCK.to_owned(), payload }
}

/// The act's record as the kit hands it over.
pub(crate) fn record(act: &Act, at_ms: i64, offset: i64) -> Decoded<Item> {
    let (node, username, qos, ts) = ("n", "", Qos::AtLeastOnce, u64::try_from(at_ms).unwrap());
    let mut value = Vec::new();
    let mut headers = Vec::new();
    let stream = match act {
        Act::Deliver { receiver, from, lock, payload, mid, dup } => {
            let topic = &format!("devices/{lock}/command");
            let (publisher, payload) = (from.as_str(), payload.as_bytes());
            write_delivery(
                &mut value,
                &Delivery { receiver, username, publisher, topic, payload, qos, node, ts },
            );
            headers.push(("mid".to_owned(), vec![*mid]));
            headers.push(("publisher_dup".to_owned(), dup.to_string().into_bytes()));
            // That the lock got it a second time says nothing about who sent it.
            headers.push(("dup".to_owned(), (!dup).to_string().into_bytes()));
            "message_command"
        }
        Act::Reject { from, lock, payload, reason } => {
            let topic = &format!("devices/{lock}/command");
            let (publisher, payload) = (from.as_str(), payload.as_bytes());
            write_rejected(
                &mut value,
                &Publish { publisher, username: "someone", topic, payload, qos, node, ts },
                reason,
            );
            "message_command_rejected"
        }
        Act::State { publisher, lock, payload } => {
            let (topic, payload) = (&format!("devices/{lock}/state"), payload.as_bytes());
            write_publish(&mut value, &Publish { publisher, username, topic, payload, qos, node, ts });
            "message_state"
        }
    };
    let (stream, partition) = (stream.into(), i32::from(LANE));
    let record = Record { stream, partition, offset, timestamp_ms: None, key: None, value, headers };
    let item = decode(&record, &streams(), &keys()).unwrap();
    Decoded { record, item }
}

/// Records of acts, each so many milliseconds after [`START_MS`].
pub(crate) fn records(acts: &[(i64, Act)]) -> Vec<Decoded<Item>> {
    let numbered = acts.iter().zip(0..);
    numbered.map(|((after_ms, act), offset)| record(act, START_MS + after_ms, offset)).collect()
}

/// An event in short: kind, verdict, findings.
pub(crate) fn short(event: &Event) -> String {
    let words = [event.kind.name(), &event.verdict, &event.findings.join("+")];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
