//! The credentials file: users, and clients that have a secret of their own or none any more.
//!
//! ```text
//! # kind name           hash of the secret, and role
//! client  gate-7         sha256:5e88…1d8  lock
//! client  10083618796833171 revoked
//! user    alice          sha256:2bb8…25b  operator
//! user    bob            revoked
//! ```
//!
//! One entry a line, words separated by blanks or tabs, `#` begins a comment line. A `client` entry
//! is for the MQTT client id, a `user` entry for the user name. A secret is a long random text, never
//! a chosen password: only its SHA-256 is kept, and a fast hash protects nothing that can be
//! guessed.
//!
//! Invariant: a table is complete or not there: a file with any wrong line is refused as a whole,
//! with all of its wrong lines named, and what was read before stays in force.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use arc_swap::{ArcSwap, Guard};
use bytestring::ByteString;
use latchline_shared::keys::SecretHash;

use super::identity;

/// Longest name in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Wrong lines that are named one by one; the others are counted.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// The hash of a secret as it stands in the file.
pub fn hash_secret(secret: &str) -> String {
    SecretHash::of(secret.as_bytes()).to_string()
}

/// The file and what was last read from it.
#[derive(Debug)]
pub struct Credentials {
    path: PathBuf,
    table: ArcSwap<Table>,
}

impl Credentials {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, CredentialsError> {
        let table = ArcSwap::from_pointee(Table::read(path)?);
        Ok(Self { path: path.to_owned(), table })
    }

    /// Reads the file anew; if it is wrong, what was read before stays. Blocks on the disk. Returns
    /// the number of entries.
    pub fn reload(&self) -> Result<usize, CredentialsError> {
        let table = Table::read(&self.path)?;
        let entries = table.len();
        self.table.store(Arc::new(table));
        Ok(entries)
    }

    /// The entries as they are now.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }
}

/// All entries.
#[derive(Debug, Default)]
pub struct Table {
    clients: HashMap<Box<str>, Entry>,
    users: HashMap<Box<str>, Entry>,
    has_revoked: bool,
}

/// What is known of one name.
#[derive(Debug, Clone)]
pub enum Entry {
    /// It has a secret and a role.
    Secret {
        /// Hash of the secret.
        hash: SecretHash,
        /// Role for the access rules.
        role: ByteString,
    },
    /// It may not connect.
    Revoked,
}

impl Table {
    /// The entry of a client id.
    pub fn client(&self, id: &str) -> Option<&Entry> {
        self.clients.get(id)
    }

    /// The entry of a user name.
    pub fn user(&self, name: &str) -> Option<&Entry> {
        self.users.get(name)
    }

    /// The user to whom a client id belongs: the longest name that it begins with.
    pub fn owner<'a>(&self, client_id: &'a str) -> Option<&'a str> {
        identity::names(client_id, NAME_BYTES_MAX).find(|name| self.users.contains_key(*name))
    }

    /// Whether the client id or the user name has been revoked.
    pub fn is_revoked(&self, client_id: &str, username: &str) -> bool {
        self.has_revoked
            && (matches!(self.client(client_id), Some(Entry::Revoked))
                || matches!(self.user(username), Some(Entry::Revoked)))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.clients.len() + self.users.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the text of a file, or says what is wrong with which line.
    pub fn parse(text: &[u8]) -> Result<Self, WrongLines> {
        let mut builder = Builder::default();
        let mut wrong = WrongLines::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            if let Err(why) = builder.line(line) {
                wrong.push(number, why);
            }
        }
        if wrong.count == 0 { Ok(builder.table) } else { Err(wrong) }
    }

    fn read(path: &Path) -> Result<Self, CredentialsError> {
        let text = fs::read(path)
            .map_err(|source| CredentialsError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|source| CredentialsError::Wrong { path: path.to_owned(), source })
    }
}

/// A table in the making.
#[derive(Default)]
struct Builder {
    table: Table,
    /// Roles are few: all entries of one role share its text.
    roles: HashMap<Box<str>, ByteString>,
}

impl Builder {
    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8")?;
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(()) };
        let is_client = match kind {
            "client" => true,
            "user" => false,
            _ => return Err("must begin with client, user or #"),
        };
        let name = words.next().ok_or("has no name")?;
        if name.len() > NAME_BYTES_MAX {
            return Err("has a name of more than 256 bytes");
        }
        let entry = self.entry(words.next().ok_or("has no hash")?, words.next())?;
        if words.next().is_some() {
            return Err("has a word too many");
        }
        self.table.has_revoked |= matches!(entry, Entry::Revoked);
        let entries = if is_client { &mut self.table.clients } else { &mut self.table.users };
        match entries.insert(name.into(), entry) {
            None => Ok(()),
            Some(_) => Err("repeats the name of an earlier line"),
        }
    }

    fn entry(&mut self, hash: &str, role: Option<&str>) -> Result<Entry, &'static str> {
        if hash == "revoked" {
            return if role.is_none() { Ok(Entry::Revoked) } else { Err("is revoked, so it has no role") };
        }
        let hash = SecretHash::from_text(hash)
            .ok_or("must have revoked, or sha256: and 64 lower-case hexadecimal digits, after the name")?;
        // What a script writes whose variable was not set; it would let everybody in.
        if hash.is(&SecretHash::of(b"")) {
            return Err("has the hash of an empty secret");
        }
        let role = role.ok_or("has no role")?;
        let role = match self.roles.get(role) {
            Some(role) => role.clone(),
            None => self.roles.entry(role.into()).or_insert(role.into()).clone(),
        };
        Ok(Entry::Secret { hash, role })
    }
}

/// The wrong lines of a file. It names their numbers and never quotes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrongLines {
    shown: Vec<(usize, &'static str)>,
    count: usize,
}

impl WrongLines {
    fn push(&mut self, number: usize, why: &'static str) {
        self.count += 1;
        if self.shown.len() < PROBLEMS_SHOWN_MAX {
            self.shown.push((number, why));
        }
    }
}

impl fmt::Display for WrongLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (number, why)) in self.shown.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}line {number} {why}")?;
        }
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for WrongLines {}

/// Why a credentials file was refused.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Some of its lines are wrong.
    #[error("{} is refused", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Which lines.
        source: WrongLines,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn entries_are_read() {
        let text = format!(
            "# comment\n\n  # another\nclient gate-7 {HASH} lock\r\n\tuser\talice  {HASH}\toperator \n\
             client alice revoked\nuser été {HASH} operator"
        );
        let table = Table::parse(text.as_bytes()).unwrap();
        assert_eq!(table.len(), 4);
        let Some(Entry::Secret { hash, role }) = table.client("gate-7") else { panic!("no gate-7") };
        assert!(hash.is(&SecretHash::of(b"secret")));
        assert_eq!(role, "lock");
        assert!(matches!(table.user("alice"), Some(Entry::Secret { role, .. }) if role == "operator"));
        assert!(matches!(table.client("alice"), Some(Entry::Revoked)));
        assert!(table.user("été").is_some() && table.user("gate-7").is_none());
        assert!(table.is_revoked("alice", "") && !table.is_revoked("gate-7", "alice"));
        assert!(Table::parse(b"").unwrap().is_empty());
    }

    #[test]
    fn all_wrong_lines_are_named_and_none_is_quoted() {
        let upper = HASH.to_uppercase().replace("SHA", "sha");
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let rows = [
            (format!("user ok {HASH} operator"), None),
            (format!("device a {HASH} lock"), Some("must begin with client, user or #")),
            ("user".to_owned(), Some("has no name")),
            ("user b".to_owned(), Some("has no hash")),
            (format!("user b {HASH}"), Some("has no role")),
            (format!("user b {HASH} operator x"), Some("has a word too many")),
            ("user b revoked operator".to_owned(), Some("is revoked, so it has no role")),
            ("user b hunter2 operator".to_owned(), Some("must have revoked, or sha256:")),
            (format!("user b {upper} operator"), Some("must have revoked, or sha256:")),
            ("user b bcrypt:$2b$10$x operator".to_owned(), Some("must have revoked, or sha256:")),
            (format!("user b {} operator", hash_secret("")), Some("has the hash of an empty secret")),
            (format!("user {long} {HASH} operator"), Some("has a name of more than 256 bytes")),
            (format!("user ok {HASH} operator"), Some("repeats the name of an earlier line")),
        ];
        let text: Vec<_> = rows.iter().map(|(line, _)| line.as_str()).collect();
        let mut text = text.join("\n").into_bytes();
        text.extend(b"\nuser \xff x y");
        let message = Table::parse(&text).unwrap_err().to_string();
        let parts: Vec<_> = message.split("; ").collect();
        assert_eq!(parts.len(), rows.len());
        let wrong = (1..).zip(&rows).filter_map(|(number, (_, why))| Some((number, (*why)?)));
        for ((number, why), part) in wrong.zip(&parts) {
            assert!(part.starts_with(&format!("line {number} {why}")), "{part}");
        }
        assert_eq!(parts.last(), Some(&"line 14 is not UTF-8"));
        assert!(!message.contains("hunter2") && !message.contains("2bb8") && !message.contains("bcrypt"));
    }

    #[test]
    fn a_file_that_is_wrong_throughout_is_reported_in_short() {
        let message = Table::parse("x\n".repeat(1000).as_bytes()).unwrap_err().to_string();
        assert!(message.ends_with("; and 950 more"), "{message}");
    }

    #[test]
    fn an_id_belongs_to_the_longest_name() {
        let text = ["bob", "bob-admin", "a.b"].map(|name| format!("user {name} {HASH} operator")).join("\n");
        let table =
            Table::parse(format!("{text}\nuser gone revoked\nclient bob-7 revoked").as_bytes()).unwrap();
        for (client_id, owner) in [
            ("bob", Some("bob")),
            ("bob-1", Some("bob")),
            ("bob-adminx", Some("bob")),
            ("bob-admin", Some("bob-admin")),
            ("bob-admin:1", Some("bob-admin")),
            ("a.b.c", Some("a.b")),
            ("a", None),
            ("a.c", None),
            ("gone-1", Some("gone")),
            ("bobby", None),
            ("10083618796833171", None),
        ] {
            assert_eq!(table.owner(client_id), owner, "{client_id}");
        }
    }

    #[test]
    fn a_hundred_thousand_entries_are_read() {
        let line = |n: u32| format!("client {n} {} lock\n", SecretHash::of(&n.to_be_bytes()));
        let text: String = (0..100_000).map(line).collect();
        let table = Table::parse(text.as_bytes()).unwrap();
        assert_eq!(table.len(), 100_000);
        assert!(table.client("99999").is_some() && table.client("100000").is_none());
    }
}
