//! The lanes as the polling thread sees them: where a record goes, and which lanes are full.
//!
//! A full lane is waited for up to [`FULL_WAIT`]; then its partitions are paused and what was read
//! for it is held, so that polling (and with it the membership) goes on however long Postgres is
//! away. They resume when half of the room is free again.
//!
//! Only the polling thread calls this.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lane::{Entry, Lane};
use super::membership::Ending;
use super::plan::Known;
use super::progress::Progress;
use super::reader::Shared;
use super::statistics::Statistics;
use super::{Record, Service};

/// How long a full lane is waited for before its partitions are paused.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// How long an aborted task may take to be gone.
const ABORT_WAIT: Duration = Duration::from_secs(5);

/// All lanes of a membership; none while no partitions are assigned.
pub(super) struct Lanes<S> {
    shared: Arc<Shared<S>>,
    runtime: Handle,
    ending: Arc<Ending>,
    progress: Arc<Progress>,
    open: BTreeMap<i32, Open>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// One lane's end on this side.
struct Open {
    sender: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
    /// What was read and does not fit. While there is something, the partitions are paused.
    held: VecDeque<Record>,
    /// Where each stream goes on behind what was read.
    read: BTreeMap<Arc<str>, i64>,
    /// Whether all of its assigned partitions are read; one that is stuck may hide something.
    is_whole: bool,
    /// The time at which all had been fetched that there was; it is told when it has been read.
    end_at_ms: Option<i64>,
}

/// How lanes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// After the present transaction.
    Soon,
    /// After all that was read.
    WhenEmpty,
}

impl<S: Service> Lanes<S> {
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        runtime: Handle,
        ending: Arc<Ending>,
        progress: Arc<Progress>,
    ) -> Self {
        let (open, tasks, stop) = (BTreeMap::new(), JoinSet::new(), CancellationToken::new());
        Self { shared, runtime, ending, progress, open, tasks, stop }
    }

    /// Opens a lane for each partition: where each stream goes on, none where it is stuck.
    pub(super) fn open(&mut self, starts: &[(Arc<str>, i32, Option<i64>)]) {
        self.stop = CancellationToken::new();
        let mut lanes: BTreeMap<i32, (BTreeMap<Arc<str>, i64>, bool)> = BTreeMap::new();
        for (stream, partition, start) in starts {
            let (read, is_whole) = lanes.entry(*partition).or_insert((BTreeMap::new(), true));
            match start {
                Some(offset) => {
                    read.insert(Arc::clone(stream), *offset);
                    self.progress.stored(stream, *partition, *offset);
                }
                None => *is_whole = false,
            }
        }
        for (number, (read, is_whole)) in lanes {
            let settings = &self.shared.settings;
            let (sender, queue) = mpsc::channel(settings.lane_records_max);
            let lane = Lane {
                number,
                positions: read
                    .iter()
                    .map(|(stream, at)| (Arc::clone(stream), Known::Assigned(*at)))
                    .collect(),
                read: read.clone(),
                queue,
                stop: self.stop.clone(),
                shared: Arc::clone(&self.shared),
                ending: Arc::clone(&self.ending),
                progress: Arc::clone(&self.progress),
            };
            self.tasks.spawn_on(lane.run(), &self.runtime);
            let room = Arc::new(Semaphore::new(settings.lane_bytes_max));
            let open = Open { sender, room, held: VecDeque::new(), read, is_whole, end_at_ms: None };
            self.open.insert(number, open);
        }
    }

    /// Ends all lanes, and waits for them; those that take too long are rolled back.
    pub(super) fn close(&mut self, how: Close) {
        let numbers: Vec<i32> = self.open.keys().copied().collect();
        self.end(how);
        for number in numbers {
            self.shared.service.closed(number);
        }
    }

    fn end(&mut self, how: Close) {
        let (deadline, bytes_max) = (self.shared.settings.drain_timeout, self.shared.settings.lane_bytes_max);
        if how == Close::Soon {
            self.stop.cancel();
        }
        let (mut open, tasks) = (std::mem::take(&mut self.open), &mut self.tasks);
        self.shared.metrics.paused_lanes.set(0);
        let ended = async {
            for open in open.values_mut().filter(|_| how == Close::WhenEmpty) {
                open.empty(bytes_max).await;
            }
            // The queues end.
            drop(open);
            while tasks.join_next().await.is_some() {}
        };
        if self.runtime.block_on(async { timeout(deadline, ended).await }).is_ok() {
            return;
        }
        warn!(reader = self.shared.name, ?deadline, "lanes did not end in time and are rolled back");
        self.tasks.abort_all();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // A task that does not yield is left to itself; its transaction is fenced.
        let _ = self.runtime.block_on(async { timeout(ABORT_WAIT, ended).await });
    }

    /// The name of a stream of ours.
    pub(super) fn stream(&self, name: &str, partition: i32) -> Option<Arc<str>> {
        self.open.get(&partition)?.read.get_key_value(name).map(|(stream, _)| Arc::clone(stream))
    }

    /// Puts a record into its lane. If that stays full, the record is held: then these partitions
    /// are to be paused.
    #[must_use]
    pub(super) fn accept(&mut self, record: Record) -> Option<i32> {
        let number = record.partition;
        let open = self.open.get_mut(&number)?;
        open.end_at_ms = None;
        open.read.insert(Arc::clone(&record.stream), record.offset + 1);
        if !open.held.is_empty() {
            open.held.push_back(record);
            return None;
        }
        let bytes = room_of(&record, self.shared.settings.lane_bytes_max);
        if let Ok(permit) = Arc::clone(&open.room).try_acquire_many_owned(bytes)
            && let Ok(slot) = open.sender.try_reserve()
        {
            slot.send(Entry::Record(record, permit));
            return None;
        }
        if let Ok(waited) = self.runtime.block_on(async { timeout(FULL_WAIT, open.slot(bytes)).await }) {
            // Without a slot the lane has ended, and with it the membership.
            if let Some((permit, slot)) = waited {
                slot.send(Entry::Record(record, permit));
            }
            return None;
        }
        open.held.push_back(record);
        self.shared.metrics.paused_lanes.inc();
        Some(number)
    }

    /// Lets lanes have what is held for them; those that have room again, whose partitions are to
    /// be resumed.
    pub(super) fn take_relieved(&mut self) -> Vec<i32> {
        let settings = &self.shared.settings;
        let mut relieved = Vec::new();
        for (number, open) in self.open.iter_mut().filter(|(_, open)| !open.held.is_empty()) {
            let has_room = open.sender.capacity() * 2 >= settings.lane_records_max
                && open.room.available_permits() * 2 >= settings.lane_bytes_max;
            while has_room && open.send_held(settings.lane_bytes_max) {}
            if open.held.is_empty() {
                self.shared.metrics.paused_lanes.dec();
                relieved.push(*number);
            }
        }
        relieved
    }

    /// The streams that are read in a lane.
    pub(super) fn streams(&self, number: i32) -> Vec<Arc<str>> {
        self.open.get(&number).map(|open| open.read.keys().cloned().collect()).unwrap_or_default()
    }

    /// Notes which lanes have been fetched to their ends.
    pub(super) fn look_for_ends(&mut self, statistics: &Statistics, now_ms: i64) {
        for (number, open) in &mut self.open {
            let is_end = |(stream, read): (&Arc<str>, &i64)| {
                statistics.end_reached(stream, *number).is_some_and(|end| *read <= end)
            };
            let is_at_end = open.is_whole && open.held.is_empty() && open.read.iter().all(is_end);
            open.end_at_ms = is_at_end.then_some(now_ms);
        }
    }

    /// Whether there are ends to tell once all that was fetched has been read.
    pub(super) fn has_ends(&self) -> bool {
        self.open.values().any(|open| open.end_at_ms.is_some())
    }

    /// All that was fetched has been read.
    pub(super) fn tell_ends(&mut self) {
        for open in self.open.values_mut() {
            if let Some(at_ms) = open.end_at_ms.take() {
                // A lane that is full has something better to do.
                let _ = open.sender.try_send(Entry::End(at_ms));
            }
        }
    }

    /// A lane that ended and did not say why has panicked.
    pub(super) fn has_panicked(&mut self) -> bool {
        let mut has_panicked = false;
        while let Some(end) = self.tasks.try_join_next() {
            has_panicked |= end.is_err_and(|error| error.is_panic());
        }
        has_panicked
    }
}

impl Open {
    /// Waits for room; none if the lane has ended. Cancel safety: takes nothing until it is ready.
    async fn slot(&self, bytes: u32) -> Option<(OwnedSemaphorePermit, mpsc::Permit<'_, Entry>)> {
        let permit = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()?;
        Some((permit, self.sender.reserve().await.ok()?))
    }

    /// Sends all records that are held, as the lane makes room.
    async fn empty(&mut self, bytes_max: usize) {
        while let Some(record) = self.held.pop_front() {
            let Some((permit, slot)) = self.slot(room_of(&record, bytes_max)).await else { return };
            slot.send(Entry::Record(record, permit));
        }
    }

    /// Sends one record that is held, if there is one and it fits.
    fn send_held(&mut self, bytes_max: usize) -> bool {
        let Some(bytes) = self.held.front().map(|record| room_of(record, bytes_max)) else { return false };
        let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else { return false };
        let Ok(slot) = self.sender.try_reserve() else { return false };
        if let Some(record) = self.held.pop_front() {
            slot.send(Entry::Record(record, permit));
        }
        true
    }
}

/// The bytes that a record takes; one that is larger than all of the room takes all of it.
fn room_of(record: &Record, bytes_max: usize) -> u32 {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = record.value.len() + record.key.as_ref().map_or(0, Vec::len) + headers;
    u32::try_from(bytes.min(bytes_max)).unwrap_or(u32::MAX)
}
