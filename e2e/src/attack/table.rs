//! The table of attacks. The words are those of contract, section 4, and of the access rules.

use super::deed::{Deed, Repeat, Signed, When, Who, unchanged};
use super::{Attack, Audited, Guarded};

/// A command that was changed on the way: guard and auditor say the same.
const fn tampered(
    name: &'static str,
    what: &'static str,
    word: &'static str,
    change: fn(&Signed) -> String,
) -> Attack {
    let (guard, auditor) = (Guarded::Refused(word), Audited::Verdict(word));
    Attack { name, what, guard, auditor, deed: Deed::Tamper(change) }
}

/// A genuine command that comes again.
const fn repeated(name: &'static str, what: &'static str, guard: Guarded, who: Who, when: When) -> Attack {
    let repeat = Repeat { who, dup: false, when, change: unchanged };
    Attack { name, what, guard, auditor: Audited::Verdict("replay"), deed: Deed::Repeat(repeat) }
}

/// As [`repeated`], with the DUP flag.
const fn with_dup(
    name: &'static str,
    what: &'static str,
    guard: Guarded,
    verdict: &'static str,
    (who, when): (Who, When),
) -> Attack {
    let repeat = Repeat { who, dup: true, when, change: unchanged };
    Attack { name, what, guard, auditor: Audited::Verdict(verdict), deed: Deed::Repeat(repeat) }
}

/// A genuine command in other bytes, which the signature does not cover.
const fn respelt(name: &'static str, what: &'static str, change: fn(&Signed) -> String) -> Attack {
    let word = "nonce_conflict";
    let repeat = Repeat { who: Who::Same, dup: true, when: When::Now, change };
    let (guard, auditor) = (Guarded::Refused(word), Audited::Verdict(word));
    Attack { name, what, guard, auditor, deed: Deed::Repeat(repeat) }
}

/// Something that guard and auditor see in the same way.
const fn seen_alike(name: &'static str, what: &'static str, word: &'static str, deed: Deed) -> Attack {
    Attack { name, what, guard: Guarded::Refused(word), auditor: Audited::Verdict(word), deed }
}

/// Something that the access rules refuse, guard or not.
const fn denied(name: &'static str, what: &'static str, cause: &'static str, deed: Deed) -> Attack {
    Attack { name, what, guard: Guarded::Refused(cause), auditor: Audited::Attempt(cause), deed }
}

const REPLAY: Guarded = Guarded::Refused("replay");

/// All of them.
pub(super) static TABLE: &[Attack] = &[
    // Heard, and sent again.
    repeated("replay_same", "the publisher sends a command twice", REPLAY, Who::Same, When::Now),
    repeated("replay_other", "another publisher repeats it", REPLAY, Who::Administrator, When::Now),
    repeated("replay_same_login", "another client of the same login", REPLAY, Who::Operator, When::Now),
    repeated("replay_reconnected", "on a new connection", REPLAY, Who::Same, When::Reconnected),
    repeated("replay_later", "after a while", REPLAY, Who::Same, When::Later),
    repeated(
        "replay_later_other",
        "another publisher, after a while",
        REPLAY,
        Who::Administrator,
        When::Later,
    ),
    with_dup("dup_same", "again with DUP", Guarded::Absorbed, "retransmit", (Who::Same, When::Now)),
    with_dup(
        "dup_reconnected",
        "with DUP, reconnected",
        Guarded::Absorbed,
        "retransmit",
        (Who::Same, When::Reconnected),
    ),
    with_dup("dup_other", "another publisher, with DUP", REPLAY, "replay", (Who::Administrator, When::Now)),
    Attack {
        auditor: Audited::Attempt("no_rule"),
        guard: Guarded::Refused("no_rule"),
        ..repeated("replay_by_lock", "another lock repeats it", REPLAY, Who::OtherLock, When::Now)
    },
    respelt("replay_spaced", "with a blank more", |signed| signed.with("{", "{ ")),
    respelt("replay_escaped", "with an escaped letter", |signed| signed.with("unlock", "\\u0075nlock")),
    seen_alike(
        "nonce_reuse",
        "an insider signs another body with its nonce",
        "nonce_conflict",
        Deed::ReuseNonce,
    ),
    // Caught on the way, and changed.
    tampered("process_id", "process_id changed", "bad_signature", |signed| {
        signed.with(&signed.process_id, "1")
    }),
    tampered("action", "action changed", "bad_signature", |signed| signed.with("unlock", "lock")),
    tampered("action_unknown", "action nobody knows", "malformed", |signed| signed.with("unlock", "open")),
    tampered("nonce", "nonce_str changed", "bad_signature", |signed| {
        signed.with(&signed.nonce, &signed.nonce.chars().rev().chain(['x']).collect::<String>())
    }),
    tampered("nonce_short", "nonce_str too short", "malformed", |signed| {
        signed.with(&signed.nonce, &signed.nonce[..7])
    }),
    tampered("ts", "ts a second later", "bad_signature", |signed| {
        signed.with(&signed.ts.to_string(), &(signed.ts + 1).to_string())
    }),
    tampered("ts_float", "ts as a float", "malformed", |signed| {
        signed.with(&signed.ts.to_string(), &format!("{}.0", signed.ts))
    }),
    tampered("ts_text", "ts as a string", "malformed", |signed| {
        signed.with(&signed.ts.to_string(), &format!("\"{}\"", signed.ts))
    }),
    tampered("ttl", "ttl raised", "bad_signature", |signed| signed.with("\"ttl\":30", "\"ttl\":300")),
    tampered("ttl_removed", "ttl left out", "bad_signature", |signed| signed.with("\"ttl\":30,", "")),
    tampered("kid_added", "a kid added", "unverifiable", |signed| signed.with("{", "{\"kid\":\"k9\",")),
    tampered("extra_changed", "a further field changed", "bad_signature", |signed| {
        signed.with("front", "back")
    }),
    tampered("extra_added", "a field added", "bad_signature", |signed| signed.with("{", "{\"silent\":true,")),
    tampered("extra_null", "a field added that is null", "malformed", |signed| {
        signed.with("{", "{\"x\":null,")
    }),
    tampered("client_id_added", "client_id of another lock", "malformed", |signed| {
        signed.with("{", "{\"client_id\":\"1\",")
    }),
    respelt("client_id_own", "heard, sent again with the lock's client_id", |signed| {
        // It was signed as if it were there, so the signature is right.
        signed.with("{", &format!("{{\"client_id\":\"{}\",", signed.lock))
    }),
    tampered("duplicate_key", "action twice", "malformed", |signed| {
        signed.with("{", "{\"action\":\"lock\",")
    }),
    tampered("oversized", "blanks up to 5000 bytes", "malformed", |signed| {
        format!("{:<5000}", signed.payload)
    }),
    tampered("not_json", "something else", "malformed", |signed| format!("unlock {}", signed.process_id)),
    // The signature.
    tampered("sign_2", "2 digits of the signature", "bad_format", |signed| signed.cut(2)),
    tampered("sign_8", "8 digits", "bad_format", |signed| signed.cut(8)),
    tampered("sign_15", "15 digits", "bad_format", |signed| signed.cut(15)),
    tampered("sign_16", "16 digits, for a lock that takes 64", "bad_signature", |signed| signed.cut(16)),
    tampered("sign_32", "32 digits", "bad_format", |signed| signed.cut(32)),
    tampered("sign_63", "63 digits", "bad_format", |signed| signed.cut(63)),
    tampered("sign_65", "65 digits", "bad_format", |signed| {
        signed.with(&signed.sign, &format!("{}0", signed.sign))
    }),
    tampered("sign_upper", "upper case", "bad_format", |signed| {
        signed.with(&signed.sign, &format!("A{}", signed.sign[1..].to_uppercase()))
    }),
    tampered("sign_none", "no signature", "bad_format", |signed| {
        signed.with(&format!(",\"sign\":\"{}\"", signed.sign), "")
    }),
    seen_alike("other_lock", "a command for another lock", "bad_signature", Deed::Redirect),
    seen_alike("withheld", "delivered two minutes late", "stale", Deed::Withhold(120)),
    seen_alike("ahead", "signed ten minutes ahead", "future", Deed::Withhold(-600)),
    // Other ways.
    Attack {
        name: "qos0",
        what: "a signed command with QoS 0: no proof of delivery",
        guard: Guarded::Refused("qos0_or_retained"),
        auditor: Audited::Finding("orphan_result"),
        deed: Deed::Qos0(Who::Administrator),
    },
    denied("qos0_operator", "the same by an operator", "command_qos0", Deed::Qos0(Who::Operator)),
    Attack {
        name: "retained",
        what: "heard, sent again retained",
        guard: Guarded::Refused("qos0_or_retained"),
        auditor: Audited::Verdict("replay"),
        deed: Deed::Retain(Who::Administrator),
    },
    denied("retained_operator", "the same by an operator", "command_retained", Deed::Retain(Who::Operator)),
    Attack {
        name: "eavesdrop",
        what: "an administrator listens in on a genuine command",
        guard: Guarded::Passed,
        auditor: Audited::Finding("unexpected_receiver"),
        deed: Deed::Eavesdrop,
    },
    Attack {
        name: "forged_state",
        what: "an administrator reports that the lock is open",
        guard: Guarded::Passed,
        auditor: Audited::Finding("identity_mismatch"),
        deed: Deed::ForgeState,
    },
];
