//! The guard's keys, read from the configuration: the fleet's master key, further ones with names,
//! and the secrets of locks that have their own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use latchline_shared::keys::{CommandKey, KeyRing, MasterKey};
use latchline_shared::kit::config::value;
use secrecy::ExposeSecret;

use crate::config::{Access, Guard};

/// The keys of the configuration. Blocks on the disk.
pub fn ring(guard: &Guard, access: &Access) -> anyhow::Result<KeyRing> {
    let mut masters = Vec::new();
    if let Some(text) = access.fleet_master_key()? {
        masters.push((None, MasterKey::from_hex(text.expose_secret()).context("access.fleet_master_key")?));
    }
    for (index, named) in guard.named.iter().enumerate() {
        let name = format!("guard.named[{index}].master_key");
        ensure!(!named.kid.is_empty(), "guard.named[{index}].kid: is empty");
        let text = value::secret(&name, None, Some(&named.master_key_file))?;
        let text = text.with_context(|| format!("{name}_file: is not set"))?;
        masters.push((Some(named.kid.clone()), MasterKey::from_hex(text.expose_secret()).context(name)?));
    }
    let own = match &guard.lock_secrets_file {
        Some(file) => read_secrets(file).context("guard.lock_secrets_file")?,
        None => BTreeMap::new(),
    };
    let ring = KeyRing::new(masters).context("access.fleet_master_key and guard.named")?.with_own(own);
    Ok(ring.with_short(guard.short_sign_locks.clone()).with_revoked(guard.revoked_locks.clone()))
}

/// Lines of a lock's id and 64 hexadecimal digits; `#` begins a comment. The first wrong line is
/// named by its number, never quoted.
fn read_secrets(path: &Path) -> anyhow::Result<BTreeMap<String, CommandKey>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut secrets = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [lock, secret] => {
                let key = CommandKey::from_hex(secret).with_context(|| format!("line {number}"))?;
                ensure!(
                    secrets.insert(lock.to_owned(), key).is_none(),
                    "line {number}: the lock is there twice"
                );
            }
            _ => bail!("line {number}: is not a lock's id and its secret"),
        }
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let secret = "03".repeat(32);
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_secrets(&path)
        };
        let secrets = read(&format!("# a comment\n\n1 {secret}\n  2\t{secret}\n")).unwrap();
        assert_eq!(secrets.keys().collect::<Vec<_>>(), ["1", "2"]);
        for (text, expected) in [
            (format!("1 {secret}\n1 {secret}"), "line 2: the lock is there twice"),
            ("1 03".to_owned(), "line 1: a key is 64 lower-case hexadecimal digits, these 2 bytes are not"),
            (format!("\n1 {secret} more"), "line 2: is not a lock's id and its secret"),
            ("1".to_owned(), "line 1: is not a lock's id and its secret"),
        ] {
            let error = format!("{:#}", read(&text).unwrap_err());
            assert_eq!(error, expected);
        }
    }
}
