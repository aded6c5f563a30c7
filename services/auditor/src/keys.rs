//! The keys that commands are verified with: the `[keys]` table.
//!
//! A fleet has master keys (contract, section 4): one without a name, and named ones that a command
//! asks for by its `kid`. To rotate: add the new key under a name with `without_kid = true`, let
//! signers change over, take the old one away. A lock may have secrets of its own instead, which
//! then are the only ones that count for it.
//!
//! Invariant: nothing here prints key material.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use latchline_shared::command::ShortSign;
use latchline_shared::hex;
use latchline_shared::keys::{CommandKey, MasterKey};
use latchline_shared::kit::config::{Validate, value};
use latchline_shared::lock_state::Pattern;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// Keys that are tried for a command without `kid`, and secrets of one lock.
const TRIED_MAX: usize = 2;

/// The `[keys]` table.
#[derive(Debug, Clone, Deserialize)]
pub struct KeysConfig {
    /// The master key of commands without `kid`: 64 lower-case hexadecimal digits.
    #[serde(deserialize_with = "value::optional")]
    pub master_key: Option<SecretString>,
    /// File that holds it.
    #[serde(deserialize_with = "value::optional")]
    pub master_key_file: Option<PathBuf>,
    /// Master keys with a name.
    #[serde(deserialize_with = "value::list")]
    pub named: Vec<NamedKey>,
    /// File with the secrets of locks that have their own: lines of a lock's id and 64 lower-case
    /// hexadecimal digits, two lines at most for one lock; `#` begins a comment.
    #[serde(deserialize_with = "value::optional")]
    pub lock_secrets_file: Option<PathBuf>,
    /// Locks whose commands may have signatures of 16 digits; `*` at the end of an id is a prefix.
    pub short_sign_locks: Vec<Pattern>,
    /// Locks that no command is good for any more.
    pub revoked_locks: Vec<Pattern>,
}

/// An element of `keys.named`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Its name.
    pub kid: String,
    /// File that holds the key.
    pub master_key_file: PathBuf,
    /// From when on it counts (RFC 3339); by the time the broker saw the command.
    #[serde(default, deserialize_with = "time")]
    pub not_before: Option<Timestamp>,
    /// From when on it counts no more.
    #[serde(default, deserialize_with = "time")]
    pub not_after: Option<Timestamp>,
    /// Whether it is also tried for commands without `kid`.
    #[serde(default)]
    pub without_kid: bool,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// The keys, read.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    unnamed: Option<MasterKey>,
    named: Vec<Named>,
    own: HashMap<String, Vec<CommandKey>>,
    short_sign: Vec<Pattern>,
    revoked: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Named {
    kid: String,
    key: MasterKey,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    without_kid: bool,
}

/// A key to verify a command with, and its name if it has one.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The name of the master key.
    pub kid: Option<String>,
    /// The lock's key.
    pub key: CommandKey,
}

impl Keys {
    /// Reads the files.
    pub fn load(config: &KeysConfig) -> anyhow::Result<Self> {
        let unnamed =
            value::secret("master_key", config.master_key.as_ref(), config.master_key_file.as_deref())?
                .map(|text| MasterKey::from_hex(text.expose_secret()).context("master_key"))
                .transpose()?;
        let named: Vec<Named> = config.named.iter().map(NamedKey::load).collect::<Result<_, _>>()?;
        for (index, key) in named.iter().enumerate() {
            ensure!(
                named[..index].iter().all(|other| other.kid != key.kid),
                "named: {} is there twice",
                key.kid
            );
        }
        let tried = usize::from(unnamed.is_some()) + named.iter().filter(|key| key.without_kid).count();
        ensure!(tried <= TRIED_MAX, "named: {tried} keys without kid, there may be {TRIED_MAX}");
        let own = match &config.lock_secrets_file {
            Some(file) => read_secrets(file).context("lock_secrets_file")?,
            None => HashMap::new(),
        };
        let (short_sign, revoked) = (config.short_sign_locks.clone(), config.revoked_locks.clone());
        Ok(Self { unnamed, named, own, short_sign, revoked })
    }

    /// The keys that a command for `lock_id` may be signed with, seen at `at_ms`. None of them
    /// means that the command cannot be verified.
    pub fn candidates(&self, lock_id: &str, kid: Option<&str>, at_ms: i64) -> Vec<Candidate> {
        if self.revoked.iter().any(|pattern| pattern.matches(lock_id)) {
            return Vec::new();
        }
        if let Some(own) = self.own.get(lock_id) {
            return own.iter().map(|key| Candidate { kid: None, key: key.clone() }).collect();
        }
        let candidate = |kid: Option<&str>, key: &MasterKey| Candidate {
            kid: kid.map(str::to_owned),
            key: key.command_key(lock_id),
        };
        let named = self.named.iter().filter(|named| named.counts_at(at_ms)).filter(|named| match kid {
            Some(kid) => named.kid == kid,
            None => named.without_kid,
        });
        let unnamed = self.unnamed.iter().filter(|_| kid.is_none()).map(|key| candidate(None, key));
        unnamed.chain(named.map(|named| candidate(Some(&named.kid), &named.key))).collect()
    }

    /// Whether the lock's commands may have signatures of 16 digits.
    pub fn short_sign(&self, lock_id: &str) -> ShortSign {
        match self.short_sign.iter().any(|pattern| pattern.matches(lock_id)) {
            true => ShortSign::Allowed,
            false => ShortSign::Refused,
        }
    }
}

impl Named {
    fn counts_at(&self, at_ms: i64) -> bool {
        self.not_before.is_none_or(|from| from.as_millisecond() <= at_ms)
            && self.not_after.is_none_or(|until| at_ms < until.as_millisecond())
    }
}

impl NamedKey {
    fn load(&self) -> anyhow::Result<Named> {
        let context = || format!("named: {}", self.kid);
        ensure!(!self.kid.is_empty(), "named: a kid is empty");
        let text = value::secret("master_key", None, Some(&self.master_key_file)).with_context(context)?;
        let text = text.with_context(context)?;
        Ok(Named {
            kid: self.kid.clone(),
            key: MasterKey::from_hex(text.expose_secret()).with_context(context)?,
            not_before: self.not_before,
            not_after: self.not_after,
            without_kid: self.without_kid,
        })
    }
}

/// Errors tell the line, never what is in it.
fn read_secrets(file: &Path) -> anyhow::Result<HashMap<String, Vec<CommandKey>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut secrets: HashMap<String, Vec<CommandKey>> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [lock_id, digits] = words[..] else {
            bail!("line {number} is not a lock's id and a secret");
        };
        let key =
            hex::decode(digits).with_context(|| format!("line {number}: the secret is not 64 digits"))?;
        let own = secrets.entry(lock_id.to_owned()).or_default();
        own.push(CommandKey::from_bytes(key));
        ensure!(own.len() <= TRIED_MAX, "line {number}: the lock's secrets are more than {TRIED_MAX}");
    }
    Ok(secrets)
}

impl Validate for KeysConfig {
    fn problems(&self, problems: &mut Vec<String>) {
        if let Err(error) = Keys::load(self) {
            problems.push(format!("keys.{error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    const A: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";
    const B: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    /// The configuration with these keys set and no others.
    fn config(set: &Value) -> KeysConfig {
        let mut all = json!({"master_key": "", "master_key_file": "", "named": [], "lock_secrets_file": "",
            "short_sign_locks": [], "revoked_locks": []});
        all.as_object_mut().unwrap().extend(set.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn file(folder: &TempDir, name: &str, text: &str) -> String {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The names of the candidates; `-` for a key without one.
    fn kids(keys: &Keys, lock: &str, kid: Option<&str>, at_ms: i64) -> String {
        let candidates = keys.candidates(lock, kid, at_ms);
        candidates.iter().map(|key| key.kid.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_are_found_by_name_and_time() {
        let folder = TempDir::new().unwrap();
        let b = file(&folder, "b", &format!("{B}\n"));
        let keys = Keys::load(&config(&json!({"master_key": A, "named": [
            {"kid": "k1", "master_key_file": b, "not_before": "2026-01-01T00:00:00Z",
             "not_after": "2026-02-01T00:00:00+00:00", "without_kid": true},
            {"kid": "k2", "master_key_file": b}]})))
        .unwrap();
        let (before, first, last, after) =
            (1_767_225_599_999, 1_767_225_600_000, 1_769_903_999_999, 1_769_904_000_000);
        for (kid, at_ms, expected) in [
            (None, before, "-"),
            (None, first, "- k1"),
            (None, last, "- k1"),
            (None, after, "-"),
            (Some("k1"), before, ""),
            (Some("k1"), first, "k1"),
            (Some("k1"), after, ""),
            (Some("k2"), before, "k2"),
            (Some("k3"), first, ""),
        ] {
            assert_eq!(kids(&keys, "1", kid, at_ms), expected, "{kid:?} {at_ms}");
        }
    }

    #[test]
    fn a_lock_with_its_own_secrets_has_no_other_key() {
        let folder = TempDir::new().unwrap();
        let text = format!("# comment\n\n1 {A}\n1 {B}\n2\t{A}\n");
        let own = file(&folder, "own", &text);
        let keys = Keys::load(&config(&json!({"master_key": B, "lock_secrets_file": own}))).unwrap();
        for (lock, kid, count) in [("1", None, 2), ("1", Some("k1"), 2), ("2", None, 1), ("3", None, 1)] {
            assert_eq!(keys.candidates(lock, kid, 0).len(), count, "{lock}");
        }
    }

    #[test]
    fn locks_are_revoked_and_marked() {
        let set = json!({"master_key": A, "short_sign_locks": ["1*"], "revoked_locks": ["13"]});
        let keys = Keys::load(&config(&set)).unwrap();
        for (lock, found, short) in
            [("12", 1, ShortSign::Allowed), ("13", 0, ShortSign::Allowed), ("2", 1, ShortSign::Refused)]
        {
            assert_eq!(
                (keys.candidates(lock, None, 0).len(), keys.short_sign(lock)),
                (found, short),
                "{lock}"
            );
        }
    }

    #[test]
    fn problems_are_named_and_secrets_are_not_quoted() {
        let folder = TempDir::new().unwrap();
        let a = file(&folder, "a", A);
        let named = |kid: &str| json!({"kid": kid, "master_key_file": a, "without_kid": true});
        for (set, expected) in [
            (json!({"master_key": "swordfish"}), "keys.master_key: a master key is 64"),
            (json!({"master_key": A, "master_key_file": a}), "keys.master_key: set it or"),
            (json!({"master_key_file": "/nowhere"}), "keys.master_key_file: cannot open /nowhere"),
            (json!({"named": [named("k"), named("k")]}), "keys.named: k is there twice"),
            (json!({"named": [named("")]}), "keys.named: a kid is empty"),
            (json!({"master_key": A, "named": [named("a"), named("b")]}), "keys.named: 3 keys without kid"),
            (
                json!({"lock_secrets_file": file(&folder, "b", "1 swordfish")}),
                "keys.lock_secrets_file: line 1: the secret is not 64 digits",
            ),
            (
                json!({"lock_secrets_file": file(&folder, "c", &format!("\n1 2 {A}"))}),
                "keys.lock_secrets_file: line 2 is not",
            ),
            (
                json!({"lock_secrets_file": file(&folder, "d", &format!("1 {A}\n1 {B}\n1 {A}"))}),
                "keys.lock_secrets_file: line 3: the lock's secrets are more than 2",
            ),
        ] {
            let mut problems = Vec::new();
            config(&set).problems(&mut problems);
            assert!(problems[0].starts_with(expected), "{problems:?}");
            assert!(!problems[0].contains("swordfish"), "{problems:?}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let folder = TempDir::new().unwrap();
        let own = file(&folder, "own", &format!("1 {B}"));
        let config = config(&json!({"master_key": A, "lock_secrets_file": own}));
        let text = format!("{:?} {config:?}", Keys::load(&config).unwrap());
        assert!(!text.contains(A) && !text.contains(B) && text.contains("CommandKey(..)"), "{text}");
    }
}
