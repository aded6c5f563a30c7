//! Records in, notifications out: what happened, who is told, and the rows of it, in the transaction
//! that stores the offset.
//!
//! Only the first report of a process is a result. The table `process` says which was; a lane remembers
//! what is in it ([`memory`]), so that a heartbeat, which answers nothing or repeats what was answered,
//! costs no statement. A batch is a number of statements that depends on rows by the thousand only.
//!
//! Invariant: memory is never ahead of Postgres. What a transaction has written is remembered when the
//! kit says that it was committed; a rolled back one leaves nothing. (The kit says so, too, of a
//! transaction that passes over a record whose commit Postgres had refused. No constraint of ours is
//! deferred, so that none is.) What is remembered stays true whoever reads the lane, so nothing has to
//! be forgotten but for its size.

mod draft;
mod memory;
pub mod metrics;
pub mod record;
mod rows;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::clock;
use latchline_shared::kit::kafka::consumer::{Decoded, Gap, Poison, Record, Service};
use latchline_shared::lock_state::Profiles;
use tokio_postgres::Transaction;
use tracing::error;

use crate::directory::recipients::recipients;
use crate::route::Rules;
use crate::settings::Streams;
use memory::Memory;
use metrics::{Metrics, Tally};
use record::{Answered, Item};
use told::Told;

/// See the file.
#[derive(Debug)]
pub struct Intake {
    config: Config,
    metrics: Metrics,
    lanes: Mutex<HashMap<i32, Lane>>,
}

/// What an intake needs to know.
#[derive(Debug)]
pub struct Config {
    /// What is read.
    pub streams: Streams,
    /// How locks number their states.
    pub profiles: Profiles,
    /// Who is told what.
    pub rules: Rules,
}

/// A lane between its transactions.
#[derive(Debug, Default)]
struct Lane {
    memory: Memory,
    /// What the last transaction has written, until it is committed.
    written: Option<(Vec<u64>, Tally)>,
}

/// What of a batch may be news.
#[derive(Debug, Default)]
struct Picked<'a> {
    /// Answers, each process once, with what it is known by.
    answers: Vec<(usize, &'a Answered, u64)>,
    alarms: Vec<(usize, &'a record::Changed)>,
}

impl Intake {
    /// An intake that remembers nothing yet.
    pub fn new(config: Config, metrics: Metrics) -> Self {
        Self { config, metrics, lanes: Mutex::default() }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<i32, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is not known to be known. What an earlier transaction has written and not committed is
    /// forgotten.
    fn pick<'a>(&self, number: i32, batch: &'a [Decoded<Item>], tally: &mut Tally) -> Picked<'a> {
        let mut lanes = self.lanes();
        let lane = lanes.entry(number).or_default();
        lane.written = None;
        let (mut picked, mut keys) = (Picked::default(), HashSet::new());
        for (n, decoded) in batch.iter().enumerate() {
            match &decoded.item {
                Item::Nothing(nothing) => tally.record(nothing.name()),
                Item::Alarm(changed) => picked.alarms.push((n, changed)),
                Item::Result(answered) => {
                    let key = lane.memory.key(&answered.lock, &answered.process_id);
                    if lane.memory.knows(key) || !keys.insert(key) {
                        tally.record("repeated");
                    } else {
                        picked.answers.push((n, answered, key));
                    }
                }
            }
        }
        picked
    }

    /// What happened, in the order of the batch.
    async fn events(
        &self,
        transaction: &Transaction<'_>,
        picked: &Picked<'_>,
        now: Timestamp,
        tally: &mut Tally,
    ) -> Result<Vec<Told>, Fault> {
        let mut events = Vec::new();
        if !picked.answers.is_empty() {
            let answers: Vec<&Answered> = picked.answers.iter().map(|(_, answered, _)| *answered).collect();
            let news = rows::processes(transaction, &answers, now).await?;
            for (n, answered, _) in &picked.answers {
                if news.contains(&(answered.lock.clone(), answered.process_id.clone())) {
                    tally.record("result");
                    events.push((*n, Told::result(answered, now)));
                } else {
                    tally.record("known");
                }
            }
        }
        for (n, changed) in &picked.alarms {
            tally.record("alarm");
            events.push((*n, Told::alarm(changed, now)));
        }
        events.sort_by_key(|(n, _)| *n);
        Ok(events.into_iter().map(|(_, told)| told).collect())
    }

    /// Writes who is told of these events, and how.
    async fn tell(
        &self,
        transaction: &Transaction<'_>,
        events: &[Told],
        now: Timestamp,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let client_ids: HashSet<&str> = events.iter().map(|told| told.client_id.as_str()).collect();
        let client_ids: Vec<&str> = client_ids.into_iter().collect();
        let recipients = recipients(transaction, &client_ids).await?;
        let Rules { limits, .. } = &self.config.rules;
        let mut drafts = draft::drafts(&self.config.rules, events, &recipients, now, tally);
        // A result is news once; a change of an alarm may be in the stream twice. The second takes from
        // no bucket.
        let alarms: Vec<_> =
            drafts.iter().filter(|draft| draft.told.alarm.is_some()).map(|draft| draft.id).collect();
        let mut seen = rows::known(transaction, &alarms).await?;
        drafts.retain(|draft| seen.insert(draft.id));

        let buckets = draft::buckets(&drafts, limits);
        let buckets: Vec<&str> = buckets.iter().map(String::as_str).collect();
        let mut full_at = rows::rates(transaction, &buckets, now).await?;
        draft::limit(&mut drafts, limits, &mut full_at, now);
        rows::take(transaction, &full_at).await?;
        let names: Vec<&str> = draft::digests(&drafts).into_iter().collect();
        let mut windows = rows::windows(transaction, &names).await?;
        draft::join(&mut drafts, &mut windows);

        let written = rows::insert(transaction, &drafts).await?;
        for draft in drafts.iter().filter(|draft| written.contains(&draft.id)) {
            tally.notification(draft.contact.channel.name(), draft.how(), draft.told.at.as_millisecond());
        }
        Ok(())
    }
}

impl Service for Intake {
    type Item = Item;

    fn decode(&self, record: &Record) -> Result<Item, Poison> {
        record::decode(record, &self.config.streams, &self.config.profiles)
    }

    async fn store(
        &self,
        transaction: &Transaction<'_>,
        number: i32,
        batch: &[Decoded<Item>],
    ) -> Result<(), Fault> {
        let (now, mut tally) = (now(), Tally::default());
        let picked = self.pick(number, batch, &mut tally);
        let events = self.events(transaction, &picked, now, &mut tally).await?;
        if !events.is_empty() {
            self.tell(transaction, &events, now, &mut tally).await?;
        }
        let keys = picked.answers.iter().map(|(_, _, key)| *key).collect();
        self.lanes().entry(number).or_default().written = Some((keys, tally));
        Ok(())
    }

    /// Nothing happens by the clock here: what is due is found by delivery and by the digest.
    async fn idle(&self, _: &Transaction<'_>, number: i32, _: i64) -> Result<(), Fault> {
        // What is committed next is this.
        self.lanes().entry(number).or_default().written = None;
        Ok(())
    }

    async fn lost(&self, _: &Transaction<'_>, gap: &Gap) -> Result<(), Fault> {
        let Gap { stream, partition, from, to } = gap;
        error!(%stream, partition, from, to, "of what happened there nobody is told");
        self.metrics.lost(to - from);
        Ok(())
    }

    fn closed(&self, number: i32) {
        self.lanes().remove(&number);
        self.metrics.closed(number);
    }

    fn committed(&self, number: i32) {
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(&number) else { return };
        let Some((keys, tally)) = lane.written.take() else { return };
        for key in keys {
            lane.memory.learn(key);
        }
        let remembered = lane.memory.len();
        drop(lanes);
        self.metrics.commit(number, remembered, &tally, now().as_millisecond());
    }
}

fn now() -> Timestamp {
    let ms = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
