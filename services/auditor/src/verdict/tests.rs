//! The golden cases of the contract, the table of verdicts, and what holds for every payload.

use std::collections::BTreeMap;
use std::time::Duration;

use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::keys::MasterKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::keys::KeysConfig;

const LOCK: &str = "10083618796833171";
const MASTER: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";
const SAMPLE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;
/// V1 and its like are signed with the bytes 00 to 1f, V6 with what [`MASTER`] gives.
const V1: &str = "0aebeba2333244de3dc4ad673bfc9add112da6dc68343c7f5b186f7376cd772c";
const V2: &str = "612a5895b668a01ba1b13f0b4168357dc5d285fcbda4c7b1615c19fb8f84bf7a";
const V6: &str = "dcca356d054ff60f92ce106787e599453cfa2d47a4fddefd72d1865ecb6d911e";
const SIGNED_AT_MS: i64 = 1_574_744_434_000;

fn load(set: &Value) -> Keys {
    let mut all = json!({"master_key": "", "master_key_file": "", "named": [], "lock_secrets_file": "",
        "short_sign_locks": [], "revoked_locks": []});
    all.as_object_mut().unwrap().extend(set.as_object().unwrap().clone());
    let config: KeysConfig = serde_json::from_value(all).unwrap();
    Keys::load(&config).unwrap()
}

/// The key of the contract's vectors as the lock's own secret.
fn vector_keys() -> Keys {
    let file = tempfile::NamedTempFile::new().unwrap();
    let digits: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(file.path(), format!("{LOCK} {digits}\n10083618796833172 {digits}")).unwrap();
    load(&json!({"lock_secrets_file": file.path()}))
}

fn fleet() -> Keys {
    load(&json!({"master_key": MASTER}))
}

fn sample(sign: &str) -> String {
    SAMPLE.replace("e9f5af7deaa28563", sign)
}

fn passage(seen_at_ms: i64) -> Passage<'static> {
    Passage { seen_at_ms, mid: Some("m1"), from: "backend", dup: Some(false) }
}

fn verdict(payload: &str, keys: &Keys, seen_at_ms: i64) -> Verdict {
    classify(&examine(payload.as_bytes(), LOCK, keys, seen_at_ms), &passage(seen_at_ms), None)
}

#[test]
fn the_samples_of_the_contract() {
    for keys in [vector_keys(), fleet()] {
        assert_eq!(verdict(SAMPLE, &keys, 1_574_751_635_845), Verdict::BadSignature);
    }
    for (keys, sign) in [(vector_keys(), V1), (fleet(), V6)] {
        assert_eq!(verdict(&sample(sign), &keys, 1_574_751_635_845), Verdict::Stale);
        assert_eq!(verdict(&sample(sign), &keys, 1_574_744_435_000), Verdict::Ok);
    }
}

#[test]
fn what_must_fail() {
    let keys = vector_keys();
    let v1 = sample(V1);
    let sign = |text: &str| sample(text);
    for (what, payload, expected) in [
        ("duplicate ts", v1.replace(r#""ts""#, r#""ts": 1574744434, "ts""#), Verdict::Malformed),
        ("float ts", v1.replace("1574744434", "1574744434.0"), Verdict::Malformed),
        ("string ts", v1.replace("1574744434", r#""1574744434""#), Verdict::Malformed),
        ("null field", v1.replace(r#""ts""#, r#""note": null, "ts""#), Verdict::Malformed),
        ("empty nonce", v1.replace("u7u4p0n8", ""), Verdict::Malformed),
        ("sign of 2", sign(&V1[..2]), Verdict::BadFormat),
        ("sign of 15", sign(&V1[..15]), Verdict::BadFormat),
        ("sign of 32", sign(&V1[..32]), Verdict::BadFormat),
        ("sign of 63", sign(&V1[..63]), Verdict::BadFormat),
        ("sign of 65", sign(&format!("{V1}0")), Verdict::BadFormat),
        ("upper case", sign(&V1.to_uppercase()), Verdict::BadFormat),
        ("no sign", v1.replace("sign", "sig"), Verdict::BadFormat),
        ("short without leave", sign(&V1[..16]), Verdict::BadSignature),
        ("V2's sign", sign(V2), Verdict::BadSignature),
        ("the sample's", SAMPLE.to_owned(), Verdict::BadSignature),
        ("another lock", v1.replace(r#""ts""#, r#""client_id": "1", "ts""#), Verdict::Malformed),
        ("no JSON", "unlock".to_owned(), Verdict::Malformed),
        ("empty", String::new(), Verdict::Malformed),
        ("too long", format!("{v1}{}", " ".repeat(4096)), Verdict::Malformed),
    ] {
        assert_eq!(verdict(&payload, &keys, SIGNED_AT_MS), expected, "{what}");
    }
}

#[test]
fn keys_decide() {
    let short = load(&json!({"master_key": MASTER, "short_sign_locks": [LOCK]}));
    let revoked = load(&json!({"master_key": MASTER, "revoked_locks": [LOCK]}));
    let with_kid = sample(V6).replace(r#""ts""#, r#""kid": "k1", "ts""#);
    for (payload, keys, expected) in [
        (sample(V6), &short, Verdict::Ok),
        (sample(&V6[..16]), &short, Verdict::Ok),
        (sample(&V6[..16]), &fleet(), Verdict::BadSignature),
        (sample(V6), &revoked, Verdict::Unverifiable),
        (sample(V6), &Keys::default(), Verdict::Unverifiable),
        (with_kid, &fleet(), Verdict::Unverifiable),
    ] {
        assert_eq!(verdict(&payload, keys, SIGNED_AT_MS), expected, "{payload}");
    }
}

#[test]
fn keys_rotate_without_a_false_verdict() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let other = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    std::fs::write(file.path(), other).unwrap();
    let key = json!({"kid": "k2", "master_key_file": file.path()});
    let both = load(&json!({"master_key": MASTER, "named": [key]}));
    let draft = |kid| Draft {
        process_id: "1",
        action: Action::Lock,
        nonce: "abcdefgh",
        ts: 1_574_744_434,
        ttl: None,
        kid,
        extra: &[],
    };
    for (master, kid, used) in
        [(MASTER, None, None), (other, None, Some("k2")), (other, Some("k2"), Some("k2"))]
    {
        let key = MasterKey::from_hex(master).unwrap().command_key(LOCK);
        let payload = sign_command(&draft(kid), LOCK, &key, SignLength::Full).unwrap();
        let examined = examine(payload.as_bytes(), LOCK, &both, SIGNED_AT_MS);
        assert_eq!((&examined.signature, examined.kid.as_deref()), (&Signature::Verified, used), "{kid:?}");
    }
}

/// What is known of the nonce, and how the command comes again.
struct Again {
    what: &'static str,
    payload: [u8; 32],
    mid: (Option<&'static str>, Option<&'static str>),
    from: &'static str,
    after_ms: i64,
    dup: Option<bool>,
    expected: Verdict,
}

#[test]
fn a_nonce_that_is_known() {
    let keys = fleet();
    let examined = examine(sample(V6).as_bytes(), LOCK, &keys, SIGNED_AT_MS);
    let same = examined.payload_sha256;
    let (m1, m2) = (Some("m1"), Some("m2"));
    let row = |what, mid, from, after_ms, dup, expected| Again {
        what,
        payload: same,
        mid,
        from,
        after_ms,
        dup,
        expected,
    };
    let (dup, first, unknown) = (Some(true), Some(false), None);
    let other_bytes = |mid| Again {
        payload: [0; 32],
        ..row("other bytes", mid, "backend", 0, dup, Verdict::NonceConflict)
    };
    for case in [
        other_bytes((m1, m1)),
        other_bytes((m1, m2)),
        other_bytes((None, None)),
        row("fan-out", (m1, m1), "backend", 5, first, Verdict::Duplicate),
        row("fan-out, much later", (m1, m1), "backend", 3_600_000, unknown, Verdict::Duplicate),
        row("fan-out, of a will", (m1, m1), "other", 5, first, Verdict::Duplicate),
        row("retry", (m1, m2), "backend", 59_000, dup, Verdict::Retransmit),
        row("retry at the bound", (m1, m2), "backend", 60_000, dup, Verdict::Retransmit),
        row("retry that overtook", (m1, m2), "backend", -60_000, dup, Verdict::Retransmit),
        row("a broker that says little", (None, None), "backend", 1, unknown, Verdict::Retransmit),
        row("mid on one side", (None, m2), "backend", 1, unknown, Verdict::Retransmit),
        row("mid on the other side", (m1, None), "backend", 1, unknown, Verdict::Retransmit),
        row("later", (m1, m2), "backend", 60_001, dup, Verdict::Replay),
        row("before", (m1, m2), "backend", -60_001, dup, Verdict::Replay),
        row("not marked", (m1, m2), "backend", 1, first, Verdict::Replay),
        row("another publisher", (m1, m2), "eve", 1, dup, Verdict::Replay),
        row("another publisher, unknown", (None, None), "eve", 1, unknown, Verdict::Replay),
        row("a day later", (m1, m2), "eve", 86_400_000, first, Verdict::Replay),
    ] {
        let first = FirstUse {
            payload_sha256: case.payload,
            at_ms: SIGNED_AT_MS,
            mid: case.mid.0.map(str::to_owned),
            from: "backend".to_owned(),
        };
        let passage = Passage {
            seen_at_ms: SIGNED_AT_MS + case.after_ms,
            mid: case.mid.1,
            from: case.from,
            dup: case.dup,
        };
        assert_eq!(classify(&examined, &passage, Some(&first)), case.expected, "{}", case.what);
    }
}

#[test]
fn an_unknown_nonce_is_judged_by_time() {
    let with_ttl = {
        let key = MasterKey::from_hex(MASTER).unwrap().command_key(LOCK);
        let ttl = Some(Duration::from_secs(300));
        let (process_id, nonce, ts) = ("1", "abcdefgh", 1_574_744_434);
        let draft = Draft { process_id, action: Action::Lock, nonce, ts, ttl, kid: None, extra: &[] };
        sign_command(&draft, LOCK, &key, SignLength::Full).unwrap()
    };
    for (payload, after_ms, expected) in [
        (&sample(V6), -30_001, Verdict::Future),
        (&sample(V6), -30_000, Verdict::Ok),
        (&sample(V6), 0, Verdict::Ok),
        (&sample(V6), 60_000, Verdict::Ok),
        (&sample(V6), 60_001, Verdict::Stale),
        (&with_ttl, 330_000, Verdict::Ok),
        (&with_ttl, 330_001, Verdict::Stale),
    ] {
        assert_eq!(verdict(payload, &fleet(), SIGNED_AT_MS + after_ms), expected, "{after_ms}");
    }
}

#[test]
fn what_does_not_verify_is_refused_whatever_is_known_of_the_nonce() {
    let examined = examine(SAMPLE.as_bytes(), LOCK, &fleet(), SIGNED_AT_MS);
    let first = FirstUse::of(&examined, &passage(SIGNED_AT_MS));
    assert_eq!(classify(&examined, &passage(SIGNED_AT_MS), Some(&first)), Verdict::BadSignature);
    assert_eq!(examined.verified(), None);
}

#[test]
fn severities_are_those_of_the_table() {
    for (severity, verdicts) in [
        (Severity::Info, "ok duplicate retransmit"),
        (Severity::Warning, "malformed bad_format unverifiable"),
        (Severity::Major, "stale future"),
        (Severity::Critical, "bad_signature nonce_conflict replay"),
    ] {
        for word in verdicts.split(' ') {
            assert_eq!(Verdict::from_name(word).unwrap().severity(), severity, "{word}");
        }
    }
    assert_eq!(Verdict::ALL.len(), 11);
    assert!(Verdict::ALL.is_sorted(), "in the order in which they are asked for");
}

/// A signed command, as names and JSON values.
fn signed(extra: &BTreeMap<String, String>) -> Vec<(String, String)> {
    use latchline_shared::command::draft::Value as Field;
    let key = MasterKey::from_hex(MASTER).unwrap().command_key(LOCK);
    let extra: Vec<(&str, Field)> =
        extra.iter().map(|(name, value)| (name.as_str(), Field::Text(value.clone()))).collect();
    let (process_id, nonce, ts) = ("7802441525528958", "u7u4p0n8", 1_574_744_434);
    let draft = Draft { process_id, action: Action::Unlock, nonce, ts, ttl: None, kid: None, extra: &extra };
    let payload = sign_command(&draft, LOCK, &key, SignLength::Full).unwrap();
    let fields: BTreeMap<String, Value> = serde_json::from_str(&payload).unwrap();
    fields.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

proptest! {
    #[test]
    fn any_order_and_white_space_verifies(
        extra in prop::collection::btree_map("x[a-z_]{1,5}", "\\PC{1,8}", 0..4),
        order in any::<prop::sample::Index>(),
        space in "[ \t\r\n]{0,3}",
    ) {
        let mut fields = signed(&extra);
        let by = order.index(fields.len());
        fields.rotate_left(by);
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{space}{name:?}{space}:{space}{value}{space}")).collect();
        let payload = format!("{space}{{{}}}{space}", fields.join(","));
        prop_assert_eq!(verdict(&payload, &fleet(), SIGNED_AT_MS), Verdict::Ok, "{}", payload);
    }

    #[test]
    fn no_mutated_byte_verifies(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let original = sample(V6).into_bytes();
        let mut mutated = original.clone();
        mutated[at.index(original.len())] = byte;
        let examined = examine(&mutated, LOCK, &fleet(), SIGNED_AT_MS);
        // White space between the fields is not signed.
        let bare = |bytes: &[u8]| bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>();
        let verified = examined.verified().is_some();
        prop_assert_eq!(verified, bare(&mutated) == bare(&original) && serde_json::from_slice::<Value>(&mutated).is_ok());
    }
}
