//! A lane at work: a task that takes what was read of partition n, batch after batch.
//!
//! ```text
//! gather → decode → dead letters → one transaction ─ permanent ─> each record alone, the culprit's letter
//!                                   └ transient: again, later
//! ```
//!
//! It ends when it is told to (after its present transaction), when its queue is closed (after all
//! that is in it), when it is fenced, and at a bug. Aborted, it leaves a transaction that is rolled
//! back or, if it was committing, committed: whoever reads the partition next sees which.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::health::Place;
use super::membership::{End, Ending};
use super::progress::Progress;
use super::reader::Shared;
use super::store::{Batch, Failure, Positions};
use super::{Decoded, Poison, Record, Service, deadletter};
use crate::fault::Fault;
use crate::kit::retry;

/// What waits in a lane's queue.
pub(super) enum Entry {
    /// A record, and the room it takes.
    Record(Record, OwnedSemaphorePermit),
    /// All that Kafka had at this time (Unix milliseconds) is in front of this.
    End(i64),
}

/// A lane.
pub(super) struct Lane<S> {
    pub(super) number: i32,
    pub(super) positions: Positions,
    /// Where each stream goes on behind what was taken from the queue.
    pub(super) read: BTreeMap<Arc<str>, i64>,
    pub(super) queue: mpsc::Receiver<Entry>,
    pub(super) stop: CancellationToken,
    pub(super) shared: Arc<Shared<S>>,
    pub(super) ending: Arc<Ending>,
    pub(super) progress: Arc<Progress>,
}

/// Why a lane ends.
enum Leave {
    Told,
    Rejoin(String),
    Bug(String),
}

/// What became of a batch.
enum Verdict {
    Stored,
    /// Postgres refuses something in it.
    Refused(String),
}

impl<S: Service> Lane<S> {
    /// Works until it has to end.
    pub(super) async fn run(mut self) {
        self.shared.service.opened(self.number);
        let leave = loop {
            if let Err(leave) = self.step().await {
                break leave;
            }
        };
        self.shared.health.forget(self.place());
        match leave {
            Leave::Told => {}
            Leave::Rejoin(why) => self.ending.set(End::Rejoin(why)),
            Leave::Bug(why) => self.ending.set(End::Failed(format!("lane {}: {why}", self.number))),
        }
    }

    async fn step(&mut self) -> Result<(), Leave> {
        let entries = self.gather().await?;
        let began_at = Instant::now();
        if let [Entry::End(at_ms)] = entries[..] {
            return if self.queue.is_empty() { self.idle(at_ms).await } else { Ok(()) };
        }
        // The room of all records is given back when they are stored.
        let mut rooms = Vec::with_capacity(entries.len());
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Entry::Record(record, room) = entry {
                rooms.push(room);
                records.push(record);
            }
        }
        let (batch, poison) = self.decode(records);
        let count = batch.items.len() + poison.len();
        for (record, poison) in poison {
            self.bury(&record, &poison).await?;
        }
        self.store(batch).await?;
        self.shared.metrics.batch_records.observe(count as f64);
        self.shared.metrics.batch_seconds.observe(began_at.elapsed().as_secs_f64());
        Ok(())
    }

    /// Waits for a record, and then a little for others. The end of the stream comes alone.
    async fn gather(&mut self) -> Result<Vec<Entry>, Leave> {
        // Cancel safety: a receive that is given up takes nothing.
        let first = tokio::select! {
            biased; // A lane that is told to end takes nothing more.
            () = self.stop.cancelled() => None,
            entry = self.queue.recv() => entry,
        };
        let mut entries = vec![first.ok_or(Leave::Told)?];
        if matches!(entries[..], [Entry::End(_)]) {
            return Ok(entries);
        }
        let settings = &self.shared.settings;
        let until = Instant::now() + settings.batch_wait;
        while entries.len() < settings.batch_records_max {
            let room = settings.batch_records_max - entries.len();
            let more = timeout_at(until, self.queue.recv_many(&mut entries, room));
            tokio::select! {
                biased; // As above.
                () = self.stop.cancelled() => return Err(Leave::Told),
                more = more => if matches!(more, Ok(0) | Err(_)) { break },
            }
        }
        Ok(entries)
    }

    fn decode(&mut self, records: Vec<Record>) -> (Batch<S::Item>, Vec<(Record, Poison)>) {
        let mut batch = Batch { lane: self.number, items: Vec::new(), next: BTreeMap::new() };
        let mut poison = Vec::new();
        for record in records {
            let Some(read) = self.read.get_mut(&record.stream).filter(|read| record.offset >= **read) else {
                self.shared.metrics.redelivered.inc();
                continue;
            };
            *read = record.offset + 1;
            batch.next.insert(Arc::clone(&record.stream), *read);
            match self.shared.service.decode(&record) {
                Ok(item) => batch.items.push(Decoded { record, item }),
                Err(why) => poison.push((record, why)),
            }
        }
        (batch, poison)
    }

    /// Stores a batch; if Postgres refuses it, each record alone.
    async fn store(&mut self, mut batch: Batch<S::Item>) -> Result<(), Leave> {
        let Verdict::Refused(_) = self.attempt(&mut batch).await? else { return Ok(()) };
        for item in std::mem::take(&mut batch.items) {
            let record = item.record.clone();
            let next = BTreeMap::from([(Arc::clone(&record.stream), record.offset + 1)]);
            let mut alone = Batch { lane: self.number, items: vec![item], next };
            if let Verdict::Refused(message) = self.attempt(&mut alone).await? {
                self.bury(&record, &Poison { class: "refused", message }).await?;
                alone.items.clear();
                self.pass(alone).await?;
            }
        }
        self.pass(batch).await
    }

    /// Moves the offsets past records that have no effect.
    async fn pass(&mut self, mut batch: Batch<S::Item>) -> Result<(), Leave> {
        match self.attempt(&mut batch).await? {
            Verdict::Stored => Ok(()),
            Verdict::Refused(why) => Err(Leave::Bug(format!("the offset is refused: {why}"))),
        }
    }

    /// Tries until the batch is stored or refused.
    async fn attempt(&mut self, batch: &mut Batch<S::Item>) -> Result<Verdict, Leave> {
        let mut attempt = 0;
        loop {
            let result = self.shared.store.batch(&mut self.positions, batch).await;
            let fault = match result {
                Ok(()) => {
                    self.stored();
                    return Ok(Verdict::Stored);
                }
                Err(failure) => self.fault(failure)?,
            };
            match fault {
                Fault::Permanent(why) => return Ok(Verdict::Refused(why.into_owned())),
                Fault::Bug(why) => return Err(Leave::Bug(why.into_owned())),
                Fault::Transient { after, why } => {
                    self.shared.metrics.retries.inc();
                    self.wait(attempt, after, format!("postgres: {why}")).await?;
                    attempt += 1;
                }
            }
        }
    }

    fn stored(&self) {
        self.shared.health.works(self.place());
        for (stream, known) in &self.positions {
            self.progress.stored(stream, self.number, known.least());
        }
        self.shared.service.committed(self.number);
    }

    /// Time passes. A transient fault is not waited for: the next second brings the next try, and
    /// until then there may be records.
    async fn idle(&mut self, at_ms: i64) -> Result<(), Leave> {
        let result = self.shared.store.idle(&self.positions, self.number, at_ms).await;
        let Err(failure) = result else {
            self.stored();
            return Ok(());
        };
        match self.fault(failure)? {
            Fault::Transient { why, .. } => {
                self.shared.metrics.retries.inc();
                self.shared.health.fails(self.place(), format!("postgres: {why}"));
                Ok(())
            }
            Fault::Permanent(why) | Fault::Bug(why) => Err(Leave::Bug(format!("idle: {why}"))),
        }
    }

    /// Writes a dead letter; waits for Kafka as long as it takes.
    async fn bury(&self, record: &Record, poison: &Poison) -> Result<(), Leave> {
        let mut attempt = 0;
        loop {
            // Cancel safety: the letter may have been written.
            let result = tokio::select! {
                biased; // A lane that is told to end waits for nobody.
                () = self.stop.cancelled() => return Err(Leave::Told),
                result = self.shared.dead_letters.write(record, poison) => result,
            };
            let Err(why) = result else {
                self.shared.metrics.poison(&record.stream, poison.class);
                self.shared.health.works(self.place());
                deadletter::tell(record, poison);
                return Ok(());
            };
            self.shared.metrics.retries.inc();
            self.wait(attempt, None, format!("kafka: dead letter is not stored: {why}")).await?;
            attempt += 1;
        }
    }

    fn fault(&self, failure: Failure) -> Result<Fault, Leave> {
        match failure {
            Failure::Fault(fault) => Ok(fault),
            Failure::Fenced(stream) => {
                self.shared.metrics.fenced.inc();
                warn!(%stream, partition = self.number, "fenced: the stored offset was moved by another");
                let partition = self.number;
                Err(Leave::Rejoin(format!("kafka: fenced at stream {stream} partition {partition}")))
            }
        }
    }

    async fn wait(&self, attempt: u32, after: Option<Duration>, why: String) -> Result<(), Leave> {
        self.shared.health.fails(self.place(), why);
        let random = std::hash::RandomState::new().hash_one(self.number);
        let pause = retry::pause(attempt, random).max(after.unwrap_or_default());
        tokio::select! {
            () = self.stop.cancelled() => Err(Leave::Told),
            () = sleep(pause) => Ok(()),
        }
    }

    fn place(&self) -> Place {
        Place::Lane(self.number)
    }
}
