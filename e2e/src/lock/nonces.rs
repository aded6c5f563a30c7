//! The nonces that a lock has acted on, and where it keeps them.
//!
//! Invariant: a nonce is recorded before the lock acts and only after the signature has verified;
//! a nonce burned earlier would let a forger spend the operator's. With a file, what is recorded is
//! on disk when [`NonceFile::record`] returns, so a lock that is killed does not act twice.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

/// How long a nonce is remembered: far longer than any command is fresh.
const KEPT_S: i64 = 24 * 3600;
/// Most nonces of one lock; a lock that has no room left refuses commands (`busy`).
const COUNT_MAX: usize = 4096;

/// The nonces of one lock.
#[derive(Debug, Default)]
pub struct Nonces(HashMap<String, i64>);

/// Whether a nonce may be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    /// Never seen.
    New,
    /// Acted on before.
    Seen,
    /// Never seen, and there is no room to remember it.
    NoRoom,
}

impl Nonces {
    /// Looks, and changes nothing.
    pub fn look(&self, nonce: &str, now_s: i64) -> Nonce {
        let alive = |seen_at_s: &i64| now_s - seen_at_s < KEPT_S;
        if self.0.get(nonce).is_some_and(alive) {
            Nonce::Seen
        } else if self.0.len() >= COUNT_MAX && self.0.values().all(alive) {
            Nonce::NoRoom
        } else {
            Nonce::New
        }
    }

    /// Remembers a nonce, and forgets those that are too old to matter.
    pub fn insert(&mut self, nonce: &str, now_s: i64) {
        if self.0.len() >= COUNT_MAX {
            self.0.retain(|_, seen_at_s| now_s - *seen_at_s < KEPT_S);
        }
        self.0.insert(nonce.to_owned(), now_s);
    }
}

/// A file of nonces, shared by the locks of a process: one line per nonce, `lock nonce seconds`.
#[derive(Debug, Clone)]
pub struct NonceFile(Arc<Mutex<File>>);

impl NonceFile {
    /// Opens (or creates) the file and reads the nonces of each lock.
    pub fn open(path: &Path) -> anyhow::Result<(Self, HashMap<String, Nonces>)> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .with_context(|| format!("open {}", path.display()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("read {}", path.display()))?;
        // The last line is cut short when the process was killed while it wrote. Its command was
        // not acted on, so it does not count; but the next line must not continue it.
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").with_context(|| format!("write {}", path.display()))?;
        }
        let mut locks: HashMap<String, Nonces> = HashMap::new();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if let [lock, nonce, seen_at_s] = line.split(' ').collect::<Vec<_>>()[..]
                && let Ok(seen_at_s) = seen_at_s.parse()
            {
                locks.entry(lock.to_owned()).or_default().insert(nonce, seen_at_s);
            }
        }
        Ok((Self(Arc::new(Mutex::new(file))), locks))
    }

    /// Writes a nonce and waits until it is on disk.
    pub async fn record(&self, lock: &str, nonce: &str, now_s: i64) -> anyhow::Result<()> {
        let (file, line) = (Arc::clone(&self.0), format!("{lock} {nonce} {now_s}\n"));
        tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(line.as_bytes())?;
            file.sync_data()
        })
        .await?
        .context("record a nonce")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_new_once_a_day() {
        let mut nonces = Nonces::default();
        assert_eq!(nonces.look("a", 100), Nonce::New);
        nonces.insert("a", 100);
        assert_eq!(nonces.look("a", 100 + KEPT_S - 1), Nonce::Seen);
        assert_eq!(nonces.look("b", 100), Nonce::New);
        assert_eq!(nonces.look("a", 100 + KEPT_S), Nonce::New);
    }

    #[test]
    fn memory_is_bounded_and_old_nonces_make_room() {
        let mut nonces = Nonces::default();
        for n in 0..COUNT_MAX {
            nonces.insert(&n.to_string(), 100);
        }
        assert_eq!(nonces.look("x", 101), Nonce::NoRoom);
        assert_eq!(nonces.look("1", 101), Nonce::Seen);
        assert_eq!(nonces.look("x", 100 + KEPT_S), Nonce::New);
        nonces.insert("x", 100 + KEPT_S);
        assert_eq!(nonces.0.len(), 1);
    }

    #[tokio::test]
    async fn a_file_brings_them_back_without_the_line_that_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let (file, locks) = NonceFile::open(&path).unwrap();
        assert!(locks.is_empty());
        file.record("1", "aaaaaaaa", 100).await.unwrap();
        file.record("2", "bbbbbbbb", 100).await.unwrap();
        drop(file);
        // A whole line but for its end, which a kill may also leave behind.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"1 cccc 10").unwrap();
        let (file, locks) = NonceFile::open(&path).unwrap();
        assert_eq!(locks["1"].look("aaaaaaaa", 101), Nonce::Seen);
        assert_eq!(locks["1"].look("cccc", 101), Nonce::New);
        assert_eq!(locks["2"].look("bbbbbbbb", 101), Nonce::Seen);
        file.record("2", "dddddddd", 101).await.unwrap();
        let (_, locks) = NonceFile::open(&path).unwrap();
        assert_eq!(locks["2"].look("dddddddd", 102), Nonce::Seen);
    }
}
