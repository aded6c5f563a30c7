//! `retention`: takes old months out of the database and keeps them as NDJSON.
//!
//! Order, for each month: its rows are written to a file that is then read again and compared with
//! the database; in one transaction the month is detached, counted once more and recorded
//! ([`crate::verify`] needs the runs to go on after them), and the deed is an event of history.
//! Invariant: after a crash at any point, rows are in the database or recorded with the hash of
//! their file; to repeat the command goes on. The detached table stays until `--drop`.
//!
//! Needs the owner of the tables: the service's own role may do nothing of this.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use latchline_shared::hex;
use latchline_shared::kit::postgres::Postgres;
use latchline_shared::kit::run::Exit;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::chain::{Hash, Head, intact};
use crate::event::{Event, Row, SYSTEM_CHAIN};
use crate::history::types::Micros;
use crate::history::{self, COLUMNS};
use crate::ndjson;
use crate::verify::walk::Run;

/// Rows read at once.
const PAGE_ROWS: i64 = 2_000;

/// Arguments of `retention`.
#[derive(Debug, Clone, clap::Args)]
pub struct RetentionArguments {
    /// Months that stay, beside the current one.
    #[arg(long, value_name = "MONTHS", default_value_t = 13)]
    pub older_than_months: u16,
    /// Folder that the files are written to.
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Drop months that were archived and detached, now or earlier.
    #[arg(long)]
    pub drop: bool,
}

/// The command.
pub async fn cli(
    arguments: &RetentionArguments,
    postgres: &Postgres,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let pool = postgres.pool("latchline-auditor retention", None)?;
    let mut client = pool.get().await.context("connect to postgres")?;
    for table in months(&client, "event").await? {
        if table.as_str() >= oldest_kept(arguments.older_than_months)?.as_str() {
            continue;
        }
        if arguments.dry_run {
            writeln!(out, "{table} would be archived")?;
            continue;
        }
        let archive = write_file(&client, &table, &arguments.folder).await?;
        compare(&client, &table, &archive).await?;
        detach(&mut client, &table, &archive).await?;
        writeln!(out, "{table}: {} rows archived in {}", archive.rows, archive.path.display())?;
    }
    if arguments.drop && !arguments.dry_run {
        for table in months(&client, "archived_event").await? {
            client.batch_execute(&format!("drop table auditor.{table}")).await?;
            writeln!(out, "{table}: dropped")?;
        }
    }
    Ok(Exit::Done)
}

/// Name of the partition of the oldest month that stays.
fn oldest_kept(months: u16) -> anyhow::Result<String> {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let kept = now.first_of_month()?.checked_sub(i32::from(months).months())?;
    Ok(format!("event_{:04}_{:02}", kept.year(), kept.month()))
}

/// Tables of months whose names begin so, the oldest first. What begins with `archived` was detached
/// in the transaction that recorded it.
async fn months(client: &Client, begin: &str) -> anyhow::Result<Vec<String>> {
    let select = "select relname::text from pg_class where relnamespace = 'auditor'::regnamespace \
        and relkind = 'r' and relname ~ $1 order by relname";
    let pattern = format!("^{begin}_[0-9]{{4}}_[0-9]{{2}}(_[0-9]+)?$");
    Ok(client.query(select, &[&pattern]).await?.iter().map(|row| row.get(0)).collect())
}

/// A file with a month.
struct Archive {
    path: PathBuf,
    name: String,
    sha256: Hash,
    rows: i64,
    runs: BTreeMap<i16, Vec<Run>>,
}

/// Writes a month down. A file that no run names yet is from an attempt that did not end.
async fn write_file(client: &Client, table: &str, folder: &Path) -> anyhow::Result<Archive> {
    let named = "select count(distinct file) from auditor.archived_run where file like $1";
    let named: i64 = client.query_one(named, &[&format!("{table}.%ndjson")]).await?.try_get(0)?;
    // Rows of a month may come after it was archived.
    let name = if named == 0 { format!("{table}.ndjson") } else { format!("{table}.{}.ndjson", named + 1) };
    let (path, partial) = (folder.join(&name), folder.join(format!("{name}.partial")));
    let mut archive = Archive { path, name, sha256: [0; 32], rows: 0, runs: BTreeMap::new() };
    let create = || format!("write {}", partial.display());
    let mut file = BufWriter::new(File::create(&partial).with_context(create)?);
    let (mut hash, mut line, mut position) = (Sha256::new(), Vec::new(), START);
    loop {
        let page = page(client, table, &mut position).await?;
        if page.is_empty() {
            break;
        }
        for row in &page {
            archive.add(row)?;
            line.clear();
            ndjson::write(row, &mut line);
            hash.update(&line);
            file.write_all(&line).with_context(create)?;
        }
    }
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(create)?;
    file.sync_all().with_context(create)?;
    fs::rename(&partial, &archive.path).with_context(create)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(create)?;
    archive.sha256 = hash.finalize().into();
    Ok(archive)
}

impl Archive {
    /// Adds a row to the runs; a history that is not intact is not archived.
    fn add(&mut self, row: &Row) -> anyhow::Result<()> {
        let place = || format!("row {} of chain {} is not intact, verify first", row.seq, row.chain_id);
        let runs = self.runs.entry(row.chain_id).or_default();
        let continued = runs.last_mut().filter(|run| row.seq <= run.end.seq.saturating_add(1));
        match continued {
            Some(run) => {
                run.end.follows(row).with_context(place)?;
                run.end = Head::at(row);
            }
            None => {
                intact(row).with_context(place)?;
                runs.push(Run { first_seq: row.seq, end: Head::at(row), file: self.name.clone() });
            }
        }
        self.rows += 1;
        Ok(())
    }
}

type Position = (i16, i64, Micros);
const START: Position = (i16::MIN, i64::MIN, Micros(i64::MIN));

async fn page(client: &Client, table: &str, position: &mut Position) -> anyhow::Result<Vec<Row>> {
    let select = format!(
        "select {COLUMNS} from auditor.{table} where (chain_id, seq, occurred_at) > ($1, $2, $3) \
         order by chain_id, seq, occurred_at limit $4"
    );
    let parameters: [&(dyn ToSql + Sync); 4] = [&position.0, &position.1, &position.2, &PAGE_ROWS];
    let rows = client.query(&select, &parameters).await?;
    if let Some(last) = rows.last() {
        *position = (last.try_get(0)?, last.try_get(1)?, last.try_get(2)?);
    }
    Ok(rows.iter().map(history::row).collect::<Result<_, _>>()?)
}

/// Reads the file again: it must be what was hashed, and that is what the database has.
async fn compare(client: &Client, table: &str, archive: &Archive) -> anyhow::Result<()> {
    let mut file = File::open(&archive.path)?;
    let mut on_disk = Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut on_disk))?;
    let (mut hash, mut line, mut position) = (Sha256::new(), Vec::new(), START);
    loop {
        let page = page(client, table, &mut position).await?;
        if page.is_empty() {
            break;
        }
        for row in &page {
            line.clear();
            ndjson::write(row, &mut line);
            hash.update(&line);
        }
    }
    let same =
        <Hash>::from(on_disk.finalize()) == archive.sha256 && <Hash>::from(hash.finalize()) == archive.sha256;
    ensure!(same, "{} is not what {table} holds, repeat", archive.path.display());
    Ok(())
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Takes the month out and records where its rows are, both or neither.
async fn detach(client: &mut Client, table: &str, archive: &Archive) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    // Whoever writes waits for us, so we do not wait long for others.
    transaction.batch_execute("set local lock_timeout = '10s'; set local statement_timeout = 0").await?;
    // In the order of those who read over HTTP: the head of the chain, then the table.
    let head = "select from auditor.chain_head where chain_id = $1 for update";
    transaction.execute(head, &[&SYSTEM_CHAIN]).await?;
    transaction.batch_execute(&format!("alter table auditor.event detach partition auditor.{table}")).await?;
    let count = transaction.query_one(&format!("select count(*) from auditor.{table}"), &[]).await?;
    ensure!(count.try_get::<_, i64>(0)? == archive.rows, "{table} has grown meanwhile, repeat");
    let (year_month, sha256) = (table.trim_start_matches("event_").replace('_', "-"), &archive.sha256[..]);
    let insert = "insert into auditor.archived_run values \
        (($1 || '-01')::date, $2, $3, $4, $5, $6, $7, $8)";
    for (chain_id, run) in archive.runs.iter().flat_map(|(id, runs)| runs.iter().map(move |run| (id, run))) {
        let (chain_hash, detail_hash) = (&run.end.chain_hash[..], &run.end.detail_hash[..]);
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &year_month,
            chain_id,
            &run.first_seq,
            &run.end.seq,
            &chain_hash,
            &detail_hash,
            &archive.name,
            &sha256,
        ];
        transaction.execute(insert, &parameters).await?;
    }
    let number: i64 = transaction
        .query_one(
            "select count(*) from pg_class where relnamespace = 'auditor'::regnamespace and relkind = 'r' \
             and starts_with(relname::text, $1)",
            &[&format!("archived_{table}")],
        )
        .await?
        .try_get(0)?;
    let archived = if number == 0 { String::new() } else { format!("_{}", number + 1) };
    let rename = format!("alter table auditor.{table} rename to archived_{table}{archived}");
    transaction.batch_execute(&rename).await?;
    let said = serde_json::json!({
        "month": year_month, "rows": archive.rows, "file": archive.name, "sha256": hex::encode(sha256),
    });
    let event = Event {
        occurred_at_ms: Timestamp::now().as_millisecond(),
        action: Some("archive".to_owned()),
        reason: Some(format!("month {year_month}, {} rows, in {}", archive.rows, archive.name)),
        raw: said.to_string().into_bytes(),
        ..Event::default()
    };
    history::append(&transaction, SYSTEM_CHAIN, vec![event]).await?;
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests;
