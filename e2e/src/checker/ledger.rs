//! What publishers were promised: every report and every command that was sent, and what was said to
//! it; when parts of the system were away.
//!
//! Written by [`Traffic`](super::traffic::Traffic) while it happens, read by
//! [`Account`](super::account::Account) afterwards. Times are of a clock that nobody can step.
//!
//! Invariant: what may have arrived is written down before it is sent, what was acknowledged after the
//! acknowledgement has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use latchline_shared::words;
use tokio::time::Instant;

words! {
    /// A part of the system that can be away.
    Part {
        /// `latchline-broker`.
        Broker = "broker",
        /// `latchline-auditor`.
        Auditor = "auditor",
        /// `latchline-monitor`.
        Monitor = "monitor",
        /// `latchline-notifier`.
        Notifier = "notifier",
        /// Kafka.
        Kafka = "kafka",
        /// Postgres.
        Postgres = "postgres",
        /// The mail server.
        Mail = "mail server",
    }
}

/// How a part goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It was asked to, and does first what it has promised to do.
    InOrder,
    /// At once, or without its own doing.
    Suddenly,
}

/// Most notes about broken promises that are kept; all are counted.
const BROKEN_MAX: usize = 100;

/// What is shared by those who write it.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Book>>, Instant);

/// What a ledger holds.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Each lock's page, by its id.
    pub locks: BTreeMap<String, Page>,
    /// Each command, by its process id.
    pub commands: BTreeMap<String, Sent>,
    /// When parts were away, in order of their beginning.
    pub outages: Vec<Outage>,
    /// Promises of MQTT that were broken on the wire, the first of them.
    pub broken: Vec<String>,
    /// How many there were.
    pub broken_count: u64,
    /// Connections that ended, for whatever reason.
    pub breaks: u64,
    /// Reports and commands that were acknowledged.
    pub acked: u64,
    /// Commands that locks have acknowledged.
    pub receipts: u64,
}

/// What is known of a lock.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What it sent, in order; the first one has the number 1.
    pub reports: Vec<Report>,
    /// When its subscriptions were granted.
    pub granted_ms: Vec<u64>,
    /// When its connections ended.
    pub ended_ms: Vec<u64>,
    /// Whether it is connected and subscribed.
    pub listens: bool,
}

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The bytes.
    pub payload: Bytes,
    /// How often it was sent, over all connections.
    pub times: u32,
    /// Whether it was acknowledged.
    pub acked: bool,
    /// The process whose result it is.
    pub result_of: Option<String>,
}

/// What the broker said to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing yet.
    Nothing,
    /// It acknowledged it.
    Acked,
    /// It refused it with this reason code.
    Refused(u8),
}

/// A command that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The lock that it is for.
    pub lock: String,
    /// The bytes.
    pub payload: Bytes,
    /// When it was sent first.
    pub at_ms: u64,
    /// How often it was sent, over all connections.
    pub times: u32,
    /// What became of that.
    pub said: Said,
    /// How often the lock received it.
    pub received: u32,
    /// When the lock acknowledged it last.
    pub receipt_ms: Option<u64>,
}

/// A time in which a part was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Who.
    pub part: Part,
    /// How it went.
    pub way: Way,
    /// Since when.
    pub from_ms: u64,
    /// Until when; none while it lasts.
    pub until_ms: Option<u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self(Arc::default(), Instant::now())
    }
}

impl Ledger {
    /// A copy of what it holds.
    pub fn book(&self) -> Book {
        self.open().clone()
    }

    /// How many reports and commands were acknowledged, and how many commands locks have acknowledged.
    pub fn progress(&self) -> (u64, u64) {
        let book = self.open();
        (book.acked, book.receipts)
    }

    /// A part goes away.
    pub fn goes(&self, part: Part, way: Way) {
        let from_ms = self.now_ms();
        self.open().outages.push(Outage { part, way, from_ms, until_ms: None });
    }

    /// Whether a part is away.
    pub fn is_away(&self, part: Part) -> bool {
        self.open().outages.iter().any(|outage| outage.part == part && outage.until_ms.is_none())
    }

    /// A part is back.
    pub fn is_back(&self, part: Part) {
        let now_ms = self.now_ms();
        let mut book = self.open();
        let open = book.outages.iter_mut().rev().find(|outage| outage.part == part);
        if let Some(outage) = open {
            outage.until_ms = Some(now_ms);
        }
    }

    /// A lock has a report to send; the answer is its number.
    pub(super) fn report(
        &self,
        lock: &str,
        result_of: Option<String>,
        payload: impl Fn(u64) -> Bytes,
    ) -> (u64, Bytes) {
        let mut book = self.open();
        let reports = &mut book.page(lock).reports;
        let n = reports.len() as u64 + 1;
        let payload = payload(n);
        reports.push(Report { payload: payload.clone(), times: 0, acked: false, result_of });
        (n, payload)
    }

    /// A lock is about to send a report, for the first time or again.
    pub(super) fn report_sent(&self, lock: &str, n: u64) {
        if let Some(report) = self.open().page(lock).report(n) {
            report.times += 1;
        }
    }

    /// A lock's report was acknowledged.
    pub(super) fn report_acked(&self, lock: &str, n: u64) {
        let mut book = self.open();
        if let Some(report) = book.page(lock).report(n) {
            report.acked = true;
            book.acked += 1;
        }
    }

    /// A lock is subscribed to its commands.
    pub(super) fn granted(&self, lock: &str) {
        let now_ms = self.now_ms();
        let mut book = self.open();
        let page = book.page(lock);
        page.granted_ms.push(now_ms);
        page.listens = true;
    }

    /// A lock, or an operator, has lost its connection.
    pub(super) fn disconnected(&self, client: &str) {
        let now_ms = self.now_ms();
        let mut book = self.open();
        book.breaks += 1;
        if let Some(page) = book.locks.get_mut(client) {
            page.ended_ms.push(now_ms);
            page.listens = false;
        }
    }

    /// The locks that listen.
    pub(super) fn listeners(&self) -> Vec<String> {
        let book = self.open();
        book.locks.iter().filter(|(_, page)| page.listens).map(|(id, _)| id.clone()).collect()
    }

    /// An operator has a command to send.
    pub(super) fn command(&self, process_id: &str, lock: &str, payload: Bytes) {
        let at_ms = self.now_ms();
        let sent = Sent {
            lock: lock.to_owned(),
            payload,
            at_ms,
            times: 0,
            said: Said::Nothing,
            received: 0,
            receipt_ms: None,
        };
        self.open().commands.insert(process_id.to_owned(), sent);
    }

    /// An operator is about to send a command, for the first time or again.
    pub(super) fn command_sent(&self, process_id: &str) {
        if let Some(command) = self.open().commands.get_mut(process_id) {
            command.times += 1;
        }
    }

    /// What the broker says to a command.
    pub(super) fn said(&self, process_id: &str, said: Said) {
        let mut book = self.open();
        if let Some(command) = book.commands.get_mut(process_id) {
            command.said = said;
            book.acked += u64::from(said == Said::Acked);
        }
    }

    /// A lock has received a command, and is about to acknowledge it.
    pub(super) fn received(&self, process_id: &str) {
        let now_ms = self.now_ms();
        let mut book = self.open();
        if let Some(command) = book.commands.get_mut(process_id) {
            command.received += 1;
            let is_first = command.receipt_ms.replace(now_ms).is_none();
            book.receipts += u64::from(is_first);
        }
    }

    /// Somebody saw on the wire what must not be.
    pub(super) fn broken(&self, what: String) {
        let mut book = self.open();
        book.broken_count += 1;
        if book.broken.len() < BROKEN_MAX {
            book.broken.push(what);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.1.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What a task that panicked has left is still a book.
    fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    pub(super) fn page(&mut self, lock: &str) -> &mut Page {
        self.locks.entry(lock.to_owned()).or_default()
    }
}

impl Page {
    fn report(&mut self, n: u64) -> Option<&mut Report> {
        let index = usize::try_from(n).ok()?.checked_sub(1)?;
        self.reports.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_counted() {
        let ledger = Ledger::default();
        let payload = |n: u64| Bytes::from(n.to_string());
        assert_eq!(ledger.report("a", None, payload), (1, "1".into()));
        assert_eq!(ledger.report("a", None, payload), (2, "2".into()));
        for n in [1, 2, 2, 3] {
            ledger.report_sent("a", n);
        }
        ledger.report_acked("a", 2);
        ledger.command("p1", "a", "command".into());
        ledger.command_sent("p1");
        ledger.command_sent("p1");
        assert_eq!(ledger.progress(), (1, 0));
        ledger.said("p1", Said::Acked);
        assert_eq!(ledger.progress(), (2, 0));
        ledger.received("p1");
        ledger.received("p1");
        assert_eq!(ledger.progress(), (2, 1));
        ledger.granted("a");
        assert_eq!(ledger.listeners(), ["a"]);
        ledger.disconnected("a");
        assert_eq!((ledger.listeners().len(), ledger.book().breaks), (0, 1));
        let book = ledger.book();
        let times: Vec<u32> = book.locks["a"].reports.iter().map(|report| report.times).collect();
        assert_eq!((times, book.commands["p1"].times), (vec![1, 2], 2));
    }
}
