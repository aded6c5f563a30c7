//! What the guard says to a command: the verdicts of contract, section 4, as far as the broker can
//! tell, and what is decided before the memory of nonces is asked. Pure.

use latchline_shared::command::Command;
use latchline_shared::hook::Refusal;
use latchline_shared::keys::KeyRing;
use latchline_shared::message::{Message, Qos};

use crate::packet::types::reason;

/// The verdict on one command, first match wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be delivered.
    Ok,
    /// The sender missed its acknowledgement and repeats a command that was let through.
    Retransmit,
    /// It could be lost, or would be carried out again whenever the lock connects.
    UnsafeDelivery,
    /// It cannot be read.
    Malformed,
    /// Its signature has not the form of one.
    BadFormat,
    /// There is no key to verify it with.
    Unverifiable,
    /// It was signed with another key, or something else was signed.
    BadSignature,
    /// It is too old, or older than the guard's memory.
    Stale,
    /// It was signed ahead of time.
    Future,
    /// Its nonce was used for another command.
    NonceConflict,
    /// It was let through before.
    Replay,
    /// There is no room to remember it.
    Busy,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Retransmit,
        Self::UnsafeDelivery,
        Self::Malformed,
        Self::BadFormat,
        Self::Unverifiable,
        Self::BadSignature,
        Self::Stale,
        Self::Future,
        Self::NonceConflict,
        Self::Replay,
        Self::Busy,
    ];

    /// The word in records, reason strings, logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retransmit => "retransmit",
            Self::UnsafeDelivery => "qos0_or_retained",
            Self::Malformed => "malformed",
            Self::BadFormat => "bad_format",
            Self::Unverifiable => "unverifiable",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::NonceConflict => "nonce_conflict",
            Self::Replay => "replay",
            Self::Busy => "busy",
        }
    }

    /// What the sender is told if it is refused.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Busy => Refusal { reason_code: reason::QUOTA_EXCEEDED, cause: self.word() },
            _ => Refusal::not_authorized(self.word()),
        }
    }
}

/// The lock that a message is a command for, if its topic is `devices/{id}/command`; an empty id is
/// one too, which has no key.
pub fn target(topic: &str) -> Option<&str> {
    topic.strip_prefix("devices/")?.strip_suffix("/command").filter(|id| !id.contains('/'))
}

/// The command in a message for the lock `target`, if it is signed with one of the lock's keys;
/// whether it comes in time and for the first time is still to be asked.
pub fn examine(message: &Message, target: &str, keys: &KeyRing) -> Result<Command, Verdict> {
    if message.qos == Qos::AtMostOnce || message.retain {
        return Err(Verdict::UnsafeDelivery);
    }
    let command = Command::parse(&message.payload, target).map_err(|error| match error.verdict() {
        "bad_format" => Verdict::BadFormat,
        _ => Verdict::Malformed,
    })?;
    let short = keys.allows_short(target);
    let (mut has_key, mut is_signed) = (false, false);
    for (_, key) in keys.candidates(target, command.kid.as_deref()) {
        has_key = true;
        is_signed |= command.verify(&key, short);
    }
    match (has_key, is_signed) {
        (_, true) => Ok(command),
        (true, false) => Err(Verdict::BadSignature),
        (false, false) => Err(Verdict::Unverifiable),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use latchline_shared::keys::MasterKey;
    use latchline_shared::message::MessageId;

    use super::*;

    const LOCK: &str = "10083618796833171";
    const SAMPLE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;
    /// Vector V6 of the contract: the master is all that the guard has.
    const MASTER: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";
    const V6: &str = "dcca356d054ff60f92ce106787e599453cfa2d47a4fddefd72d1865ecb6d911e";

    fn keys() -> KeyRing {
        KeyRing::new(vec![(None, MasterKey::from_hex(MASTER).unwrap())]).unwrap()
    }

    fn message(payload: &str) -> Message {
        Message {
            mid: MessageId(1),
            from: "operator".into(),
            topic: format!("devices/{LOCK}/command").into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: false,
            packet_id: Some(1),
            properties: None,
            received_at: Instant::now(),
            expiry: None,
        }
    }

    fn signed() -> String {
        SAMPLE.replace("e9f5af7deaa28563", V6)
    }

    #[test]
    fn commands_have_a_target() {
        for (topic, expected) in [
            ("devices/1/command", Some("1")),
            ("devices//command", Some("")),
            ("devices/1/state", None),
            ("devices/1/2/command", None),
            ("devices/command", None),
            ("x/devices/1/command", None),
            ("devices/1/command/", None),
        ] {
            assert_eq!(target(topic), expected, "{topic}");
            assert_eq!(latchline_shared::topic::matches("devices/+/command", topic), expected.is_some());
        }
    }

    #[test]
    fn only_what_a_key_of_the_lock_signed_passes() {
        let short = signed().replace(V6, &V6[..16]);
        let marked = || keys().with_short([LOCK.to_owned()]);
        let revoked = || keys().with_revoked([LOCK.to_owned()]);
        for (what, payload, target, keys, expected) in [
            ("signed", signed(), LOCK, keys(), None),
            ("the sample as it stands", SAMPLE.to_owned(), LOCK, keys(), Some(Verdict::BadSignature)),
            ("short", short.clone(), LOCK, keys(), Some(Verdict::BadSignature)),
            ("short, marked", short, LOCK, marked(), None),
            ("another lock", signed(), "1", keys(), Some(Verdict::BadSignature)),
            ("no lock", signed(), "", keys(), Some(Verdict::BadSignature)),
            ("no key", signed(), LOCK, KeyRing::default(), Some(Verdict::Unverifiable)),
            ("revoked", signed(), LOCK, revoked(), Some(Verdict::Unverifiable)),
            ("upper case", signed().replace(V6, &V6.to_uppercase()), LOCK, keys(), Some(Verdict::BadFormat)),
            ("no JSON", "unlock".to_owned(), LOCK, keys(), Some(Verdict::Malformed)),
            ("too long", format!("{}{}", signed(), " ".repeat(4096)), LOCK, keys(), Some(Verdict::Malformed)),
        ] {
            assert_eq!(examine(&message(&payload), target, &keys).err(), expected, "{what}");
        }
    }

    #[test]
    fn unsafe_delivery_comes_first() {
        for payload in [signed(), "unlock".to_owned()] {
            for unsafe_one in [
                Message { qos: Qos::AtMostOnce, ..message(&payload) },
                Message { retain: true, ..message(&payload) },
            ] {
                assert_eq!(examine(&unsafe_one, LOCK, &keys()).err(), Some(Verdict::UnsafeDelivery));
            }
        }
    }

    #[test]
    fn each_verdict_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = Verdict::ALL.map(Verdict::word).into();
        assert_eq!(words.len(), Verdict::ALL.len());
        assert_eq!((Verdict::Busy.refusal().reason_code, Verdict::Stale.refusal().reason_code), (0x97, 0x87));
    }
}
