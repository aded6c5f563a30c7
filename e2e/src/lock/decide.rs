//! What a lock does with a message on its command topic. Pure: the caller brings the clock and the
//! memory of nonces, and does what is decided.
//!
//! Ordering: delivery, form, length of the signature, signature, freshness, nonce; only then is the
//! nonce remembered, then the lock acts, then it reports. A check that came later than its place
//! would let somebody without the key learn or change something.

use latchline_shared::command::{Action, Command, Freshness, ShortSign, freshness};
use latchline_shared::keys::CommandKey;
use latchline_shared::message::Qos;
use serde::Deserialize;

use crate::lock::nonces::{Nonce, Nonces};
use crate::mqtt::Received;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Remember the nonce, then act, then report.
    Act(Command),
    /// Report the refusal; nothing moves.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// Process id and action to answer, as far as they could be read. They are the sender's
        /// word and worth no more than that.
        answers: Option<(String, Action)>,
    },
}

/// Why a command is refused; the number is `error` in the report (contract, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Unreadable, unsigned, or signed with another key.
    BadSign = 100,
    /// Too old, or from the future.
    Stale = 101,
    /// Acted on before.
    Replay = 102,
    /// Came with QoS 0 or was retained: no proof of delivery, or nobody sent it now.
    UnsafeDelivery = 103,
    /// No room to remember one more nonce.
    Busy = 104,
}

impl Refusal {
    /// The number in the report.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadSign => "bad_sign",
            Self::Stale => "stale",
            Self::Replay => "replay",
            Self::UnsafeDelivery => "qos0_or_retained",
            Self::Busy => "busy",
        }
    }

    /// The refusal with this number.
    pub fn from_code(code: u64) -> Option<Self> {
        [Self::BadSign, Self::Stale, Self::Replay, Self::UnsafeDelivery, Self::Busy]
            .into_iter()
            .find(|refusal| u64::from(refusal.code()) == code)
    }
}

/// What a lock needs to know to decide.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The lock's id.
    pub id: &'a str,
    /// Its key.
    pub key: &'a CommandKey,
    /// Whether it takes signatures of 16 digits.
    pub short_sign: ShortSign,
    /// What it has acted on.
    pub nonces: &'a Nonces,
    /// Its clock, in Unix milliseconds.
    pub now_ms: i64,
}

/// Decides about one message on the lock's command topic.
pub fn decide(known: Known<'_>, received: &Received) -> Decision {
    let refuse = |refusal, answers| Decision::Refuse { refusal, answers };
    if received.qos == Qos::AtMostOnce || received.retain {
        return refuse(Refusal::UnsafeDelivery, claim(&received.payload));
    }
    // The length of the signature is part of the form.
    let Ok(command) = Command::parse(&received.payload, known.id) else {
        return refuse(Refusal::BadSign, claim(&received.payload));
    };
    let answers = Some((command.process_id.clone(), command.action));
    if !command.verify(known.key, known.short_sign) {
        return refuse(Refusal::BadSign, answers);
    }
    if freshness(command.ts, command.ttl, known.now_ms) != Freshness::Fresh {
        return refuse(Refusal::Stale, answers);
    }
    match known.nonces.look(&command.nonce, known.now_ms / 1000) {
        Nonce::New => Decision::Act(command),
        Nonce::Seen => refuse(Refusal::Replay, answers),
        Nonce::NoRoom => refuse(Refusal::Busy, answers),
    }
}

/// What a payload that is no valid command says that it answers to, so that whoever sent it by
/// mistake learns why nothing happened.
fn claim(payload: &[u8]) -> Option<(String, Action)> {
    #[derive(Deserialize)]
    struct Claim {
        process_id: String,
        action: String,
    }
    let claim: Claim = serde_json::from_slice(payload).ok()?;
    let readable = (1..=64).contains(&claim.process_id.len())
        && claim.process_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    readable.then_some(())?;
    Some((claim.process_id, Action::from_name(&claim.action)?))
}

#[cfg(test)]
mod tests {
    use latchline_shared::command::draft::{Draft, SignLength, sign_command};

    use super::*;

    const ID: &str = "10083618796833171";
    const NOW_S: i64 = 1_574_744_434;

    fn key() -> CommandKey {
        CommandKey::from_bytes([7; 32])
    }

    fn signed(ts: i64, nonce: &str, target: &str, length: SignLength) -> String {
        let draft =
            Draft { process_id: "p1", action: Action::Unlock, nonce, ts, ttl: None, kid: None, extra: &[] };
        sign_command(&draft, target, &key(), length).unwrap()
    }

    fn received(payload: &str) -> Received {
        Received {
            topic: format!("devices/{ID}/command"),
            payload: payload.to_owned().into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: false,
        }
    }

    fn decide_now(received: &Received) -> Decision {
        let mut nonces = Nonces::default();
        nonces.insert("seenbefore", NOW_S);
        let (key, now_ms) = (key(), NOW_S * 1000);
        decide(Known { id: ID, key: &key, short_sign: ShortSign::Refused, nonces: &nonces, now_ms }, received)
    }

    fn check(payload: &str, refusal: Refusal, answers: Option<&str>) {
        let answers = answers.map(|process_id| (process_id.to_owned(), Action::Unlock));
        assert_eq!(decide_now(&received(payload)), Decision::Refuse { refusal, answers }, "{payload}");
    }

    #[test]
    fn a_fresh_signed_command_is_acted_on() {
        let decision = decide_now(&received(&signed(NOW_S, "newnonce", ID, SignLength::Full)));
        assert!(matches!(decision, Decision::Act(command) if command.process_id == "p1"));
    }

    #[test]
    fn what_is_not_signed_for_this_lock_is_refused() {
        let full = |target| signed(NOW_S, "newnonce", target, SignLength::Full);
        check(&full("10083618796833172"), Refusal::BadSign, Some("p1"));
        check(&full(ID).replace("unlock", "reboot"), Refusal::BadSign, None);
        check(&full(ID).replace("\"p1\"", "\"p2\""), Refusal::BadSign, Some("p2"));
        check(&signed(NOW_S, "newnonce", ID, SignLength::Short), Refusal::BadSign, Some("p1"));
        check("{}", Refusal::BadSign, None);
        check("no json", Refusal::BadSign, None);
        check(r#"{"process_id":"p 1","action":"unlock"}"#, Refusal::BadSign, None);
        // The sample of the contract, whose signature nobody can reproduce.
        let sample = r#"{ "process_id": "7802441525528958", "action": "unlock", "nonce_str": "u7u4p0n8", "ts": 1574744434, "sign": "e9f5af7deaa28563" }"#;
        check(sample, Refusal::BadSign, Some("7802441525528958"));
    }

    #[test]
    fn time_and_nonce_are_looked_at_after_the_signature() {
        for (ts, nonce, refusal) in [
            (NOW_S - 61, "newnonce", Refusal::Stale),
            (NOW_S + 31, "newnonce", Refusal::Stale),
            (NOW_S, "seenbefore", Refusal::Replay),
            (NOW_S - 61, "seenbefore", Refusal::Stale),
        ] {
            check(&signed(ts, nonce, ID, SignLength::Full), refusal, Some("p1"));
            // Without the right key none of this can be learned.
            check(&signed(ts, nonce, "other", SignLength::Full), Refusal::BadSign, Some("p1"));
        }
    }

    #[test]
    fn unsafe_delivery_is_refused_whatever_the_signature() {
        let command = received(&signed(NOW_S, "newnonce", ID, SignLength::Full));
        for unsafe_one in [
            Received { qos: Qos::AtMostOnce, ..command.clone() },
            Received { retain: true, ..command.clone() },
        ] {
            let answers = Some(("p1".to_owned(), Action::Unlock));
            let expected = Decision::Refuse { refusal: Refusal::UnsafeDelivery, answers };
            assert_eq!(decide_now(&unsafe_one), expected);
        }
        assert!(matches!(decide_now(&Received { dup: true, ..command }), Decision::Act(_)));
    }

    #[test]
    fn a_lock_without_room_refuses() {
        let mut nonces = Nonces::default();
        let mut n = 0;
        while nonces.look("newnonce", NOW_S) == Nonce::New {
            nonces.insert(&n.to_string(), NOW_S);
            n += 1;
        }
        let key = key();
        let known = Known {
            id: ID,
            key: &key,
            short_sign: ShortSign::Refused,
            nonces: &nonces,
            now_ms: NOW_S * 1000,
        };
        let decision = decide(known, &received(&signed(NOW_S, "newnonce", ID, SignLength::Full)));
        assert!(matches!(decision, Decision::Refuse { refusal: Refusal::Busy, .. }));
    }

    #[test]
    fn codes_are_read_back() {
        for code in 100..=104 {
            assert_eq!(u64::from(Refusal::from_code(code).unwrap().code()), code);
        }
        assert_eq!(Refusal::from_code(0), None);
    }
}
