//! The monitor as the consumer kit sees it: a lane's locks are remembered, records and time do what
//! they do, and what changed is written.
//!
//! Invariant: memory is never ahead of Postgres. A transaction takes the lane's memory out of its
//! slot and puts it back when all is written; only when the kit says that the transaction was
//! committed may the next one use it. Whatever happens in between (an error, an abort, a panic), the
//! memory is gone, and is read again. What the kit cannot tell (it says "committed" of a transaction
//! that passed over what the one before had failed to commit) shows in the version of the lane.

pub mod metrics;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::kit::clock;
use latchline_shared::kit::kafka::consumer::{Decoded, Gap, Poison, Record, Service};
use latchline_shared::lock_state::Profiles;
use tokio::sync::watch;
use tokio_postgres::Transaction;
use tracing::{debug, error};

use crate::alarm::apply::apply;
use crate::alarm::sweep::fleet::fleet_state;
use crate::alarm::{Applied, Context};
use crate::lane::watch::Position;
use crate::lane::{Effects, Lane, Tally};
use crate::record::{self, Item};
use crate::rule::live::LiveRules;
use crate::settings::Streams;
use crate::store;
use metrics::Metrics;

/// See the file.
#[derive(Debug)]
pub struct Monitor {
    config: Config,
    metrics: Metrics,
    lanes: Mutex<HashMap<i32, Slot>>,
    commits: watch::Sender<u64>,
}

/// What a monitor needs to know.
#[derive(Debug)]
pub struct Config {
    /// What is read.
    pub streams: Streams,
    /// How locks number their states.
    pub profiles: Profiles,
    /// How long records may be on their way: so far are delays behind the clock.
    pub grace: Duration,
    /// How alarms are told.
    pub alarms: Context,
    /// The thresholds in effect.
    pub rules: Arc<LiveRules>,
}

/// A lane between its transactions.
#[derive(Debug)]
enum Slot {
    /// What is remembered is what is stored.
    Stored(Box<Lane>),
    /// It will be when the transaction is committed.
    Written(Box<Lane>, Counted),
}

/// What a transaction came to.
#[derive(Debug, Default)]
struct Counted {
    tally: Tally,
    applied: Applied,
}

impl Monitor {
    /// A monitor that remembers nothing yet.
    pub fn new(config: Config, metrics: Metrics) -> Self {
        Self { config, metrics, lanes: Mutex::default(), commits: watch::Sender::new(0) }
    }

    /// Counts the transactions of this instance that changed alarms, so that whoever tells of them
    /// knows when to look.
    pub fn commits(&self) -> watch::Sender<u64> {
        self.commits.clone()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<i32, Slot>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the lane, or else what is stored.
    async fn remember(&self, transaction: &Transaction<'_>, number: i32) -> Result<Box<Lane>, Fault> {
        let rules = self.config.rules.current();
        let slot = self.slots().remove(&number);
        if let Some(Slot::Stored(mut lane)) = slot {
            lane.adopt(&rules);
            return Ok(lane);
        }
        let lane = store::load(transaction, number, &self.config.streams.states, rules).await?;
        debug!(lane = number, locks = lane.len(), "locks were read");
        Ok(lane)
    }

    async fn tick(
        &self,
        transaction: &Transaction<'_>,
        lane: &mut Lane,
        now_ms: i64,
        position: Position,
        effects: &mut Effects,
    ) -> Result<(), Fault> {
        let fleet = fleet_state(transaction).await?;
        let grace_ms = i64::try_from(self.config.grace.as_millis()).unwrap_or(i64::MAX);
        let reached_ms = match position {
            Position::End => now_ms,
            // A clock that is ahead of ours must not end the delays of other locks.
            Position::Before(newest_ms) => newest_ms.map_or(0, |newest_ms| newest_ms.min(now_ms)),
        };
        lane.tick(now_ms, reached_ms.saturating_sub(grace_ms), position, fleet, effects);
        Ok(())
    }

    /// Writes what changed, and keeps the lane for when that is committed.
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        number: i32,
        mut lane: Box<Lane>,
        effects: Effects,
    ) -> Result<(), Fault> {
        store::save(transaction, number, &mut lane).await?;
        let Effects { signals, tally } = effects;
        let applied = apply(transaction, &self.config.alarms, signals).await?;
        lane.stored();
        self.slots().insert(number, Slot::Written(lane, Counted { tally, applied }));
        Ok(())
    }
}

impl Service for Monitor {
    type Item = Item;

    fn decode(&self, record: &Record) -> Result<Item, Poison> {
        record::decode(record, &self.config.streams)
    }

    async fn store(
        &self,
        transaction: &Transaction<'_>,
        number: i32,
        batch: &[Decoded<Item>],
    ) -> Result<(), Fault> {
        let mut lane = self.remember(transaction, number).await?;
        let series = store::battery::load(transaction, &lane.wanted(batch)).await?;
        let mut effects = Effects::default();
        let before_ms = lane.newest_ms();
        for decoded in batch {
            lane.take(&self.config.profiles, decoded, &series, &mut effects);
        }
        let now_ms = now_ms();
        // What brings no newer report says nothing about how far reports have been read.
        if lane.is_due(now_ms) && lane.newest_ms() > before_ms {
            let position = Position::Before(lane.newest_ms());
            self.tick(transaction, &mut lane, now_ms, position, &mut effects).await?;
        }
        self.write(transaction, number, lane, effects).await
    }

    async fn idle(&self, transaction: &Transaction<'_>, number: i32, now_ms: i64) -> Result<(), Fault> {
        let mut lane = self.remember(transaction, number).await?;
        let mut effects = Effects::default();
        self.tick(transaction, &mut lane, now_ms, Position::End, &mut effects).await?;
        self.write(transaction, number, lane, effects).await
    }

    async fn lost(&self, transaction: &Transaction<'_>, gap: &Gap) -> Result<(), Fault> {
        let Gap { stream, partition, from, to } = gap;
        error!(%stream, partition, from, to, "what locks said there is not known");
        self.metrics.lost(to - from);
        self.slots().remove(partition);
        store::lane::falter(transaction, *partition).await
    }

    fn opened(&self, lane: i32) {
        self.slots().remove(&lane);
        self.metrics.opened(lane);
    }

    fn closed(&self, lane: i32) {
        self.opened(lane);
    }

    fn committed(&self, number: i32) {
        let mut slots = self.slots();
        let Some(slot) = slots.remove(&number) else { return };
        let (lane, counted) = match slot {
            Slot::Written(lane, counted) => (lane, counted),
            Slot::Stored(lane) => (lane, Counted::default()),
        };
        self.metrics.commit(number, &lane, &counted.tally, &counted.applied, now_ms());
        slots.insert(number, Slot::Stored(lane));
        drop(slots);
        // What changed no alarm is no news.
        if !counted.applied.changes.is_empty() {
            self.commits.send_modify(|count| *count += 1);
        }
    }
}

fn now_ms() -> i64 {
    i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
