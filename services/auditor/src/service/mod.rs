//! The auditor as the consumer kit sees it: load what is known, decide, save, append.
//!
//! All of it happens in the transaction that also stores the offsets, so each record has its effect
//! once. The chain's head is locked last: until then, lanes do not wait for each other.

pub mod metrics;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::kit::clock;
use latchline_shared::kit::kafka::consumer::{Decoded, Gap, Poison, Record, Service};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Transaction;

use crate::event::{Direction, Event, Kind, Place};
use crate::finding::Finding;
use crate::judge::known::Wants;
use crate::judge::{self, Decision, Settings};
use crate::keys::Keys;
use crate::record::{self, Item, Streams};
use crate::{findings, history, store};
use metrics::Metrics;

/// How often an instance looks for what can be forgotten, unless there is more than it removes at
/// once.
const CLEAN_EVERY: Duration = Duration::from_secs(60);

/// See the file.
#[derive(Debug)]
pub struct Auditor {
    settings: Settings,
    streams: Streams,
    keys: RwLock<Arc<Keys>>,
    metrics: Metrics,
    commits: watch::Sender<u64>,
    /// Counts the transactions that wrote what is to be published; none: nothing is.
    announced: Option<watch::Sender<u64>>,
    /// Lanes whose transaction has done so.
    announcing: Mutex<HashSet<i32>>,
    cleaned_at: Mutex<Option<Instant>>,
}

impl Auditor {
    /// An auditor of these streams.
    pub fn new(settings: Settings, streams: Streams, keys: Keys, metrics: Metrics) -> Self {
        Self {
            settings,
            streams,
            keys: RwLock::new(Arc::new(keys)),
            metrics,
            commits: watch::Sender::new(0),
            announced: None,
            announcing: Mutex::default(),
            cleaned_at: Mutex::new(None),
        }
    }

    /// The same, but what it finds is also written down to be published.
    pub fn announcing(self) -> Self {
        Self { announced: Some(watch::Sender::new(0)), ..self }
    }

    /// Counts the transactions of this instance that wrote down something to be published; none if
    /// none does.
    pub fn announced(&self) -> Option<watch::Receiver<u64>> {
        self.announced.as_ref().map(watch::Sender::subscribe)
    }

    /// Takes other keys for what is read from now on.
    pub fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Counts the transactions of this instance, so that whoever shows history knows when to look.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Adds to history, and writes down what is to be published of it.
    async fn append(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        events: Vec<Event>,
    ) -> Result<(), Fault> {
        let rows = history::append(transaction, chain_of(lane)?, events).await?;
        if self.announced.is_some() && findings::announce(transaction, &rows).await? > 0 {
            self.announcing.lock().unwrap_or_else(PoisonError::into_inner).insert(lane);
        }
        Ok(())
    }

    /// Whether it is time to forget; says so once.
    fn is_time_to_clean(&self) -> bool {
        let mut cleaned_at = self.cleaned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = cleaned_at.is_none_or(|at| at.elapsed() >= CLEAN_EVERY);
        if is_time {
            *cleaned_at = Some(Instant::now());
        }
        is_time
    }

    /// Forgets a little, if it is time to. The next transaction goes on with it if there is more.
    async fn clean(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        if self.is_time_to_clean() && store::clean(transaction, self.settings.process_keep).await? {
            *self.cleaned_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }
}

impl Service for Auditor {
    type Item = Item;

    fn decode(&self, record: &Record) -> Result<Item, Poison> {
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        record::decode(record, &self.streams, &keys)
    }

    async fn store(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        batch: &[Decoded<Item>],
    ) -> Result<(), Fault> {
        let chain_id = chain_of(lane)?;
        let now_ms = now_ms();
        let mut known = store::load(transaction, chain_id, &Wants::of(batch, now_ms)).await?;
        let decision = judge::decide(&mut known, chain_id, &self.settings, batch, now_ms);
        store::save(transaction, chain_id, &known, self.settings.nonce_keep).await?;
        self.clean(transaction).await?;
        self.metrics.prepare(lane, &decision);
        self.append(transaction, lane, decision.events).await
    }

    async fn idle(&self, transaction: &Transaction<'_>, lane: i32, now_ms: i64) -> Result<(), Fault> {
        let chain_id = chain_of(lane)?;
        let grace_ms = i64::try_from(self.settings.idle_grace.as_millis()).unwrap_or(i64::MAX);
        let at_ms = now_ms.saturating_sub(grace_ms);
        let mut known = store::load_due(transaction, chain_id, at_ms).await?;
        known.clock.advance(at_ms);
        let events = judge::pass(&mut known, chain_id);
        store::save(transaction, chain_id, &known, self.settings.nonce_keep).await?;
        self.clean(transaction).await?;
        let decision = Decision { events, ..Decision::default() };
        self.metrics.prepare(lane, &decision);
        self.append(transaction, lane, decision.events).await
    }

    async fn lost(&self, transaction: &Transaction<'_>, gap: &Gap) -> Result<(), Fault> {
        let Gap { stream, partition, from, to } = gap;
        let event = Event {
            occurred_at_ms: now_ms(),
            direction: Direction::System,
            kind: Kind::Finding,
            findings: vec![Finding::LogTruncated.name().to_owned()],
            severity: Finding::LogTruncated.severity(),
            reason: Some(format!("offsets {from} to {to} were deleted before they were read")),
            place: Place { stream: stream.to_string(), partition: *partition, offset: *from },
            ..Event::default()
        };
        self.append(transaction, *partition, vec![event]).await
    }

    fn committed(&self, lane: i32) {
        // What wrote nothing is no news.
        if self.metrics.commit(lane) {
            self.commits.send_modify(|count| *count += 1);
        }
        let has_announced = self.announcing.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane);
        if let Some(announced) = self.announced.as_ref().filter(|_| has_announced) {
            announced.send_modify(|count| *count += 1);
        }
    }
}

/// Each lane has a chain of its own.
fn chain_of(lane: i32) -> Result<i16, Fault> {
    i16::try_from(lane)
        .ok()
        .filter(|chain_id| *chain_id != crate::event::SYSTEM_CHAIN)
        .ok_or_else(|| Fault::Bug(format!("there is no chain for partition {lane}").into()))
}

fn now_ms() -> i64 {
    i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
