//! Checkpoints as signed notes: the state of a chain in a form that is kept elsewhere and proves,
//! later, that history was not rewritten (C2SP tlog-checkpoint and signed-note; Go's
//! golang.org/x/mod/sumdb/note reads the same).
//!
//! ```text
//! example.org/audit/3                    origin: <site>/audit/<chain>
//! 4711                                   number of the last row
//! 9VWhCx8h…=                             chain_hash
//! detail 3hYq…=                          detail_hash
//! previous 8mTa…=                        SHA-256 of the checkpoint before; - for the first
//! time 2026-11-22T10:00:00Z
//!
//! — example.org x2Bd…=                   key id and Ed25519 signature of all lines above
//! ```
//!
//! A text holds several notes with an empty line after each.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use latchline_shared::hex;
use sha2::{Digest, Sha256};

use crate::chain::{Hash, Head};

pub mod key;

/// In front of an Ed25519 key wherever one is hashed or written.
const ED25519_KEY: u8 = 0x01;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose chain it is.
    pub site: String,
    /// Which one.
    pub chain_id: i16,
    /// The end of the chain.
    pub head: Head,
    /// Hash of the checkpoint before it.
    pub previous: Option<Hash>,
    /// When it was signed.
    pub signed_at: Timestamp,
}

impl Checkpoint {
    /// The first line: what names this chain everywhere.
    pub fn origin(&self) -> String {
        format!("{}/audit/{}", self.site, self.chain_id)
    }

    /// What is signed.
    pub fn text(&self) -> String {
        let previous = self.previous.map_or_else(|| "-".to_owned(), |hash| BASE64.encode(hash));
        format!(
            "{}\n{}\n{}\ndetail {}\nprevious {previous}\ntime {}\n",
            self.origin(),
            self.head.seq,
            BASE64.encode(self.head.chain_hash),
            BASE64.encode(self.head.detail_hash),
            self.signed_at
        )
    }

    /// Reads what was signed.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let mut line = |what: &str| lines.next().with_context(|| format!("the checkpoint has no {what}"));
        let (site, chain_id) = line("origin")?.rsplit_once("/audit/").context("its origin is no chain")?;
        let checkpoint = Self {
            site: site.to_owned(),
            chain_id: chain_id.parse().context("its origin is no chain")?,
            head: Head {
                seq: line("size")?.parse().context("its size is no number")?,
                chain_hash: hash(line("hash")?)?,
                detail_hash: hash(value(line("detail")?, "detail")?)?,
            },
            previous: match value(line("previous")?, "previous")? {
                "-" => None,
                previous => Some(hash(previous)?),
            },
            signed_at: value(line("time")?, "time")?.parse().context("its time is no time")?,
        };
        // One spelling only.
        ensure!(checkpoint.text() == text, "the checkpoint is not spelled as we spell it");
        Ok(checkpoint)
    }
}

fn value<'a>(line: &'a str, name: &str) -> anyhow::Result<&'a str> {
    line.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(' '))
        .with_context(|| format!("the checkpoint has no {name}"))
}

fn hash(text: &str) -> anyhow::Result<Hash> {
    let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.context("the checkpoint holds what is no hash")
}

/// Hash of a whole note, by which the next one names it.
pub fn fingerprint(note: &str) -> Hash {
    Sha256::digest(note).into()
}

/// A key with its name, to sign.
pub struct Signer {
    name: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key whose seed this is.
    pub fn new(name: &str, seed: &[u8; 32]) -> anyhow::Result<Self> {
        check_name(name)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok().context("the seed makes no key")?;
        Ok(Self { name: name.to_owned(), pair })
    }

    /// The key of a file: a seed as 64 hexadecimal digits, or PKCS#8 as PEM.
    pub fn of_file(name: &str, path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::of_text(name, &text).with_context(|| format!("{} holds no key", path.display()))
    }

    fn of_text(name: &str, text: &str) -> anyhow::Result<Self> {
        let pem = text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----");
        let pem = pem.and_then(|rest| rest.strip_suffix("-----END PRIVATE KEY-----"));
        let Some(pem) = pem else {
            let seed = hex::decode(text.trim()).context("neither 64 hexadecimal digits nor PKCS#8")?;
            return Self::new(name, &seed);
        };
        check_name(name)?;
        let pkcs8 = BASE64.decode(pem.split_whitespace().collect::<String>()).context("PKCS#8 is not PEM")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8);
        Ok(Self { name: name.to_owned(), pair: pair.ok().context("PKCS#8 of something else")? })
    }

    /// The key to verify with.
    pub fn verifier(&self) -> Verifier {
        let key = self.pair.public_key().as_ref().try_into();
        Verifier { name: self.name.clone(), key: key.expect("an ed25519 key has 32 bytes") }
    }

    /// The note of a text, which ends with a line break.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.verifier().id().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n— {} {}\n", self.name, BASE64.encode(signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Names with a `+` or white space could not be told from what follows them.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    ensure!(!name.is_empty() && !name.contains(is_odd), "{name:?} cannot name a key");
    Ok(())
}

/// A key with its name, to verify; as a text `name+hash+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

impl Verifier {
    /// Reads the text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.trim().splitn(3, '+').collect();
        let [name, id, key] = parts[..] else { bail!("a verifier key is name+hash+key") };
        check_name(name)?;
        let key = BASE64.decode(key).context("the key is not base64")?;
        ensure!(key.len() == 33 && key[0] == ED25519_KEY, "the key is not one of ed25519");
        let verifier = Self { name: name.to_owned(), key: key[1..].try_into()? };
        ensure!(hex::decode(id) == Some(verifier.id()), "the hash is not that of name and key");
        Ok(verifier)
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_KEY])
            .chain_update(self.key)
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    fn verifies(&self, text: &str, signature_line: &str) -> bool {
        let Some((name, signature)) = signature_line.split_once(' ') else { return false };
        let Ok(signature) = BASE64.decode(signature) else { return false };
        let Some((id, signature)) = signature.split_first_chunk::<4>() else { return false };
        name == self.name
            && *id == self.id()
            && UnparsedPublicKey::new(&ED25519, self.key).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_KEY];
        key.extend_from_slice(&self.key);
        write!(formatter, "{}+{}+{}", self.name, hex::encode(&self.id()), BASE64.encode(key))
    }
}

/// The two parts of a note: what was signed, and the lines of signatures.
fn split(note: &str) -> anyhow::Result<(&str, &str)> {
    let end = note.rfind("\n\n").context("the note has no signature")?;
    Ok((&note[..=end], &note[end + 2..]))
}

/// What a note says, whoever signed it.
pub fn text(note: &str) -> anyhow::Result<&str> {
    Ok(split(note)?.0)
}

/// What a note says, if one of the keys has signed it.
pub fn open<'a>(note: &'a str, verifiers: &[Verifier]) -> anyhow::Result<&'a str> {
    let (text, signatures) = split(note)?;
    let mut lines = signatures.lines().filter_map(|line| line.strip_prefix("— "));
    ensure!(
        lines.any(|line| verifiers.iter().any(|verifier| verifier.verifies(text, line))),
        "no signature of the note verifies"
    );
    Ok(text)
}

/// The notes of a text that holds several. What is cut short is left out.
pub fn notes(text: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = String::new();
    let mut part = Part::Text;
    for line in text.lines() {
        let is_signature = line.starts_with("— ");
        match (part, line) {
            (Part::Text, "") if note.is_empty() => continue,
            (Part::Text, "") => part = Part::Signatures,
            (Part::Signatures, _) if is_signature => {}
            (Part::Signatures, _) => {
                // An empty line, or the next note after one that was cut short.
                if note.lines().last().is_some_and(|last| last.starts_with("— ")) {
                    notes.push(std::mem::take(&mut note));
                }
                note.clear();
                part = Part::Text;
                if line.is_empty() {
                    continue;
                }
            }
            (Part::Text, _) => {}
        }
        note.push_str(line);
        note.push('\n');
    }
    if part == Part::Signatures && note.lines().last().is_some_and(|last| last.starts_with("— ")) {
        notes.push(note);
    }
    notes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Signatures,
}

#[cfg(test)]
mod tests;
