//! The keys that commands are verified with: the `[keys]` table.
//!
//! The ring itself is shared with the broker's guard ([`KeyRing`]), so that both offer the same
//! keys; here it is read from files, and master keys that have a name may have a time. To rotate:
//! add the new key under a name, let signers change over, take the old one away.
//!
//! Invariant: nothing here prints key material.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use latchline_shared::command::ShortSign;
use latchline_shared::keys::{CommandKey, KeyRing, MasterKey};
use latchline_shared::kit::config::{Validate, value};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// The `[keys]` table.
#[derive(Debug, Clone, Deserialize)]
pub struct KeysConfig {
    /// The master key without a name, for commands without `kid`: 64 lower-case hexadecimal digits.
    #[serde(deserialize_with = "value::optional")]
    pub master_key: Option<SecretString>,
    /// File that holds it.
    #[serde(deserialize_with = "value::optional")]
    pub master_key_file: Option<PathBuf>,
    /// Master keys with a name; with the one above there may be two.
    #[serde(deserialize_with = "value::list")]
    pub named: Vec<NamedKey>,
    /// File with the secrets of locks that have their own: lines of a lock's id and 64 lower-case
    /// hexadecimal digits; `#` begins a comment.
    #[serde(deserialize_with = "value::optional")]
    pub lock_secrets_file: Option<PathBuf>,
    /// Locks whose commands may have signatures of 16 digits.
    pub short_sign_locks: Vec<String>,
    /// Locks that no command is good for any more.
    pub revoked_locks: Vec<String>,
}

/// An element of `keys.named`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Its name.
    pub kid: String,
    /// File that holds the key.
    pub master_key_file: PathBuf,
    /// From when on it counts (RFC 3339), by the time the broker saw the command.
    #[serde(default, deserialize_with = "time")]
    pub not_before: Option<Timestamp>,
    /// From when on it counts no more.
    #[serde(default, deserialize_with = "time")]
    pub not_after: Option<Timestamp>,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// The keys, read.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    ring: KeyRing,
    times: Vec<NamedKey>,
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
        let mut masters = Vec::new();
        let unnamed =
            value::secret("master_key", config.master_key.as_ref(), config.master_key_file.as_deref())?;
        if let Some(text) = unnamed {
            masters.push((None, MasterKey::from_hex(text.expose_secret()).context("master_key")?));
        }
        for named in &config.named {
            let key = named.load().with_context(|| format!("named: {}", named.kid))?;
            masters.push((Some(named.kid.clone()), key));
        }
        let own = match &config.lock_secrets_file {
            Some(file) => read_secrets(file).context("lock_secrets_file")?,
            None => BTreeMap::new(),
        };
        let ring = KeyRing::new(masters)
            .context("named")?
            .with_own(own)
            .with_short(config.short_sign_locks.iter().cloned())
            .with_revoked(config.revoked_locks.iter().cloned());
        Ok(Self { ring, times: config.named.clone() })
    }

    /// The keys that a command for `lock_id` may be signed with, seen at `at_ms`. None of them
    /// means that the command cannot be verified.
    pub fn candidates(&self, lock_id: &str, kid: Option<&str>, at_ms: i64) -> Vec<Candidate> {
        let candidates = self.ring.candidates(lock_id, kid);
        let in_time = candidates.filter(|(kid, _)| kid.is_none_or(|kid| self.counts_at(kid, at_ms)));
        in_time.map(|(kid, key)| Candidate { kid: kid.map(str::to_owned), key }).collect()
    }

    /// Whether the lock's commands may have signatures of 16 digits.
    pub fn short_sign(&self, lock_id: &str) -> ShortSign {
        self.ring.allows_short(lock_id)
    }

    fn counts_at(&self, kid: &str, at_ms: i64) -> bool {
        self.times.iter().filter(|named| named.kid == kid).all(|named| {
            named.not_before.is_none_or(|from| from.as_millisecond() <= at_ms)
                && named.not_after.is_none_or(|until| at_ms < until.as_millisecond())
        })
    }
}

impl NamedKey {
    fn load(&self) -> anyhow::Result<MasterKey> {
        ensure!(!self.kid.is_empty(), "the kid is empty");
        let text = value::secret("master_key", None, Some(&self.master_key_file))?;
        let text = text.context("master_key_file is not set")?;
        Ok(MasterKey::from_hex(text.expose_secret())?)
    }
}

/// Errors tell the line, never what is in it.
fn read_secrets(file: &Path) -> anyhow::Result<BTreeMap<String, CommandKey>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut secrets = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [lock_id, digits] = words[..] else {
            bail!("line {number} is not a lock's id and a secret");
        };
        let key = CommandKey::from_hex(digits).with_context(|| format!("line {number}"))?;
        ensure!(secrets.insert(lock_id.to_owned(), key).is_none(), "line {number}: the lock has one already");
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
             "not_after": "2026-02-01T00:00:00+00:00"}]})))
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
            (Some("k2"), first, ""),
        ] {
            assert_eq!(kids(&keys, "1", kid, at_ms), expected, "{kid:?} {at_ms}");
        }
    }

    #[test]
    fn a_lock_with_its_own_secrets_has_no_other_key() {
        let folder = TempDir::new().unwrap();
        let text = format!("# comment\n\n1 {A}\n2\t{A}\n");
        let own = file(&folder, "own", &text);
        let keys = Keys::load(&config(&json!({"named": [
            {"kid": "k1", "master_key_file": file(&folder, "a", A)},
            {"kid": "k2", "master_key_file": file(&folder, "b", B)}], "lock_secrets_file": own})))
        .unwrap();
        for (lock, kid, count) in
            [("1", None, 1), ("1", Some("k1"), 1), ("2", None, 1), ("3", None, 2), ("3", Some("k1"), 1)]
        {
            assert_eq!(keys.candidates(lock, kid, 0).len(), count, "{lock}");
        }
    }

    #[test]
    fn locks_are_revoked_and_marked() {
        let set = json!({"master_key": A, "short_sign_locks": ["12", "13"], "revoked_locks": ["13"]});
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
        let named = |kid: &str| json!({"kid": kid, "master_key_file": a});
        for (set, expected) in [
            (json!({"master_key": "swordfish"}), "keys.master_key: a key is 64"),
            (json!({"master_key": A, "master_key_file": a}), "keys.master_key: set it or"),
            (json!({"master_key_file": "/nowhere"}), "keys.master_key_file: cannot open /nowhere"),
            (json!({"named": [named("k"), named("k")]}), "keys.named: two master keys have the same name"),
            (json!({"named": [named("")]}), "keys.named: : the kid is empty"),
            (
                json!({"master_key": A, "named": [named("a"), named("b")]}),
                "keys.named: 3 master keys are active",
            ),
            (
                json!({"lock_secrets_file": file(&folder, "b", "1 swordfish")}),
                "keys.lock_secrets_file: line 1: a key is 64",
            ),
            (
                json!({"lock_secrets_file": file(&folder, "c", &format!("\n1 2 {A}"))}),
                "keys.lock_secrets_file: line 2 is not",
            ),
            (
                json!({"lock_secrets_file": file(&folder, "d", &format!("1 {A}\n1 {B}"))}),
                "keys.lock_secrets_file: line 2: the lock has one already",
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
