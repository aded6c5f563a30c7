//! `verify`: proves that history is intact, or names the first row that was changed, removed,
//! inserted or reordered. Online against the database, offline from exports and archives.
//!
//! The walk along a chain is pure ([`walk`]); rows come from [`database`] or from [`files`],
//! checkpoints from [`evidence`].
//!
//! Non-guarantee: whoever may do everything in the database can rewrite all of it with fitting
//! hashes. Only checkpoints that are kept elsewhere find that, so give them (`--checkpoint`).

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use latchline_shared::kit::postgres::Postgres;
use latchline_shared::kit::run::Exit;
use serde::Serialize;

use crate::verify::evidence::Evidence;
use crate::verify::files::Files;
use crate::verify::walk::{ChainReport, Gaps, Walker};

pub mod database;
pub mod evidence;
pub mod files;
pub mod walk;

/// Arguments of `verify`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct VerifyArguments {
    /// Verify these exports (NDJSON) instead of the database.
    #[arg(long, value_name = "FILE")]
    pub from_export: Vec<PathBuf>,
    /// Files with checkpoints that were kept elsewhere; they must agree with the rows.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Vec<PathBuf>,
    /// Key that checkpoints are signed with, as `key` prints it: name+hash+key.
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    /// Archived months to look into; without them their rows are jumped over.
    #[arg(long, value_name = "FILE")]
    pub archive: Vec<PathBuf>,
    /// The export is a selection: rows that are not in it are no problem.
    #[arg(long, requires = "from_export")]
    pub partial: bool,
}

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By chain.
    pub chains: Vec<ChainReport>,
    /// What is wrong with files.
    pub damage: Vec<String>,
    /// There was no key to check the signatures of checkpoints with.
    pub signatures_unchecked: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_intact(&self) -> bool {
        self.damage.is_empty() && self.chains.iter().all(|chain| chain.problems.is_empty())
    }

    /// For people, one line for each fact.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        for chain in &self.chains {
            let ChainReport { chain_id, rows, last_seq, .. } = chain;
            let word = if chain.problems.is_empty() { "intact" } else { "NOT INTACT" };
            writeln!(out, "chain {chain_id}: {word}, {rows} rows verified up to row {last_seq}")?;
            for problem in &chain.problems {
                writeln!(out, "chain {chain_id}: row {}: {}: {}", problem.seq, problem.kind, problem.detail)?;
            }
            for (first, last, file) in &chain.skipped {
                writeln!(
                    out,
                    "chain {chain_id}: rows {first} to {last} are archived in {file}, not verified"
                )?;
            }
            for (count, what) in [
                (chain.checkpoints, "checkpoints agree"),
                (chain.rows_uncovered.unsigned_abs(), "rows come after the last checkpoint"),
                (chain.raw_removed, "rows have lost their raw record"),
                (chain.unverified_marks, "checkpoints or ends are about rows that are not here"),
                (chain.gaps, "rows are not in the selection"),
            ] {
                if count > 0 {
                    writeln!(out, "chain {chain_id}: {count} {what}")?;
                }
            }
        }
        for damage in &self.damage {
            writeln!(out, "{damage}")?;
        }
        if self.signatures_unchecked {
            writeln!(out, "signatures were not checked: no --key was given")?;
        }
        let has_skipped = self.chains.iter().any(|chain| !chain.skipped.is_empty());
        let has_gaps = self.chains.iter().any(|chain| chain.gaps > 0);
        let verdict = match self.is_intact() {
            false => "NOT INTACT",
            true if has_skipped => "intact, but for archived rows that were not looked into (--archive)",
            true if has_gaps => "consistent as far as it is here, which proves little about a selection",
            true => "intact",
        };
        writeln!(out, "history is {verdict}")
    }
}

/// The command: verifies and writes what was found. [`Exit::Failed`]: history is not intact.
pub async fn cli(
    arguments: &VerifyArguments,
    postgres: &Postgres,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let evidence = Evidence::read(&arguments.checkpoint, &arguments.key)?;
    let report = if arguments.from_export.is_empty() {
        let mut archives = Files::open(&arguments.archive)?;
        let pool = postgres.pool("latchline-auditor verify", None)?;
        let mut client = pool.get().await.context("connect to postgres")?;
        database::verify(&mut client, &evidence, &mut archives).await?
    } else {
        let paths = [arguments.archive.clone(), arguments.from_export.clone()].concat();
        let gaps = if arguments.partial { Gaps::Count } else { Gaps::Refuse };
        offline(&paths, &evidence, gaps)?
    };
    report.write(out)?;
    Ok(if report.is_intact() { Exit::Done } else { Exit::Failed })
}

/// Verifies files alone.
pub fn offline(paths: &[PathBuf], evidence: &Evidence, gaps: Gaps) -> anyhow::Result<Report> {
    let mut files = Files::open(paths)?;
    let mut given = evidence.given_marks()?;
    let mut chains: Vec<i16> = files.lines.iter().map(|line| line.chain_id).collect();
    chains.extend(given.keys());
    chains.sort_unstable();
    chains.dedup();
    let mut report = Report { damage: std::mem::take(&mut files.damage), ..Report::default() };
    for chain_id in chains {
        let marks = given.remove(&chain_id).unwrap_or_default();
        let mut walker = Walker::new(chain_id, marks, Vec::new(), gaps);
        for index in files.of_chain(chain_id) {
            files.feed(files.lines[index], &mut walker)?;
        }
        report.chains.push(walker.finish());
    }
    report.signatures_unchecked = evidence.verifiers.is_empty() && !evidence.given.is_empty();
    Ok(report)
}

#[cfg(test)]
mod tests;
