//! Verifies what the database holds, chain by chain and in pages, in one snapshot: what is written
//! meanwhile is not looked at, and retention cannot take away what is.

use std::collections::BTreeMap;

use anyhow::Context;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use crate::chain::Head;
use crate::history::types::{Bytes32, Micros};
use crate::history::{self, Position};
use crate::verify::Report;
use crate::verify::evidence::{Evidence, Stored};
use crate::verify::files::Files;
use crate::verify::walk::{ChainReport, Gaps, Mark, Run, Source, Walker};

/// Rows read at once.
const PAGE_ROWS: i64 = 2_000;

/// Verifies all chains. `archives` holds rows that were archived; their runs are looked into
/// instead of jumped over.
pub async fn verify(
    client: &mut Client,
    evidence: &Evidence,
    archives: &mut Files,
) -> anyhow::Result<Report> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    verify_in(&transaction, evidence, archives).await
}

/// Verifies all chains as the transaction sees them.
pub(crate) async fn verify_in(
    transaction: &Transaction<'_>,
    evidence: &Evidence,
    archives: &mut Files,
) -> anyhow::Result<Report> {
    let mut given = evidence.given_marks()?;
    let mut runs = runs(transaction, archives).await?;
    let mut report = Report { damage: std::mem::take(&mut archives.damage), ..Report::default() };
    report.damage.append(&mut runs.damage);
    let mut chains = chains(transaction).await?;
    chains.extend(given.keys().chain(runs.by_chain.keys()));
    chains.sort_unstable();
    chains.dedup();
    for chain_id in chains {
        let given = given.remove(&chain_id).unwrap_or_default();
        let runs = runs.by_chain.remove(&chain_id).unwrap_or_default();
        report.chains.push(chain(transaction, chain_id, evidence, given, runs, archives).await?);
    }
    report.signatures_unchecked = evidence.verifiers.is_empty();
    Ok(report)
}

async fn chain(
    transaction: &Transaction<'_>,
    chain_id: i16,
    evidence: &Evidence,
    mut marks: Vec<Mark>,
    runs: Vec<Run>,
    archives: &mut Files,
) -> anyhow::Result<ChainReport> {
    let head = head(transaction, chain_id).await?;
    let stored = stored(transaction, chain_id).await?;
    let (stored_marks, problems) = evidence.stored_marks(chain_id, &stored);
    marks.extend(head.map(|head| Mark { head, source: Source::ChainHead }));
    marks.extend(stored_marks);
    let mut archived: Vec<_> = archives.lines[archives.of_chain(chain_id)].to_vec();
    archived.retain(|line| runs.iter().any(|run| (run.first_seq..=run.end.seq).contains(&line.seq)));
    let mut archived = archived.into_iter().peekable();
    let mut walker = Walker::new(chain_id, marks, runs, Gaps::Refuse);
    for problem in problems {
        walker.problem(problem.seq, problem.kind, problem.detail);
    }
    let mut position = Position::START;
    let mut is_empty = true;
    while !walker.is_broken() {
        let page = history::page(transaction, chain_id, &mut position, PAGE_ROWS).await?;
        if page.is_empty() {
            break;
        }
        is_empty = false;
        for row in page {
            let seq = row.as_ref().map_or_else(|unreadable| unreadable.seq, |row| row.seq);
            while let Some(line) = archived.next_if(|line| line.seq < seq) {
                archives.feed(line, &mut walker)?;
            }
            match row {
                Ok(row) => walker.row(&row),
                Err(unreadable) => walker.unreadable(seq, &unreadable.what),
            }
        }
    }
    for line in archived {
        archives.feed(line, &mut walker)?;
    }
    if head.is_none() && !is_empty {
        walker.problem(0, "head", "the chain has rows and no head".to_owned());
    }
    Ok(walker.finish())
}

/// Chains of which there are rows, a head, or checkpoints.
async fn chains(transaction: &Transaction<'_>) -> anyhow::Result<Vec<i16>> {
    let known = "select chain_id from auditor.chain_head union select chain_id from auditor.checkpoint";
    let mut chains: Vec<i16> = transaction.query(known, &[]).await?.iter().map(|row| row.get(0)).collect();
    // The smallest and then always the next: one look into the index for each.
    let next = "select min(chain_id) from auditor.event where chain_id > $1::integer";
    let mut last = i32::from(i16::MIN) - 1;
    while let Some(chain) = transaction.query_one(next, &[&last]).await?.try_get::<_, Option<i16>>(0)? {
        chains.push(chain);
        last = i32::from(chain);
    }
    Ok(chains)
}

/// The stored head of a chain.
pub(crate) async fn head(transaction: &Transaction<'_>, chain_id: i16) -> anyhow::Result<Option<Head>> {
    let select = "select seq, chain_hash, detail_hash from auditor.chain_head where chain_id = $1";
    let Some(row) = transaction.query_opt(select, &[&chain_id]).await? else { return Ok(None) };
    Ok(Some(head_of(&row).with_context(|| format!("the head of chain {chain_id}"))?))
}

/// The head in the first three columns of a row.
pub(crate) fn head_of(row: &tokio_postgres::Row) -> Result<Head, tokio_postgres::Error> {
    let (chain_hash, detail_hash) = (row.try_get::<_, Bytes32>(1)?.0, row.try_get::<_, Bytes32>(2)?.0);
    Ok(Head { seq: row.try_get(0)?, chain_hash, detail_hash })
}

async fn stored(transaction: &Transaction<'_>, chain_id: i16) -> anyhow::Result<Vec<Stored>> {
    let select = "select size, chain_hash, detail_hash, note, signed_at from auditor.checkpoint \
        where chain_id = $1 order by size";
    let rows = transaction.query(select, &[&chain_id]).await?;
    let stored = |row: &tokio_postgres::Row| {
        let signed_at = jiff::Timestamp::from_microsecond(row.try_get::<_, Micros>(4)?.0)?;
        let mark = Mark { head: head_of(row)?, source: Source::Stored };
        anyhow::Ok(Stored { mark, note: row.try_get(3)?, signed_at })
    };
    rows.iter().map(stored).collect::<Result<_, _>>().context("a stored checkpoint")
}

struct Runs {
    by_chain: BTreeMap<i16, Vec<Run>>,
    damage: Vec<String>,
}

/// Archived runs, and which of the files at hand are not those that were archived.
async fn runs(transaction: &Transaction<'_>, archives: &Files) -> anyhow::Result<Runs> {
    let select = "select last_seq, chain_hash, detail_hash, chain_id, first_seq, file, file_sha256 \
        from auditor.archived_run order by chain_id, first_seq";
    let mut runs = Runs { by_chain: BTreeMap::new(), damage: Vec::new() };
    for row in transaction.query(select, &[]).await? {
        let (chain_id, file): (i16, String) = (row.try_get(3)?, row.try_get(5)?);
        let hash = row.try_get::<_, Bytes32>(6)?.0;
        let of_this_name = |path: &std::path::Path| path.file_name().is_some_and(|name| *name == *file);
        for (path, found) in archives.hashes.iter().filter(|(path, _)| of_this_name(path)) {
            let damage = format!("{} is not the file that was archived", path.display());
            if *found != hash && !runs.damage.contains(&damage) {
                runs.damage.push(damage);
            }
        }
        let run = Run { first_seq: row.try_get(4)?, end: head_of(&row)?, file };
        runs.by_chain.entry(chain_id).or_default().push(run);
    }
    Ok(runs)
}
