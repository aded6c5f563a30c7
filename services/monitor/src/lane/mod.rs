//! A lane: all locks of one partition in memory, and its clock (docs/adr/0011).
//!
//! Pure: whoever has a lane reads it from Postgres before ([`Lane::insert`]), lets records and time
//! do what they do, and writes what changed ([`Lane::rows`]). What records do is in `records.rs`,
//! what time does in `tick.rs`.
//!
//! Looking each second for locks to which something happens must cost next to nothing, so the time
//! before which nothing does is kept apart from the locks, one word for each.

pub mod watch;

mod records;
mod tick;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use latchline_shared::fault::Fault;
use latchline_shared::lock_state::LockState;

use crate::lock::memory::Memory;
use crate::lock::{Lock, Seen};
use crate::rule::load::Rules;
use crate::rule::threshold::RuleSet;
use crate::signal::{Located, Place, Signal};
use crate::store;
use crate::store::battery::Days;
use crate::store::lane::Findings;
use crate::store::locks::Row;
use watch::Watch;

/// Texts of versions that are kept once for all locks; there are few, unless somebody plays.
const VERSIONS_MAX: usize = 1_000;

/// All locks of a partition.
#[derive(Debug)]
pub struct Lane {
    number: i32,
    /// The stream of reports.
    stream: Arc<str>,
    /// How often the lane was written.
    version: i64,
    /// The newest report.
    newest_ms: Option<i64>,
    /// What was found last: the auditor may publish it twice.
    findings: Findings,
    /// Up to when delays have ended.
    passed_ms: i64,
    watch: Watch,
    rules: Arc<Rules>,
    index: HashMap<Arc<str>, usize>,
    locks: Vec<Entry>,
    /// By lock: before this time nothing happens to it unless it reports.
    due_ms: Vec<i64>,
    /// Locks that differ from what is stored; each once.
    changed: Vec<usize>,
    /// Hours of batteries that are not stored.
    days: Days,
    offline: usize,
    /// Locks that fell silent of late, and when.
    silent: Vec<(usize, i64)>,
    versions: BTreeSet<Arc<str>>,
    /// Kept for its room.
    signals: Vec<Signal>,
}

#[derive(Debug)]
struct Entry {
    id: Arc<str>,
    lock: Lock,
    version: Option<Arc<str>>,
    is_changed: bool,
    is_counted_offline: bool,
}

/// What records and time did, beside to the locks.
#[derive(Debug, Default)]
pub struct Effects {
    /// For alarms, those of each lock in order.
    pub signals: Vec<Located>,
    /// What is counted.
    pub tally: Tally,
}

/// What is counted of the records of a transaction.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// When those reports were seen that were applied, in Unix milliseconds.
    pub applied: Vec<i64>,
    /// Of these, how many could not be read.
    pub unreadable: u64,
    /// Reports of which a newer one was applied before.
    pub late: u64,
    /// Reports that had been applied.
    pub duplicate: u64,
    /// Reports in which somebody speaks for another.
    pub mismatched: u64,
    /// What the auditor found.
    pub findings: u64,
    /// What it had published before.
    pub known_findings: u64,
    /// Its words that are not known.
    pub unknown_words: u64,
}

impl Lane {
    /// A lane without locks, as it was stored.
    pub fn new(number: i32, stream: Arc<str>, known: store::lane::Known, rules: Arc<Rules>) -> Self {
        Self {
            number,
            stream,
            version: known.version,
            newest_ms: known.last_report_at_ms,
            findings: known.findings,
            passed_ms: 0,
            watch: Watch::default(),
            rules,
            index: HashMap::new(),
            locks: Vec::new(),
            due_ms: Vec::new(),
            changed: Vec::new(),
            days: Days::new(),
            offline: 0,
            silent: Vec::new(),
            versions: BTreeSet::new(),
            signals: Vec::new(),
        }
    }

    /// Takes in a lock as it was stored.
    pub fn insert(&mut self, row: &Row<'_>) -> Result<(), Fault> {
        let unreadable =
            |column| Fault::Bug(format!("lock_current.{column} of {} is not ours", row.client_id).into());
        let lock = Lock {
            state: LockState::from_name(row.lock_state).ok_or_else(|| unreadable("lock_state"))?,
            state_raw: row.lock_state_raw,
            since_ms: row.since_ms,
            battery: row.battery,
            battery_at_ms: row.battery_at_ms,
            last_report_at_ms: row.last_report_at_ms,
            last_offset: row.last_offset,
            online: row.online,
            online_since_ms: row.online_since_ms,
            memory: Memory::read(row.memory.as_bytes()).map_err(|_| unreadable("memory"))?,
        };
        let version = row.version.map(|version| self.shared(version));
        let index = self.add(row.client_id, lock);
        self.locks[index].version = version;
        self.refresh(index);
        Ok(())
    }

    /// Uses these thresholds from now on.
    pub fn adopt(&mut self, rules: &Arc<Rules>) {
        if Arc::ptr_eq(&self.rules, rules) {
            return;
        }
        self.rules = Arc::clone(rules);
        for index in 0..self.locks.len() {
            self.refresh(index);
        }
    }

    /// How many locks it has.
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// Whether it keeps up.
    pub fn is_live(&self) -> bool {
        self.watch.live_since_ms().is_some()
    }

    /// The newest report.
    pub fn newest_ms(&self) -> Option<i64> {
        self.newest_ms
    }

    /// Takes the hours of batteries that are not stored.
    pub fn take_days(&mut self) -> Days {
        std::mem::take(&mut self.days)
    }

    /// The locks that differ from what is stored, in the order of ids. What the rules remember is
    /// written into `memories`.
    pub fn rows<'a>(&'a mut self, memories: &'a mut String) -> Vec<Row<'a>> {
        let (locks, rules) = (&self.locks, &self.rules);
        self.changed.sort_unstable_by(|a, b| locks[*a].id.cmp(&locks[*b].id));
        let mut json = std::mem::take(memories).into_bytes();
        let mut ends = Vec::with_capacity(self.changed.len());
        for index in &self.changed {
            locks[*index].lock.memory.write(&mut json);
            ends.push(json.len());
        }
        *memories = String::from_utf8(json).expect("JSON is UTF-8");
        let begins = std::iter::once(&0).chain(&ends);
        let memories = begins.zip(&ends).map(|(begin, end)| &memories[*begin..*end]);
        let entries = self.changed.iter().map(|index| &locks[*index]);
        entries.zip(memories).map(|(entry, memory)| entry.row(rules.of(&entry.id), memory)).collect()
    }

    /// What is written of the lane itself.
    pub fn view(&self) -> store::lane::View {
        let is_lost = |(index, since_ms): &&(usize, i64)| {
            let lock = &self.locks[*index].lock;
            !lock.online && lock.online_since_ms == *since_ms
        };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        store::lane::View {
            version: self.version,
            evaluated_at_ms: self.passed_ms,
            live_since_ms: self.watch.live_since_ms(),
            last_report_at_ms: self.newest_ms,
            locks: count(self.locks.len()),
            offline: count(self.offline),
            lost: count(self.silent.iter().filter(is_lost).count()),
            findings: self.findings.clone(),
        }
    }

    /// All that changed is stored.
    pub fn stored(&mut self) {
        for index in self.changed.drain(..) {
            self.locks[index].is_changed = false;
        }
        self.version += 1;
    }

    fn add(&mut self, id: &str, lock: Lock) -> usize {
        let (id, index): (Arc<str>, usize) = (id.into(), self.locks.len());
        self.index.insert(Arc::clone(&id), index);
        let entry = Entry { id, lock, version: None, is_changed: false, is_counted_offline: false };
        self.locks.push(entry);
        self.due_ms.push(i64::MAX);
        index
    }

    /// The lock of this report, a new one if it was never heard of.
    fn of_report(&mut self, id: &str, seen: &Seen) -> usize {
        match self.index.get(id) {
            Some(index) => *index,
            None => self.add(id, Lock::new(seen)),
        }
    }

    /// A lock has changed.
    fn change(&mut self, index: usize) {
        self.refresh(index);
        let entry = &mut self.locks[index];
        if !entry.is_changed {
            entry.is_changed = true;
            self.changed.push(index);
        }
    }

    /// Brings up to date what is kept beside a lock.
    fn refresh(&mut self, index: usize) {
        let entry = &mut self.locks[index];
        self.due_ms[index] = entry.lock.next_at_ms(self.rules.of(&entry.id));
        match (entry.is_counted_offline, entry.lock.online) {
            (false, false) => {
                self.offline += 1;
                self.silent.push((index, entry.lock.online_since_ms));
            }
            (true, true) => self.offline -= 1,
            _ => {}
        }
        entry.is_counted_offline = !entry.lock.online;
    }

    /// The text, kept once.
    fn shared(&mut self, version: &str) -> Arc<str> {
        if let Some(known) = self.versions.get(version) {
            return Arc::clone(known);
        }
        let version: Arc<str> = version.into();
        if self.versions.len() < VERSIONS_MAX {
            self.versions.insert(Arc::clone(&version));
        }
        version
    }

    /// The newest report of a lock.
    fn place(&self, index: usize) -> Place {
        let offset = self.locks[index].lock.last_offset;
        Place { stream: Arc::clone(&self.stream), partition: self.number, offset }
    }
}

impl Entry {
    fn row<'a>(&'a self, rules: &RuleSet, memory: &'a str) -> Row<'a> {
        let lock = &self.lock;
        Row {
            client_id: &self.id,
            lock_state: lock.state.name(),
            lock_state_raw: lock.state_raw,
            since_ms: lock.since_ms,
            battery: lock.battery,
            battery_at_ms: lock.battery_at_ms,
            version: self.version.as_deref(),
            last_report_at_ms: lock.last_report_at_ms,
            last_offset: lock.last_offset,
            online: lock.online,
            online_since_ms: lock.online_since_ms,
            pending_at_ms: lock.pending(rules).map(|pending| pending.due_ms).min(),
            memory,
        }
    }
}

/// Signals of a lock, and where they come from.
fn locate(client_id: &str, place: &Place, signals: impl Iterator<Item = Signal>, located: &mut Vec<Located>) {
    located.extend(signals.map(|signal| Located {
        client_id: client_id.to_owned(),
        place: place.clone(),
        signal,
    }));
}
