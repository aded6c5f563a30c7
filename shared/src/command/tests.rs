//! The vectors and the must-fail cases of the contract, and what holds for every command.

use proptest::prelude::*;

use super::draft::{Draft, SignLength, sign_command};
use super::*;
use crate::keys::MasterKey;

const LOCK: &str = "10083618796833171";
const OTHER_LOCK: &str = "10083618796833172";
const V1_CANONICAL: &str =
    "action=unlock&client_id=10083618796833171&nonce_str=u7u4p0n8&process_id=7802441525528958&ts=1574744434";
const V1: &str = "0aebeba2333244de3dc4ad673bfc9add112da6dc68343c7f5b186f7376cd772c";
const V1_SHORT: &str = "0aebeba2333244de";
const V2: &str = "612a5895b668a01ba1b13f0b4168357dc5d285fcbda4c7b1615c19fb8f84bf7a";
const V3: &str = "6b7015de13960d1fa09c4c4157f84f3fadd493d558ca37f492a659560a725d9f";
const V4: &str = "a2a1a2342cc79b0b28ed1c839a6bbc0f42ce8020805af17ea470d5dda4c39ab9";
const V5: &str = "e740b469a14e60fc58e683dbb4d14c17848f86513d68a47b657971c9e3679ec0";
const V6: &str = "dcca356d054ff60f92ce106787e599453cfa2d47a4fddefd72d1865ecb6d911e";
const V7: &str = "fddbb5d791ddd936fc5ad7a5491f6be0385485c5bc65bd94f8d89ec89bc2cd9a";
const SAMPLE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;

fn key() -> CommandKey {
    CommandKey::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn derived_key() -> CommandKey {
    MasterKey::from_hex("7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39")
        .unwrap()
        .command_key(LOCK)
}

/// The payload of V1 with further or other fields and a signature.
fn payload(action: &str, ts: &str, more: &str, sign: &str) -> String {
    format!(
        r#"{{"process_id":"7802441525528958","action":"{action}","nonce_str":"u7u4p0n8","ts":{ts}{more},"sign":"{sign}"}}"#
    )
}

fn v1(sign: &str) -> String {
    payload("unlock", "1574744434", "", sign)
}

#[test]
fn the_vectors_verify() {
    let v5_more = r#","kid":"k1","note":"a&b=c 開錠","silent":true,"ttl":30"#;
    let v5_canonical = V1_CANONICAL
        .replace("&nonce_str", "&kid=k1&nonce_str")
        .replace("&process_id", "&note=a%26b%3Dc%20%E9%96%8B%E9%8C%A0&process_id")
        .replace("&ts=1574744434", "&silent=true&ts=1574744434&ttl=30");
    for (id, payload, target, key, canonical) in [
        ("V1", v1(V1), LOCK, key(), V1_CANONICAL.to_owned()),
        ("V2", v1(V2), OTHER_LOCK, key(), V1_CANONICAL.replace(LOCK, OTHER_LOCK)),
        ("V3", payload("unlock", "1574744435", "", V3), LOCK, key(), V1_CANONICAL.replace("4434", "4435")),
        (
            "V4",
            payload("unlock", "1574744434", r#","kid":"k1""#, V4),
            LOCK,
            key(),
            V1_CANONICAL.replace("&nonce_str", "&kid=k1&nonce_str"),
        ),
        ("V5", payload("unlock", "1574744434", v5_more, V5), LOCK, key(), v5_canonical),
        ("V6", v1(V6), LOCK, derived_key(), V1_CANONICAL.to_owned()),
        (
            "V7",
            payload("lock", "1574744434", "", V7),
            LOCK,
            key(),
            V1_CANONICAL.replace("action=unlock", "action=lock"),
        ),
    ] {
        let command = Command::parse(payload.as_bytes(), target).unwrap();
        assert_eq!(command.canonical, canonical, "{id}");
        assert!(command.verify(&key, ShortSign::Refused), "{id}");
    }
}

#[test]
fn a_command_is_read_into_its_fields() {
    let more = r#","kid":"k1","ttl":300,"client_id":"10083618796833171""#;
    let command = Command::parse(payload("unlatch", "-1", more, V1).as_bytes(), LOCK).unwrap();
    assert_eq!(command.process_id, "7802441525528958");
    assert_eq!(command.action, Action::Unlatch);
    assert_eq!(command.nonce, "u7u4p0n8");
    assert_eq!(command.ts, -1);
    assert_eq!(command.ttl, Duration::from_secs(300));
    assert_eq!(command.kid.as_deref(), Some("k1"));
    assert_eq!(command.sign.to_string(), V1);
    let plain = Command::parse(v1(V1).as_bytes(), LOCK).unwrap();
    assert_eq!((plain.ttl, plain.kid), (TTL_DEFAULT, None));
}

#[test]
fn a_short_signature_needs_leave() {
    let command = Command::parse(v1(V1_SHORT).as_bytes(), LOCK).unwrap();
    assert!(command.verify(&key(), ShortSign::Allowed));
    assert!(!command.verify(&key(), ShortSign::Refused));
}

#[test]
fn the_sample_reads_but_never_verifies() {
    let command = Command::parse(SAMPLE.as_bytes(), LOCK).unwrap();
    assert_eq!(command.canonical, V1_CANONICAL);
    for key in [key(), derived_key()] {
        assert!(!command.verify(&key, ShortSign::Allowed));
    }
}

#[test]
fn a_signature_for_another_lock_is_none() {
    let command = Command::parse(v1(V2).as_bytes(), LOCK).unwrap();
    assert!(!command.verify(&key(), ShortSign::Allowed));
}

#[test]
fn malformed_payloads_are_refused() {
    let ts = "1574744434";
    for (what, payload) in [
        ("duplicate ts", payload("unlock", ts, r#","ts":1574744434"#, V1)),
        ("duplicate ts by escape", payload("unlock", ts, r#","\u0074s":1574744434"#, V1)),
        ("duplicate sign", payload("unlock", ts, r#","sign":"0""#, V1)),
        ("float ts", payload("unlock", "1574744434.0", "", V1)),
        ("exponent ts", payload("unlock", "1574744434e0", "", V1)),
        ("string ts", payload("unlock", r#""1574744434""#, "", V1)),
        ("minus zero", payload("unlock", "-0", "", V1)),
        ("null", payload("unlock", ts, r#","note":null"#, V1)),
        ("null sign", payload("unlock", ts, "", V1).replace(&format!("{V1:?}"), "null")),
        ("empty nonce", v1(V1).replace("u7u4p0n8", "")),
        ("short nonce", v1(V1).replace("u7u4p0n8", "u7u4p0n")),
        ("long nonce", v1(V1).replace("u7u4p0n8", &"a".repeat(65))),
        ("odd nonce", v1(V1).replace("u7u4p0n8", "u7u4p0n-")),
        ("unicode nonce", v1(V1).replace("u7u4p0n8", "u7u4p0n開")),
        ("empty string", payload("unlock", ts, r#","note":"""#, V1)),
        ("array", payload("unlock", ts, r#","note":[1]"#, V1)),
        ("object", payload("unlock", ts, r#","note":{"a":1}"#, V1)),
        ("2^53", payload("unlock", "9007199254740992", "", V1)),
        ("-2^53", payload("unlock", "-9007199254740992", "", V1)),
        ("2^63", payload("unlock", "9223372036854775808", "", V1)),
        ("2^64", payload("unlock", "18446744073709551616", "", V1)),
        ("boolean ts", payload("unlock", "true", "", V1)),
        ("action", payload("open", ts, "", V1)),
        ("action's case", payload("Unlock", ts, "", V1)),
        ("process_id", v1(V1).replace("7802441525528958", "a b")),
        ("long process_id", v1(V1).replace("7802441525528958", &"1".repeat(65))),
        ("number as process_id", v1(V1).replace(r#""7802441525528958""#, "7802441525528958")),
        ("no process_id", v1(V1).replace("process_id", "process")),
        ("no action", v1(V1).replace("\"action\"", "\"act\"")),
        ("no nonce", v1(V1).replace("nonce_str", "nonce")),
        ("no ts", v1(V1).replace("\"ts\"", "\"t\"")),
        ("ttl 0", payload("unlock", ts, r#","ttl":0"#, V1)),
        ("ttl 301", payload("unlock", ts, r#","ttl":301"#, V1)),
        ("string ttl", payload("unlock", ts, r#","ttl":"30""#, V1)),
        ("number as kid", payload("unlock", ts, r#","kid":1"#, V1)),
        ("other lock", payload("unlock", ts, r#","client_id":"10083618796833172""#, V1)),
        ("number as client_id", payload("unlock", ts, r#","client_id":10083618796833171"#, V1)),
        ("upper-case name", payload("unlock", ts, r#","Note":1"#, V1)),
        ("empty name", payload("unlock", ts, r#","":1"#, V1)),
        ("name with =", payload("unlock", ts, r#","a=b":1"#, V1)),
        ("long name", payload("unlock", ts, &format!(r#","{}":1"#, "a".repeat(33)), V1)),
        ("byte order mark", format!("\u{feff}{}", v1(V1))),
        ("trailing bytes", format!("{} x", v1(V1))),
        ("two objects", format!("{0}{0}", v1(V1))),
        ("lone surrogate", payload("unlock", ts, r#","note":"\ud800""#, V1)),
        ("too long", payload("unlock", ts, &format!(r#","note":"{}""#, "a".repeat(BYTES_MAX)), V1)),
        ("array of fields", r#"["process_id"]"#.to_owned()),
        ("string", r#""unlock""#.to_owned()),
        ("nothing", String::new()),
        ("malformed before bad format", payload("open", ts, "", "0")),
    ] {
        let error = Command::parse(payload.as_bytes(), LOCK).expect_err(what);
        assert_eq!(error.verdict(), "malformed", "{what}");
    }
    let latin1 = v1(V1).replace("u7u4p0n8", "u7u4p0n8#").into_bytes();
    let latin1: Vec<u8> = latin1.into_iter().map(|b| if b == b'#' { 0xe9 } else { b }).collect();
    assert_eq!(Command::parse(&latin1, LOCK).unwrap_err().verdict(), "malformed");
}

#[test]
fn limits_are_inclusive() {
    let ts = "1574744434";
    let padding = BYTES_MAX - payload("unlock", ts, r#","note":"""#, V1).len();
    for (what, payload) in [
        ("4096 bytes", payload("unlock", ts, &format!(r#","note":"{}""#, "a".repeat(padding)), V1)),
        ("2^53-1", payload("unlock", "9007199254740991", "", V1)),
        ("-(2^53-1)", payload("unlock", "-9007199254740991", "", V1)),
        ("ttl 1", payload("unlock", ts, r#","ttl":1"#, V1)),
        ("name of 32", payload("unlock", ts, &format!(r#","{}":1"#, "a".repeat(32)), V1)),
        ("nonce of 64", v1(V1).replace("u7u4p0n8", &"a".repeat(64))),
    ] {
        assert!(Command::parse(payload.as_bytes(), LOCK).is_ok(), "{what}");
    }
}

#[test]
fn signatures_of_a_wrong_form_are_refused() {
    let long = format!("{V1}0");
    let upper = V1.to_uppercase();
    for sign in [&V1[..2], &V1[..15], &V1[..17], &V1[..32], &V1[..63], &long, &upper, &upper[..16], "0g"] {
        assert_eq!(Command::parse(v1(sign).as_bytes(), LOCK), Err(CommandError::BadFormat), "{sign}");
    }
    let missing = v1(V1).replace(&format!(r#","sign":"{V1}""#), "");
    let number = v1(V1).replace(&format!("{V1:?}"), "1234567890123456");
    for payload in [missing, number] {
        assert_eq!(Command::parse(payload.as_bytes(), LOCK), Err(CommandError::BadFormat), "{payload}");
    }
}

#[test]
fn freshness_is_against_what_the_broker_saw() {
    let ts = 1_574_744_434;
    for (seen_at_ms, expected) in [
        (1_574_744_435_000, Freshness::Fresh),
        (1_574_751_635_845, Freshness::Stale),
        (ts * 1000 + 60_000, Freshness::Fresh),
        (ts * 1000 + 60_001, Freshness::Stale),
        (ts * 1000 - 30_000, Freshness::Fresh),
        (ts * 1000 - 30_001, Freshness::Future),
        (i64::MAX, Freshness::Stale),
        (i64::MIN, Freshness::Future),
    ] {
        assert_eq!(freshness(ts, TTL_DEFAULT, seen_at_ms), expected, "{seen_at_ms}");
    }
    assert_eq!(freshness(i64::MIN, Duration::MAX, i64::MAX), Freshness::Fresh);
    assert_eq!(freshness(i64::MAX, TTL_DEFAULT, i64::MIN), Freshness::Future);
}

/// Puts every value into every byte: what still verifies must say the same.
fn check_byte_flips(payload: &str, short: ShortSign) {
    let genuine = Command::parse(payload.as_bytes(), LOCK).unwrap();
    assert!(genuine.verify(&key(), short), "{payload}");
    let mut bytes = payload.as_bytes().to_vec();
    for at in 0..bytes.len() {
        let original = bytes[at];
        for byte in (0..=u8::MAX).filter(|byte| *byte != original) {
            bytes[at] = byte;
            if let Ok(command) = Command::parse(&bytes, LOCK)
                && command.verify(&key(), short)
            {
                assert_eq!(command.canonical, genuine.canonical, "byte {at} as {byte}");
            }
        }
        bytes[at] = original;
    }
}

#[test]
fn no_byte_can_be_changed() {
    check_byte_flips(&SAMPLE.replace("e9f5af7deaa28563", V1_SHORT), ShortSign::Allowed);
    let more = r#","kid":"k1","note":"a&b=c 開錠","silent":true,"ttl":30"#;
    check_byte_flips(&payload("unlock", "1574744434", more, V5), ShortSign::Refused);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{1,20}|.{1,20}".prop_map(Value::Text),
        (-(1i64 << 53) + 1..1 << 53).prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
    ]
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        target in "[^/+#\0]{1,40}",
        nonce in "[A-Za-z0-9]{8,64}",
        process_id in "[0-9A-Za-z_-]{1,64}",
        ts in -(1i64 << 53) + 1..1i64 << 53,
        ttl_s in proptest::option::of(1u64..=300),
        kid in proptest::option::of("\\PC{1,9}"),
        extra in proptest::collection::btree_map("x_[a-z0-9_]{0,30}", value(), 0..5),
        short in any::<bool>(),
    ) {
        let extra: Vec<_> = extra.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let draft = Draft {
            process_id: &process_id,
            action: Action::Lock,
            nonce: &nonce,
            ts,
            ttl: ttl_s.map(Duration::from_secs),
            kid: kid.as_deref(),
            extra: &extra,
        };
        let length = if short { SignLength::Short } else { SignLength::Full };
        let payload = sign_command(&draft, &target, &key(), length).unwrap();
        let command = Command::parse(payload.as_bytes(), &target).unwrap();
        prop_assert!(command.verify(&key(), ShortSign::Allowed));
        prop_assert_eq!(command.verify(&key(), ShortSign::Refused), !short);
        prop_assert!(!command.verify(&derived_key(), ShortSign::Allowed));
        prop_assert_eq!((command.ts, &command.nonce, &command.kid), (ts, &nonce, &kid));

        let elsewhere = format!("{target}0");
        let moved = Command::parse(payload.as_bytes(), &elsewhere).unwrap();
        prop_assert!(!moved.verify(&key(), ShortSign::Allowed));
    }

    #[test]
    fn nothing_panics(payload in proptest::collection::vec(any::<u8>(), 0..200), target in ".*") {
        let _ = Command::parse(&payload, &target);
    }
}

#[test]
fn the_signer_makes_the_vectors() {
    let draft = Draft {
        process_id: "7802441525528958",
        action: Action::Unlock,
        nonce: "u7u4p0n8",
        ts: 1_574_744_434,
        ttl: None,
        kid: None,
        extra: &[],
    };
    let payload = sign_command(&draft, LOCK, &key(), SignLength::Full).unwrap();
    assert_eq!(payload, v1(V1));
    let payload = sign_command(&draft, LOCK, &key(), SignLength::Short).unwrap();
    assert_eq!(payload, v1(V1_SHORT));
}

#[test]
fn the_signer_refuses_what_would_not_parse() {
    let good = Draft {
        process_id: "1",
        action: Action::Unlock,
        nonce: "u7u4p0n8",
        ts: 1_574_744_434,
        ttl: None,
        kid: None,
        extra: &[],
    };
    let with = |name: &'static str, value: Value| [(name, value)];
    let text = |text: &str| Value::Text(text.to_owned());
    for (what, draft) in [
        ("nonce", Draft { nonce: "short", ..good.clone() }),
        ("process_id", Draft { process_id: "", ..good.clone() }),
        ("ttl", Draft { ttl: Some(Duration::from_secs(301)), ..good.clone() }),
        ("no ttl", Draft { ttl: Some(Duration::from_millis(999)), ..good.clone() }),
        ("kid", Draft { kid: Some(""), ..good.clone() }),
        ("sign", Draft { extra: &with("sign", text(V1)), ..good.clone() }),
        ("twice", Draft { extra: &with("ts", Value::Integer(1)), ..good.clone() }),
        ("name", Draft { extra: &with("Note", Value::Integer(1)), ..good.clone() }),
        ("empty", Draft { extra: &with("note", text("")), ..good.clone() }),
        ("other lock", Draft { extra: &with("client_id", text(OTHER_LOCK)), ..good.clone() }),
    ] {
        assert!(sign_command(&draft, LOCK, &key(), SignLength::Full).is_err(), "{what}");
    }
    let own = with("client_id", text(LOCK));
    assert!(sign_command(&Draft { extra: &own, ..good }, LOCK, &key(), SignLength::Full).is_ok());
}
