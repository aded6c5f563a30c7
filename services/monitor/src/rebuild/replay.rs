//! The monitor's way of a record once more, as the consumer kit sees it: the same reading, the same
//! lanes, the same rules, the same life of alarms; but no clock, and nobody is told.
//!
//! Invariants: nothing at or behind the live offset has an effect; nothing is written outside of the
//! shadow schema, so what cannot be read, or stored, is passed over as the live one has done with it,
//! without a dead letter.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use latchline_shared::kit::kafka::consumer::{Decoded, Gap, Poison, Record, Service};
use latchline_shared::kit::postgres::fault;
use latchline_shared::lock_state::Profiles;
use tokio_postgres::Transaction;
use tracing::warn;

use super::COPIED;
use crate::alarm::Context;
use crate::alarm::replay::replay;
use crate::alarm::sweep::fleet::FleetState;
use crate::lane::watch::Position;
use crate::lane::{Effects, Lane};
use crate::record::{self, Item};
use crate::rule::load::Rules;
use crate::settings::{Settings, Streams};
use crate::store;

/// See the file.
pub(super) struct Replay {
    streams: Streams,
    profiles: Profiles,
    rules: Arc<Rules>,
    context: Context,
    targets: HashMap<(String, i32), i64>,
    lanes: Mutex<HashMap<i32, Slot>>,
    records: AtomicU64,
    notes: Mutex<BTreeSet<String>>,
    ended: Mutex<BTreeSet<i32>>,
}

/// A lane between its transactions.
enum Slot {
    /// What is remembered is what is stored.
    Stored(Box<Lane>),
    /// It will be when the transaction is committed.
    Written(Box<Lane>),
}

impl Replay {
    /// Replays up to the `targets`, by stream and partition. Reads the file of thresholds.
    pub(super) fn new(settings: &Settings, targets: HashMap<(String, i32), i64>) -> anyhow::Result<Self> {
        let rules = Rules::load(settings.rules.file.as_deref()).context("rules.file")?;
        Ok(Self {
            streams: settings.streams.clone(),
            profiles: settings.profiles.clone(),
            rules: Arc::new(rules),
            context: Context { outbox: None, webhook: false, ..settings.context() },
            targets,
            lanes: Mutex::default(),
            records: AtomicU64::new(0),
            notes: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    /// How many records had their effect.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Lanes that were read to their ends, wherever these are.
    pub(super) fn ended(&self) -> BTreeSet<i32> {
        locked(&self.ended).clone()
    }

    /// Why the result may differ.
    pub(super) fn notes(&self) -> Vec<String> {
        locked(&self.notes).iter().cloned().collect()
    }

    /// Ends the delays of a lane that ended by then.
    pub(super) async fn pass(&self, pool: &Pool, number: i32, until_ms: i64) -> anyhow::Result<()> {
        loop {
            let mut client = pool.get().await?;
            let transaction = client.transaction().await?;
            let mut lane = self.remember(&transaction, number).await?;
            let mut effects = Effects::default();
            lane.tick(until_ms, until_ms, Position::Before(None), FleetState::default(), &mut effects);
            if effects.signals.is_empty() {
                return Ok(());
            }
            self.write(&transaction, number, lane, effects).await?;
            transaction.commit().await?;
            self.committed(number);
        }
    }

    /// What is remembered of the lane, or else what is stored.
    async fn remember(&self, transaction: &Transaction<'_>, number: i32) -> Result<Box<Lane>, Fault> {
        let slot = locked(&self.lanes).remove(&number);
        if let Some(Slot::Stored(lane)) = slot {
            return Ok(lane);
        }
        store::load(transaction, number, &self.streams.states, Arc::clone(&self.rules)).await
    }

    async fn apply(
        &self,
        transaction: &Transaction<'_>,
        number: i32,
        items: &[&Decoded<Item>],
    ) -> Result<(), Fault> {
        let mut lane = self.remember(transaction, number).await?;
        let mut wanted: BTreeMap<&str, i32> = BTreeMap::new();
        for item in items {
            for (id, first) in lane.wanted(std::slice::from_ref(*item)) {
                wanted.entry(id).and_modify(|day| *day = first.min(*day)).or_insert(first);
            }
        }
        let series = store::battery::load(transaction, &wanted).await?;
        let mut effects = Effects::default();
        for item in items {
            lane.take(&self.profiles, item, &series, &mut effects);
        }
        self.write(transaction, number, lane, effects).await
    }

    async fn write(
        &self,
        transaction: &Transaction<'_>,
        number: i32,
        mut lane: Box<Lane>,
        effects: Effects,
    ) -> Result<(), Fault> {
        store::save(transaction, number, &mut lane).await?;
        let mut signals = effects.signals;
        signals.retain(|located| !COPIED.contains(&located.signal.alarm));
        replay(transaction, &self.context, &signals).await?;
        lane.stored();
        locked(&self.lanes).insert(number, Slot::Written(lane));
        Ok(())
    }

    fn target(&self, stream: &str, partition: i32) -> i64 {
        self.targets.get(&(stream.to_owned(), partition)).copied().unwrap_or_default()
    }
}

impl Service for Replay {
    /// None: it has no effect.
    type Item = Option<Decoded<Item>>;

    fn decode(&self, record: &Record) -> Result<Self::Item, Poison> {
        if record.offset >= self.target(&record.stream, record.partition) {
            return Ok(None);
        }
        let Ok(item) = record::decode(record, &self.streams) else { return Ok(None) };
        let Record { partition, offset, timestamp_ms, .. } = *record;
        let stream = Arc::clone(&record.stream);
        let (key, value, headers) = (None, Vec::new(), Vec::new());
        let place = Record { stream, partition, offset, timestamp_ms, key, value, headers };
        Ok(Some(Decoded { record: place, item }))
    }

    async fn store(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        batch: &[Decoded<Self::Item>],
    ) -> Result<(), Fault> {
        let items: Vec<&Decoded<Item>> = batch.iter().filter_map(|decoded| decoded.item.as_ref()).collect();
        if items.is_empty() {
            let mut lanes = locked(&self.lanes);
            // It was not committed.
            if matches!(lanes.get(&lane), Some(Slot::Written(_))) {
                lanes.remove(&lane);
            }
            return Ok(());
        }
        let execute =
            async |sql: &str| transaction.batch_execute(sql).await.map_err(|error| fault::of(&error));
        if batch.len() == 1 {
            execute("savepoint record").await?;
        }
        match self.apply(transaction, lane, &items).await {
            // The live one has passed over it.
            Err(Fault::Permanent(why)) if batch.len() == 1 => {
                let Record { stream, offset, .. } = &batch[0].record;
                warn!(%stream, partition = lane, offset, %why, "postgres refuses a record");
                execute("rollback to savepoint record").await?;
            }
            result => result?,
        }
        self.records.fetch_add(items.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn idle(&self, _: &Transaction<'_>, lane: i32, _: i64) -> Result<(), Fault> {
        locked(&self.ended).insert(lane);
        Ok(())
    }

    async fn lost(&self, _: &Transaction<'_>, gap: &Gap) -> Result<(), Fault> {
        let Gap { stream, partition, from, to } = gap;
        let target = self.target(stream, *partition);
        if *from < target {
            let note =
                format!("{stream}: partition {partition} begins at offset {to}: older records are gone");
            locked(&self.notes).insert(note);
        }
        Ok(())
    }

    fn opened(&self, lane: i32) {
        locked(&self.lanes).remove(&lane);
    }

    fn committed(&self, number: i32) {
        let mut lanes = locked(&self.lanes);
        if let Some(Slot::Written(lane) | Slot::Stored(lane)) = lanes.remove(&number) {
            lanes.insert(number, Slot::Stored(lane));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
