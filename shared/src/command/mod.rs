//! Signed commands, `LOCKCMD1` (contract, section 4): what a lock, the broker's guard, the auditor
//! and an operator's application must agree on to the byte.
//!
//! A payload is read strictly (`flat`), brought into the one string that is signed (`canonical`)
//! and then verified; [`draft`] goes the other way. Everything here is pure: the caller brings the
//! key, the time the broker saw the command, and the memory of nonces.
//!
//! Invariant: what is signed is the text of every field and the target lock, so a payload that
//! verifies can differ from the one that was signed in white space, order of fields and escapes
//! only; a nonce belongs to (lock, nonce) and is recorded only after [`Command::verify`].

pub mod draft;

mod canonical;
mod flat;

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::hex;
use crate::keys::CommandKey;
use flat::{Fields, Value};

/// Longest payload in bytes.
pub const BYTES_MAX: usize = 4096;
/// How long a command is good for when it does not say so.
pub const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// Largest `ttl` in seconds.
pub const TTL_S_MAX: i64 = 300;
/// How far the clocks of the signer and the broker may be apart.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// A command whose form is right; whether its signature is, [`Command::verify`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Ties the command to the state report that answers it.
    pub process_id: String,
    /// What the lock shall do.
    pub action: Action,
    /// Unique per lock.
    pub nonce: String,
    /// When it was signed, in Unix seconds.
    pub ts: i64,
    /// How long it is good for.
    pub ttl: Duration,
    /// Which master key it was signed with, if it says so.
    pub kid: Option<String>,
    /// The signature as sent.
    pub sign: Sign,
    /// What was signed, after the first line `LOCKCMD1`.
    pub canonical: String,
}

/// What a lock can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Unlock.
    Unlock,
    /// Lock.
    Lock,
    /// Pull the latch.
    Unlatch,
}

impl Action {
    /// The word in a payload.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unlock => "unlock",
            Self::Lock => "lock",
            Self::Unlatch => "unlatch",
        }
    }

    /// The action with this word, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Unlock, Self::Lock, Self::Unlatch].into_iter().find(|action| action.name() == name)
    }
}

/// The leftmost bytes of the message authentication code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// All 32 bytes: 64 digits.
    Full([u8; 32]),
    /// The leftmost 8 bytes: 16 digits.
    Short([u8; 8]),
}

impl Sign {
    /// The length decides before anything is compared: a comparison that took the sender's word
    /// for it would accept one byte in 256 tries.
    fn from_hex(text: &str) -> Option<Self> {
        match text.len() {
            64 => hex::decode(text).map(Self::Full),
            16 => hex::decode(text).map(Self::Short),
            _ => None,
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => f.write_str(&hex::encode(bytes)),
            Self::Short(bytes) => f.write_str(&hex::encode(bytes)),
        }
    }
}

/// Whether a lock is marked as allowing signatures of 16 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortSign {
    /// It is not.
    Refused,
    /// It is.
    Allowed,
}

/// Why a payload is no command. The names are the verdicts of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It cannot be read or brought into the form that is signed.
    #[error("malformed: {0}")]
    Malformed(String),
    /// `sign` is missing, or is not 16 or 64 lower-case hexadecimal digits.
    #[error("bad format: sign must be 16 or 64 lower-case hexadecimal digits")]
    BadFormat,
}

impl CommandError {
    /// The verdict's word.
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::BadFormat => "bad_format",
        }
    }
}

impl Command {
    /// Reads the payload of a command for the lock `target`, which is the id in the MQTT topic.
    pub fn parse(payload: &[u8], target: &str) -> Result<Self, CommandError> {
        let mut fields = flat::read(payload).map_err(CommandError::Malformed)?;
        let sign = fields.remove("sign");
        add_target(&mut fields, target)?;
        let process_id =
            word(&fields, "process_id", 1..=64, |c| c.is_ascii_alphanumeric() || "_-".contains(c))?;
        let action = Action::from_name(text(&fields, "action")?)
            .ok_or_else(|| malformed("action is not unlock, lock or unlatch"))?;
        let nonce = word(&fields, "nonce_str", 8..=64, |c| c.is_ascii_alphanumeric())?;
        let ts = integer(&fields, "ts")?;
        let ttl = match fields.contains_key("ttl") {
            false => TTL_DEFAULT,
            true => match integer(&fields, "ttl")? {
                seconds @ 1..=TTL_S_MAX => Duration::from_secs(seconds.unsigned_abs()),
                _ => return Err(malformed("ttl is not within 1 and 300")),
            },
        };
        let kid = match fields.contains_key("kid") {
            false => None,
            true => Some(text(&fields, "kid")?.to_owned()),
        };
        // Last, since `malformed` comes before `bad_format` among the verdicts.
        let sign = match sign {
            Some(Value::Text(digits)) => Sign::from_hex(&digits).ok_or(CommandError::BadFormat)?,
            _ => return Err(CommandError::BadFormat),
        };
        let canonical = canonical::canonical(&fields);
        Ok(Self { process_id, action, nonce, ts, ttl, kid, sign, canonical })
    }

    /// Whether the command was signed with this key. Takes the same time whatever the signature.
    pub fn verify(&self, key: &CommandKey, short: ShortSign) -> bool {
        let code = authentication_code(&self.canonical, key);
        match &self.sign {
            Sign::Full(sign) => code.ct_eq(sign).into(),
            Sign::Short(sign) => short == ShortSign::Allowed && bool::from(code[..8].ct_eq(sign)),
        }
    }
}

/// Whether a command came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It did.
    Fresh,
    /// Older than its `ttl` and [`SKEW_MAX`].
    Stale,
    /// Signed more than [`SKEW_MAX`] ahead.
    Future,
}

/// Whether a command signed at `ts` (Unix seconds) that is good for `ttl` was in time when the
/// broker saw it (Unix milliseconds). Never the auditor's own clock: it may read years later.
pub fn freshness(ts: i64, ttl: Duration, seen_at_ms: i64) -> Freshness {
    let age_ms = i128::from(seen_at_ms) - i128::from(ts) * 1000;
    let in_ms = |duration: Duration| i128::try_from(duration.as_millis()).unwrap_or(i128::MAX);
    if age_ms < -in_ms(SKEW_MAX) {
        Freshness::Future
    } else if age_ms > in_ms(ttl.saturating_add(SKEW_MAX)) {
        Freshness::Stale
    } else {
        Freshness::Fresh
    }
}

fn authentication_code(canonical: &str, key: &CommandKey) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    // Separates commands from anything else that is ever signed with the same key.
    mac.update(b"LOCKCMD1\n");
    mac.update(canonical.as_bytes());
    mac.finalize().into_bytes().into()
}

/// What is signed names the lock, so that a command for one lock is none for another.
fn add_target(fields: &mut Fields, target: &str) -> Result<(), CommandError> {
    match fields.insert("client_id".to_owned(), Value::Text(target.to_owned())) {
        None => Ok(()),
        Some(Value::Text(own)) if own == target => Ok(()),
        Some(_) => Err(malformed("client_id is not the lock of the topic")),
    }
}

fn text<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, CommandError> {
    match fields.get(name) {
        Some(Value::Text(text)) => Ok(text),
        Some(_) => Err(malformed(format!("{name} is not a string"))),
        None => Err(malformed(format!("{name} is missing"))),
    }
}

fn integer(fields: &Fields, name: &str) -> Result<i64, CommandError> {
    match fields.get(name) {
        Some(Value::Integer(integer)) => Ok(*integer),
        Some(_) => Err(malformed(format!("{name} is not an integer"))),
        None => Err(malformed(format!("{name} is missing"))),
    }
}

fn word(
    fields: &Fields,
    name: &str,
    length: std::ops::RangeInclusive<usize>,
    allowed: fn(char) -> bool,
) -> Result<String, CommandError> {
    let word = text(fields, name)?;
    if !length.contains(&word.len()) || !word.chars().all(allowed) {
        return Err(malformed(format!("{name} has a length or a character that is not allowed")));
    }
    Ok(word.to_owned())
}

fn malformed(why: impl Into<String>) -> CommandError {
    CommandError::Malformed(why.into())
}

#[cfg(test)]
mod tests;
