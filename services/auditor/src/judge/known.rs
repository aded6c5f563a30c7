//! What is known when a batch is judged: the rows that its records may touch, what they become, and
//! which rows those are.
//!
//! Invariant: a row that is not here, and was wanted ([`Wants`]), does not exist.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use latchline_shared::kit::kafka::consumer::Decoded;
use latchline_shared::text::bounded;

use crate::process::Process;
use crate::record::{Item, What};
use crate::verdict::FirstUse;

/// A lock, and a nonce or a process of it.
pub type Key = (String, String);

/// Rows by key, and which of them changed.
#[derive(Debug, Clone)]
pub struct Rows<K, V> {
    all: HashMap<K, V>,
    changed: BTreeSet<K>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { all: HashMap::new(), changed: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord, V> Rows<K, V> {
    /// The row.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.all.get(key)
    }

    /// Takes a row as it is stored.
    pub fn load(&mut self, key: K, row: V) {
        self.all.insert(key, row);
    }

    /// Writes a row.
    pub fn put(&mut self, key: K, row: V) {
        self.changed.insert(key.clone());
        self.all.insert(key, row);
    }

    /// The rows that were written, in the order of their keys: all transactions write in one order.
    pub fn changes(&self) -> Vec<(&K, &V)> {
        self.changed.iter().filter_map(|key| Some((key, self.all.get(key)?))).collect()
    }
}

/// What a lock reported last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastState {
    /// The state as the lock numbers it.
    pub raw: i64,
    /// Since when, in Unix milliseconds.
    pub changed_at_ms: i64,
}

/// How far a lane's time has come in each of its streams, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// In what locks report.
    pub reports_at_ms: Option<i64>,
    /// In what they are told.
    pub commands_at_ms: Option<i64>,
}

impl Clock {
    /// Nothing before this is to come. One stream may be read far ahead of the other, so it is the
    /// earlier of the two, and unknown while one of them is.
    pub fn watermark_ms(&self) -> Option<i64> {
        Some(self.reports_at_ms?.min(self.commands_at_ms?))
    }

    /// Both have come so far.
    pub fn advance(&mut self, at_ms: i64) {
        self.reports_at_ms = self.reports_at_ms.max(Some(at_ms));
        self.commands_at_ms = self.commands_at_ms.max(Some(at_ms));
    }
}

/// See the file.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// First uses of nonces.
    pub nonces: Rows<Key, FirstUse>,
    /// Processes: those that the batch names, and those of the lane that may be due.
    pub processes: Rows<Key, Process>,
    /// States of locks.
    pub locks: Rows<String, LastState>,
    /// The lane's time.
    pub clock: Clock,
    /// Deadlines among the processes.
    deadlines: BTreeSet<(i64, Key)>,
}

impl Known {
    /// Takes a process as it is stored.
    pub fn load_process(&mut self, lane: i16, key: Key, process: Process) {
        self.watch(lane, &key, &process);
        self.processes.load(key, process);
    }

    /// Writes a process.
    pub fn put_process(&mut self, lane: i16, key: Key, process: Process) {
        if let Some(deadline) = self.processes.get(&key).and_then(|known| known.deadline_at_ms) {
            self.deadlines.remove(&(deadline, key.clone()));
        }
        self.watch(lane, &key, &process);
        self.processes.put(key, process);
    }

    fn watch(&mut self, lane: i16, key: &Key, process: &Process) {
        if let Some(deadline) = process.deadline_at_ms.filter(|_| process.lane == lane) {
            self.deadlines.insert((deadline, key.clone()));
        }
    }

    /// Takes out the earliest deadline that has passed.
    pub fn next_due(&mut self) -> Option<(i64, Key)> {
        let watermark_ms = self.clock.watermark_ms()?;
        let (deadline, _) = self.deadlines.first()?;
        if *deadline < watermark_ms { self.deadlines.pop_first() } else { None }
    }
}

/// The rows that a batch may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// Nonces of commands that verify.
    pub nonces: BTreeSet<Key>,
    /// Processes of commands and reports.
    pub processes: BTreeSet<Key>,
    /// Locks that report.
    pub locks: BTreeSet<String>,
    /// Deadlines before this may pass.
    pub due_before_ms: i64,
}

impl Wants {
    /// Of this batch, by a clock that shows `now_ms`.
    pub fn of(batch: &[Decoded<Item>], now_ms: i64) -> Self {
        let mut wants = Self { due_before_ms: i64::MIN, ..Self::default() };
        for Decoded { item, .. } in batch {
            wants.due_before_ms = wants.due_before_ms.max(item.at_ms.min(now_ms));
            match &item.what {
                What::Report { is_of_one_lock: true, report: Ok(report) } => {
                    wants.locks.insert(item.lock.clone());
                    if report.answers().is_some() {
                        wants.processes.insert((item.lock.clone(), bounded(&report.process_id)));
                    }
                }
                What::Report { .. } => {}
                What::Command { examined, .. } => {
                    if let Some(command) = &examined.command {
                        wants.processes.insert((item.lock.clone(), command.process_id.clone()));
                    }
                    let verified = examined.verified();
                    wants.nonces.extend(verified.map(|command| (item.lock.clone(), command.nonce.clone())));
                }
                What::Attempt { examined, .. } => {
                    let verified = examined.verified();
                    wants.nonces.extend(verified.map(|command| (item.lock.clone(), command.nonce.clone())));
                }
            }
        }
        wants
    }
}
