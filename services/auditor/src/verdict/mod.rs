//! What a delivered command is worth (contract, section 4).
//!
//! In two steps, because the first costs a hash and needs no memory, and the second needs to know
//! what became of the nonce: [`examine`] looks at the payload alone, [`classify`] says the verdict.
//!
//! Invariant: nothing is ever `ok` whose signature did not verify, and what did not verify leaves no
//! trace in the memory of nonces.

use latchline_shared::command::{Command, CommandError, Freshness, Sign, freshness};
use sha2::{Digest, Sha256};

use crate::event::Severity;
use crate::keys::Keys;

/// Copies of a command by the same publisher within this time may be his own retries.
pub const RETRANSMIT_MS_MAX: u64 = 60_000;

/// The verdicts, in the order in which they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It cannot be read.
    Malformed,
    /// Its signature has no form that is one.
    BadFormat,
    /// There is no key to verify it with.
    Unverifiable,
    /// Its signature is wrong.
    BadSignature,
    /// It came too late.
    Stale,
    /// It was signed ahead of time.
    Future,
    /// It is what it claims to be, for the first time.
    Ok,
    /// Its nonce belongs to another command.
    NonceConflict,
    /// The same message once more: another receiver, or another record of it.
    Duplicate,
    /// The same command by the same publisher, who may have had no answer.
    Retransmit,
    /// The same command again, by somebody who kept it.
    Replay,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::BadFormat,
        Self::Unverifiable,
        Self::BadSignature,
        Self::Stale,
        Self::Future,
        Self::Ok,
        Self::NonceConflict,
        Self::Duplicate,
        Self::Retransmit,
        Self::Replay,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadFormat => "bad_format",
            Self::Unverifiable => "unverifiable",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::Ok => "ok",
            Self::NonceConflict => "nonce_conflict",
            Self::Duplicate => "duplicate",
            Self::Retransmit => "retransmit",
            Self::Replay => "replay",
        }
    }

    /// The verdict with this word, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Ok | Self::Duplicate | Self::Retransmit => Severity::Info,
            Self::Malformed | Self::BadFormat | Self::Unverifiable => Severity::Warning,
            Self::Stale | Self::Future => Severity::Major,
            Self::BadSignature | Self::NonceConflict | Self::Replay => Severity::Critical,
        }
    }
}

/// What a payload alone tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// The command, if it can be read.
    pub command: Option<Command>,
    /// Whether it is signed.
    pub signature: Signature,
    /// The key that it verified with, or that it names.
    pub kid: Option<String>,
    /// Two payloads are the same if this is.
    pub payload_sha256: [u8; 32],
}

/// Whether a command is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// It is, for this lock.
    Verified,
    /// It is not: the verdict, and why.
    Refused(Verdict, String),
}

/// Looks at a command for the lock `target`, which the broker saw at `seen_at_ms`.
pub fn examine(payload: &[u8], target: &str, keys: &Keys, seen_at_ms: i64) -> Examined {
    let payload_sha256 = Sha256::digest(payload).into();
    let command = match Command::parse(payload, target) {
        Ok(command) => command,
        Err(error) => {
            let (verdict, why) = match error {
                CommandError::Malformed(why) => (Verdict::Malformed, why),
                CommandError::BadFormat => {
                    (Verdict::BadFormat, "sign is not 16 or 64 lower-case hexadecimal digits".to_owned())
                }
            };
            let signature = Signature::Refused(verdict, why);
            return Examined { command: None, signature, kid: None, payload_sha256 };
        }
    };
    let candidates = keys.candidates(target, command.kid.as_deref(), seen_at_ms);
    let short = keys.short_sign(target);
    let key = candidates.iter().find(|candidate| command.verify(&candidate.key, short));
    let signature = match key {
        Some(_) => Signature::Verified,
        None if candidates.is_empty() => {
            Signature::Refused(Verdict::Unverifiable, "there is no key to verify it with".to_owned())
        }
        None => Signature::Refused(Verdict::BadSignature, "the signature is not the lock's".to_owned()),
    };
    let kid = key.and_then(|candidate| candidate.kid.clone()).or_else(|| command.kid.clone());
    Examined { command: Some(command), signature, kid, payload_sha256 }
}

impl Examined {
    /// The command, if its signature verified: what may leave a trace.
    pub fn verified(&self) -> Option<&Command> {
        self.command.as_ref().filter(|_| self.signature == Signature::Verified)
    }

    /// Bits of the signature.
    pub fn sign_bits(&self) -> Option<i16> {
        self.command.as_ref().map(|command| match command.sign {
            Sign::Short(_) => 64,
            Sign::Full(_) => 256,
        })
    }
}

/// How a payload came.
#[derive(Debug, Clone, Copy)]
pub struct Passage<'a> {
    /// When the broker saw it, in Unix milliseconds.
    pub seen_at_ms: i64,
    /// The broker's id of the message, if it gives one.
    pub mid: Option<&'a str>,
    /// Client id of the publisher.
    pub from: &'a str,
    /// Whether the publisher marked it as sent again, if the broker says so.
    pub dup: Option<bool>,
}

/// The command that a nonce belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUse {
    /// Its payload.
    pub payload_sha256: [u8; 32],
    /// When the broker saw it, in Unix milliseconds.
    pub at_ms: i64,
    /// The broker's id of the message.
    pub mid: Option<String>,
    /// Client id of the publisher.
    pub from: String,
}

impl FirstUse {
    /// The use that this command makes of its nonce.
    pub fn of(examined: &Examined, passage: &Passage<'_>) -> Self {
        Self {
            payload_sha256: examined.payload_sha256,
            at_ms: passage.seen_at_ms,
            mid: passage.mid.map(str::to_owned),
            from: passage.from.to_owned(),
        }
    }
}

/// The verdict: the first that holds. `first` is the first use of its nonce, if there was one.
pub fn classify(examined: &Examined, passage: &Passage<'_>, first: Option<&FirstUse>) -> Verdict {
    let command = match (&examined.signature, &examined.command) {
        (Signature::Refused(verdict, _), _) => return *verdict,
        (Signature::Verified, Some(command)) => command,
        (Signature::Verified, None) => return Verdict::Malformed,
    };
    let Some(first) = first else {
        return match freshness(command.ts, command.ttl, passage.seen_at_ms) {
            Freshness::Stale => Verdict::Stale,
            Freshness::Future => Verdict::Future,
            Freshness::Fresh => Verdict::Ok,
        };
    };
    if first.payload_sha256 != examined.payload_sha256 {
        Verdict::NonceConflict
    } else if passage.mid.is_some() && first.mid.as_deref() == passage.mid {
        Verdict::Duplicate
    } else if first.from == passage.from
        && first.at_ms.abs_diff(passage.seen_at_ms) <= RETRANSMIT_MS_MAX
        && passage.dup != Some(false)
    {
        Verdict::Retransmit
    } else {
        Verdict::Replay
    }
}

#[cfg(test)]
mod tests;
