//! Makes checkpoints: signs the end of each chain from time to time and keeps the notes where the
//! database's owner cannot change them: in a file and on a stream.
//!
//! One instance works at a time (an advisory lock of the transaction). A checkpoint is a row first
//! and published from there, so what could not be published is tried again.
//!
//! Invariant: no checkpoint contradicts an earlier one. A chain that is shorter than its last
//! checkpoint, as long with another hash, or whose rows since then are not linked, is not signed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::Pool;
use jiff::Timestamp;
use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::readiness::Condition;
use latchline_shared::kit::kafka::publisher::Publisher;
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_postgres::Transaction;
use tracing::{error, info, warn};

use crate::chain::{Break, Head};
use crate::history::types::Micros;
use crate::history::{self, Position};
use crate::note::{self, Checkpoint, Signer};
use crate::verify::database::head_of;

/// How often is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Rows read at once to see that they are linked.
const PAGE_ROWS: i64 = 2_000;
/// Checkpoints published in one step.
const PUBLISH_MAX: i64 = 100;
const LOCK: &str = "select pg_try_advisory_xact_lock(hashtextextended('latchline auditor checkpoint', 0))";

/// The `[checkpoint]` table.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// Begin of the origin.
    pub site: String,
    /// File with the key; none: no checkpoints.
    #[serde(deserialize_with = "value::optional")]
    pub key_file: Option<PathBuf>,
    /// File that notes are appended to.
    #[serde(deserialize_with = "value::optional")]
    pub file: Option<PathBuf>,
    /// Stream that notes are published to.
    #[serde(deserialize_with = "value::optional")]
    pub stream: Option<String>,
    /// A chain that has grown is signed after so long.
    #[serde(rename = "interval_s", deserialize_with = "value::seconds")]
    pub interval: Duration,
    /// Or after so many events.
    pub events_max: i64,
}

impl Settings {
    /// The key, if there shall be checkpoints.
    pub fn signer(&self) -> anyhow::Result<Option<Signer>> {
        let Some(file) = &self.key_file else {
            warn!("no checkpoints are signed: checkpoint.key_file is not set");
            return Ok(None);
        };
        Signer::of_file(&self.site, file).context("checkpoint.key_file").map(Some)
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        if let Err(error) = note::check_name(&self.site) {
            problems.push(format!("checkpoint.site: {error}"));
        }
        if let Some(Err(error)) = self.key_file.as_ref().map(|file| Signer::of_file("check", file)) {
            problems.push(format!("checkpoint.key_file: {error:#}"));
        }
        if self.interval.is_zero() {
            problems.push("checkpoint.interval_s: must not be 0".to_owned());
        }
        if self.events_max <= 0 {
            problems.push("checkpoint.events_max: must be at least 1".to_owned());
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    signed: Counter,
    refused: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let signed = metrics.signed.clone();
        registry.register("auditor_checkpoint_signed", "Checkpoints that were signed", signed);
        let refused = "Times that a chain was not signed because it contradicts its last checkpoint";
        registry.register("auditor_checkpoint_refused", refused, metrics.refused.clone());
        metrics
    }
}

/// Makes checkpoints.
pub struct Maker {
    /// How.
    pub settings: Settings,
    /// The key.
    pub signer: Signer,
    /// The service's connections.
    pub pool: Pool,
    /// To the stream, if there is one.
    pub publisher: Option<Publisher>,
    /// Not ready while history contradicts a checkpoint.
    pub condition: Condition,
    /// What is counted.
    pub metrics: Metrics,
    /// Why the last look signed nothing, if history was to blame; none at first.
    pub refused: Option<String>,
}

impl Maker {
    /// Runs until the shutdown is requested.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut is_failing = false;
        while !shutdown.is_requested() {
            match self.step().await {
                Ok(()) if is_failing => {
                    info!("checkpoints are made again");
                    is_failing = false;
                }
                Err(error) if !is_failing => {
                    warn!(error = format!("{error:#}"), "checkpoints are not made");
                    is_failing = true;
                }
                Ok(()) | Err(_) => {}
            }
            // Cancel safety: neither keeps a state.
            tokio::select! {
                () = shutdown.requested() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
        Ok(())
    }

    /// Signs what is due, and then publishes what is not published.
    pub async fn step(&mut self) -> anyhow::Result<()> {
        self.sign().await?;
        self.publish().await
    }

    async fn sign(&mut self) -> anyhow::Result<()> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        if !transaction.query_one(LOCK, &[]).await?.get::<_, bool>(0) {
            return Ok(());
        }
        let heads = "select seq, chain_hash, detail_hash, chain_id from auditor.chain_head order by chain_id";
        let mut contradiction = None;
        let heads: Vec<(i16, Head)> = transaction
            .query(heads, &[])
            .await?
            .iter()
            .map(|row| Ok((row.try_get(3)?, head_of(row)?)))
            .collect::<Result<_, tokio_postgres::Error>>()?;
        for (chain_id, head) in heads {
            if let Err(why) = self.sign_chain(&transaction, chain_id, head).await? {
                contradiction.get_or_insert(format!("history of chain {chain_id} was changed: {why}"));
            }
        }
        transaction.commit().await?;
        match contradiction {
            None => {
                self.refused = None;
                self.condition.ready();
            }
            Some(why) => self.refuse(why),
        }
        Ok(())
    }

    fn refuse(&mut self, why: String) {
        self.metrics.refused.inc();
        // Once a contradiction is there it stays, and is found with each look.
        if self.refused.as_ref() != Some(&why) {
            error!(why, "no checkpoint is signed");
        }
        self.condition.not_ready(why.clone());
        self.refused = Some(why);
    }

    /// Signs a chain if that is due. The inner error says how history contradicts itself.
    async fn sign_chain(
        &self,
        transaction: &Transaction<'_>,
        chain_id: i16,
        head: Head,
    ) -> anyhow::Result<Result<(), String>> {
        let last = "select size, chain_hash, detail_hash, note, signed_at from auditor.checkpoint \
            where chain_id = $1 order by size desc limit 1";
        let last = transaction.query_opt(last, &[&chain_id]).await?;
        let (begin, previous, signed_at_us) = match &last {
            Some(row) => {
                let previous = note::fingerprint(row.try_get(3)?);
                (head_of(row)?, Some(previous), row.try_get::<_, Micros>(4)?.0)
            }
            None => (Head::genesis(chain_id), None, i64::MIN),
        };
        if head.seq < begin.seq {
            return Ok(Err(format!("it ends at row {}, a checkpoint is at row {}", head.seq, begin.seq)));
        }
        if head.seq == begin.seq {
            let same = head == begin;
            return Ok(if same { Ok(()) } else { Err(format!("row {} has another hash", head.seq)) });
        }
        let now = Timestamp::now();
        let age_us = now.as_microsecond().saturating_sub(signed_at_us);
        let is_due = i128::from(age_us) >= self.settings.interval.as_micros() as i128
            || head.seq - begin.seq >= self.settings.events_max;
        if !is_due {
            return Ok(Ok(()));
        }
        if let Err(broken) = linked(transaction, chain_id, begin, head).await? {
            return Ok(Err(broken));
        }
        // Whole seconds are enough, and are the same in the column.
        let signed_at = Timestamp::from_second(now.as_second())?;
        let site = self.settings.site.clone();
        let note = self.signer.sign(&Checkpoint { site, chain_id, head, previous, signed_at }.text());
        let insert = "insert into auditor.checkpoint \
            (chain_id, size, chain_hash, detail_hash, note, signed_at, published_to) \
            values ($1, $2, $3, $4, $5, $6, '{}')";
        let (chain_hash, detail_hash) = (head.chain_hash.as_slice(), head.detail_hash.as_slice());
        let signed_at = Micros(signed_at.as_microsecond());
        transaction
            .execute(insert, &[&chain_id, &head.seq, &chain_hash, &detail_hash, &note, &signed_at])
            .await?;
        self.metrics.signed.inc();
        Ok(Ok(()))
    }

    /// Publishes where it is not yet, the oldest first.
    async fn publish(&mut self) -> anyhow::Result<()> {
        let mut targets: Vec<&str> = Vec::new();
        targets.extend(self.settings.file.is_some().then_some("file"));
        targets.extend(self.publisher.is_some().then_some("stream"));
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        if !transaction.query_one(LOCK, &[]).await?.get::<_, bool>(0) {
            return Ok(());
        }
        let select = "select id, note from auditor.checkpoint \
            where not published_to @> array[$1] order by id limit $2";
        let update =
            "update auditor.checkpoint set published_to = array_append(published_to, $2) where id = $1";
        let mut failure = None;
        // Each by itself: a file that can be written does not wait for a stream that cannot.
        for target in targets {
            for row in transaction.query(select, &[&target, &PUBLISH_MAX]).await? {
                let (id, note): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
                if let Err(error) = self.publish_to(target, &note).await {
                    failure.get_or_insert(error);
                    break;
                }
                transaction.execute(update, &[&id, &target]).await?;
            }
        }
        transaction.commit().await?;
        failure.map_or(Ok(()), Err)
    }

    async fn publish_to(&self, target: &str, note: &str) -> anyhow::Result<()> {
        match (target, &self.settings.file, &self.publisher) {
            ("file", Some(file), _) => {
                let (file, note) = (file.clone(), note.to_owned());
                tokio::task::spawn_blocking(move || append(&file, &note)).await??;
            }
            (_, _, Some(publisher)) => {
                let origin = note.lines().next().unwrap_or_default();
                publisher.publish(origin, note.as_bytes()).await.context("publish a checkpoint")?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the rows after `begin`, up to `end`, are linked; else why not.
async fn linked(
    transaction: &Transaction<'_>,
    chain_id: i16,
    begin: Head,
    end: Head,
) -> anyhow::Result<Result<(), String>> {
    let (mut at, mut position) = (begin, Position::after(begin.seq));
    while at.seq < end.seq {
        let page = history::page(transaction, chain_id, &mut position, PAGE_ROWS).await?;
        if page.is_empty() {
            return Ok(Err(Break::Missing { first: at.seq + 1, last: end.seq }.to_string()));
        }
        for row in page {
            let row = match row {
                Ok(row) => row,
                Err(unreadable) => return Ok(Err(unreadable.to_string())),
            };
            if row.seq > end.seq {
                break;
            }
            if let Err(broken) = at.follows(&row) {
                return Ok(Err(format!("row {}: {broken}", row.seq)));
            }
            at = Head::at(&row);
        }
    }
    Ok(if at == end { Ok(()) } else { Err(format!("row {} has another hash than the head", at.seq)) })
}

/// Adds a note to a file, with an empty line before and after: one that a crash cut short before
/// it does not spoil it.
fn append(path: &Path, note: &str) -> anyhow::Result<()> {
    let append = || {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(format!("\n{note}\n").as_bytes())?;
        file.sync_all()
    };
    append().with_context(|| format!("append to {}", path.display()))
}

#[cfg(test)]
mod tests;
