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
    pub fn goes(&self, part: Part) {
        let from_ms = self.now_ms();
        self.open().outages.push(Outage { part, from_ms, until_ms: None });
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

    /// A lock is about to send a report; the answer is its number.
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
        reports.push(Report { payload: payload.clone(), acked: false, result_of });
        (n, payload)
    }

    /// A lock's report was acknowledged.
    pub(super) fn report_acked(&self, lock: &str, n: u64) {
        let mut book = self.open();
        let index = usize::try_from(n).ok().and_then(|n| n.checked_sub(1));
        if let Some(report) = index.and_then(|index| book.page(lock).reports.get_mut(index)) {
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

    /// A command is about to be sent.
    pub(super) fn command(&self, process_id: &str, lock: &str, payload: Bytes) {
        let at_ms = self.now_ms();
        let sent = Sent {
            lock: lock.to_owned(),
            payload,
            at_ms,
            said: Said::Nothing,
            received: 0,
            receipt_ms: None,
        };
        self.open().commands.insert(process_id.to_owned(), sent);
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
    fn page(&mut self, lock: &str) -> &mut Page {
        self.locks.entry(lock.to_owned()).or_default()
    }

    /// Whether the broker's memory may have lost a command: it went away after the lock's last
    /// subscription before the command, and before the lock can have taken it.
    pub fn is_lost_with_broker(&self, command: &Sent) -> bool {
        let until_ms = self.settled_ms(&command.lock, command.at_ms);
        let last_end = self.ends_of_broker().rfind(|end_ms| *end_ms <= until_ms);
        let granted = self.locks.get(&command.lock).map_or(&[][..], |page| &page.granted_ms);
        last_end.is_some_and(|end_ms| {
            !granted.iter().any(|granted_ms| (end_ms..command.at_ms).contains(granted_ms))
        })
    }

    /// Whether the record of a lock's acknowledgement at that time may have died with the broker.
    pub fn is_receipt_lost_with_broker(&self, lock: &str, receipt_ms: u64) -> bool {
        let until_ms = self.settled_ms(lock, receipt_ms);
        self.ends_of_broker().any(|end_ms| (receipt_ms..=until_ms).contains(&end_ms))
    }

    fn ends_of_broker(&self) -> impl DoubleEndedIterator<Item = u64> {
        let of_broker = self.outages.iter().filter(|outage| outage.part == Part::Broker);
        of_broker.map(|outage| outage.from_ms)
    }

    /// Until when what was under way between the broker and a lock at that time is surely stored: soon;
    /// or soon after the lock is back, if its connection ended and it has to be delivered again; or
    /// soon after Kafka is.
    fn settled_ms(&self, lock: &str, at_ms: u64) -> u64 {
        let mut until_ms = at_ms + UNDER_WAY_MS;
        if let Some(page) = self.locks.get(lock)
            && let Some(ended_ms) =
                page.ended_ms.iter().find(|ended_ms| (at_ms..=until_ms).contains(ended_ms))
        {
            let back_ms = page.granted_ms.iter().find(|granted_ms| *granted_ms >= ended_ms);
            until_ms = back_ms.map_or(u64::MAX, |back_ms| back_ms + UNDER_WAY_MS);
        }
        for outage in self.outages.iter().filter(|outage| outage.part == Part::Kafka) {
            let end_ms = outage.until_ms.map_or(u64::MAX, |until_ms| until_ms + RECOVERY_MS);
            if outage.from_ms <= until_ms && at_ms < end_ms {
                until_ms = until_ms.max(end_ms);
            }
        }
        until_ms
    }
}

/// How long something may be under way in the broker while all is well, on a busy machine.
const UNDER_WAY_MS: u64 = 5_000;
/// How long after Kafka is back what waited for it may still wait.
const RECOVERY_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn book(outages: &[(Part, u64, u64)], granted_ms: &[u64]) -> Book {
        let outages = outages.iter().map(|&(part, from_ms, until_ms)| Outage {
            part,
            from_ms,
            until_ms: Some(until_ms),
        });
        let page = Page { granted_ms: granted_ms.to_vec(), ..Page::default() };
        Book { locks: [("a".to_owned(), page)].into(), outages: outages.collect(), ..Book::default() }
    }

    fn sent(at_ms: u64) -> Sent {
        let payload = Bytes::new();
        Sent { lock: "a".to_owned(), payload, at_ms, said: Said::Acked, received: 0, receipt_ms: None }
    }

    #[test]
    fn a_command_is_lost_with_the_broker_that_had_it_or_before_the_lock_is_back() {
        let died = (Part::Broker, 10_000, 11_000);
        for (at_ms, granted_ms, lost) in [
            (4_000, vec![1], false),
            (9_500, vec![1], true),
            (11_500, vec![1], true),
            (11_500, vec![1, 11_600], true),
            (11_500, vec![1, 11_400], false),
            (20_000, vec![1], true),
        ] {
            let book = book(&[died], &granted_ms);
            assert_eq!(book.is_lost_with_broker(&sent(at_ms)), lost, "{at_ms} {granted_ms:?}");
        }
        assert!(!book(&[(Part::Kafka, 10_000, 11_000)], &[1]).is_lost_with_broker(&sent(9_500)));
    }

    #[test]
    fn a_receipt_is_under_way_for_a_moment_or_while_kafka_is_out() {
        let died = (Part::Broker, 20_000, 21_000);
        for (outages, at_ms, lost) in [
            (vec![died], 14_000, false),
            (vec![died], 19_000, true),
            (vec![died], 20_001, false),
            (vec![(Part::Kafka, 11_000, 16_000), died], 12_000, true),
            (vec![(Part::Kafka, 11_000, 16_000), died], 5_000, false),
            (vec![(Part::Kafka, 1_000, 2_000), died], 1_500, false),
        ] {
            let is_lost = book(&outages, &[]).is_receipt_lost_with_broker("a", at_ms);
            assert_eq!(is_lost, lost, "{outages:?} {at_ms}");
        }
    }

    #[test]
    fn a_receipt_that_its_connection_may_have_lost_is_given_again_when_the_lock_is_back() {
        for (ended_ms, granted_ms, lost) in [
            (vec![], vec![1], false),
            (vec![2_000], vec![1, 18_000], true),
            (vec![2_000], vec![1, 12_000], false),
            (vec![2_000], vec![1], true),
            (vec![500], vec![1, 18_000], false),
            (vec![15_000], vec![1, 18_000], false),
        ] {
            let mut book = book(&[(Part::Broker, 20_000, 21_000)], &granted_ms);
            book.page("a").ended_ms = ended_ms.clone();
            let is_lost = book.is_receipt_lost_with_broker("a", 1_000);
            assert_eq!(is_lost, lost, "{ended_ms:?} {granted_ms:?}");
        }
    }

    #[test]
    fn what_is_written_is_counted() {
        let ledger = Ledger::default();
        let payload = |n: u64| Bytes::from(n.to_string());
        assert_eq!(ledger.report("a", None, payload), (1, "1".into()));
        assert_eq!(ledger.report("a", None, payload), (2, "2".into()));
        ledger.report_acked("a", 2);
        ledger.command("p1", "a", "command".into());
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
    }
}
