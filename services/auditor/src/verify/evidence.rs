//! Checkpoints as evidence: which chains they are about, and what is wrong with themselves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

use crate::chain::Hash;
use crate::note::{self, Checkpoint, Verifier};
use crate::verify::walk::{Mark, Problem, Source};

/// What is known of chains beside their rows.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Keys that checkpoints are signed with; none: signatures are not looked at.
    pub verifiers: Vec<Verifier>,
    /// Notes that were kept elsewhere.
    pub given: Vec<String>,
}

impl Evidence {
    /// Reads files of notes, and keys as texts.
    pub fn read(files: &[impl AsRef<Path>], verifiers: &[String]) -> anyhow::Result<Self> {
        let mut evidence = Self::default();
        for verifier in verifiers {
            evidence.verifiers.push(Verifier::parse(verifier).with_context(|| format!("key {verifier:?}"))?);
        }
        for file in files.iter().map(AsRef::as_ref) {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let notes = note::notes(&text);
            anyhow::ensure!(!notes.is_empty(), "{} holds no checkpoint", file.display());
            evidence.given.extend(notes);
        }
        Ok(evidence)
    }

    /// What a note says. Its signature counts only if there are keys.
    fn open(&self, note: &str) -> anyhow::Result<Checkpoint> {
        let text = match &self.verifiers[..] {
            [] => note::text(note)?,
            verifiers => note::open(note, verifiers)?,
        };
        Checkpoint::parse(text)
    }

    /// The checkpoints that were given, by chain. One that says nothing is an error: whoever gives
    /// a checkpoint wants it to count.
    pub fn given_marks(&self) -> anyhow::Result<BTreeMap<i16, Vec<Mark>>> {
        let mut marks: BTreeMap<i16, Vec<Mark>> = BTreeMap::new();
        for note in &self.given {
            let first = note.lines().next().unwrap_or_default();
            let checkpoint = self.open(note).with_context(|| format!("the checkpoint of {first}"))?;
            let mark = Mark { head: checkpoint.head, source: Source::Given };
            marks.entry(checkpoint.chain_id).or_default().push(mark);
        }
        Ok(marks)
    }

    /// The checkpoints of the database, of one chain and in order: those that are good, and what is
    /// wrong with the others.
    pub fn stored_marks(&self, chain_id: i16, stored: &[Stored]) -> (Vec<Mark>, Vec<Problem>) {
        let (mut marks, mut problems) = (Vec::new(), Vec::new());
        let mut previous: Option<Hash> = None;
        for checkpoint in stored {
            match self.check(chain_id, checkpoint, previous) {
                Ok(mark) => marks.push(mark),
                Err(error) => problems.push(Problem {
                    chain_id,
                    seq: checkpoint.mark.head.seq,
                    kind: "checkpoint",
                    detail: format!("checkpoint at row {}: {error:#}", checkpoint.mark.head.seq),
                }),
            }
            previous = Some(note::fingerprint(&checkpoint.note));
        }
        (marks, problems)
    }

    fn check(&self, chain_id: i16, stored: &Stored, previous: Option<Hash>) -> anyhow::Result<Mark> {
        let said = self.open(&stored.note)?;
        anyhow::ensure!(
            said.chain_id == chain_id && said.head == stored.mark.head && said.signed_at == stored.signed_at,
            "its columns are not what was signed"
        );
        anyhow::ensure!(
            said.previous == previous,
            "it does not name the one before it, which was changed or removed"
        );
        Ok(stored.mark.clone())
    }
}

/// A checkpoint of the database.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What its columns say.
    pub mark: Mark,
    /// The note.
    pub note: String,
    /// When it was signed.
    pub signed_at: jiff::Timestamp,
}
