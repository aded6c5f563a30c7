//! What is under way, and what has arrived. What is long overdue is looked for less often, so that a long
//! lag is not made longer by looking.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latchline_shared::alarm::{AlarmRecord, AlarmType, Change};
use tokio::time::Instant;

use super::{Chain, Probe};
use crate::load::tally::held;

/// What is overdue for so long is looked for every `1 / PATIENCE` of it.
const PATIENCE: f64 = 20.0;

/// What is under way, and what has arrived.
#[derive(Clone)]
pub(in crate::bench::pipeline) struct Book(Arc<Mutex<Pages>>);

struct Pages {
    begun_at: Instant,
    probes: Vec<Probe>,
    /// Jams, by lock, in their order.
    jams: HashMap<String, VecDeque<usize>>,
    /// Rows by chain and name: which report, and when to look for it.
    rows: HashMap<(Chain, String), (usize, Instant)>,
}

impl Book {
    pub(in crate::bench::pipeline) fn open() -> Self {
        Self(Arc::new(Mutex::new(Pages {
            begun_at: Instant::now(),
            probes: Vec::new(),
            jams: HashMap::new(),
            rows: HashMap::new(),
        })))
    }

    /// The window begins now.
    pub(in crate::bench::pipeline) fn begin(&self) {
        held(&self.0).begun_at = Instant::now();
    }

    /// Whether everything has arrived.
    pub(in crate::bench::pipeline) fn is_complete(&self) -> bool {
        let pages = held(&self.0);
        pages.rows.is_empty() && pages.jams.values().all(VecDeque::is_empty)
    }

    pub(in crate::bench::pipeline) fn into_probes(self) -> Vec<Probe> {
        std::mem::take(&mut held(&self.0).probes)
    }

    pub(super) fn begun_at(&self) -> Instant {
        held(&self.0).begun_at
    }

    /// An answer is due.
    pub(super) fn answers(&self, process_id: &str, due: Instant) {
        let mut pages = held(&self.0);
        for chain in [Chain::History, Chain::Notice] {
            let number = pages.probe(chain, due);
            pages.rows.insert((chain, process_id.to_owned()), (number, due));
        }
    }

    /// A lock jams.
    pub(super) fn jams(&self, lock: &str, due: Instant) {
        let mut pages = held(&self.0);
        let number = pages.probe(Chain::Alarm, due);
        pages.jams.entry(lock.to_owned()).or_default().push_back(number);
    }

    /// A change of an alarm is in its stream. Those of a lock are in its order.
    pub(super) fn alarmed(&self, alarm: &AlarmRecord) {
        let (mut pages, now) = (held(&self.0), Instant::now());
        let is_jam = alarm.alarm_type == AlarmType::LockFault
            && matches!(alarm.change, Change::Raised | Change::Repeated);
        let Some(number) =
            pages.jams.get_mut(&alarm.client_id).filter(|_| is_jam).and_then(VecDeque::pop_front)
        else {
            return;
        };
        pages.arrived(number, now);
        if alarm.notify {
            let due_s = pages.probes[number].due_s;
            pages.probes.push(Probe { chain: Chain::AlarmNotice, due_s, after_s: None });
            let number = pages.probes.len() - 1;
            let name = format!("{}/{}", alarm.alarm_id, alarm.no);
            pages.rows.insert((Chain::AlarmNotice, name), (number, now));
        }
    }

    /// Names of rows of these chains that it is time to look for.
    pub(super) fn wanted(&self, chains: &[Chain]) -> Vec<String> {
        let (mut pages, now) = (held(&self.0), Instant::now());
        let Pages { begun_at, probes, rows, .. } = &mut *pages;
        let mut names = Vec::new();
        for ((chain, name), (number, look_at)) in rows.iter_mut() {
            if chains.contains(chain) && *look_at <= now {
                let due = *begun_at + Duration::from_secs_f64(probes[*number].due_s);
                *look_at = now + now.saturating_duration_since(due).div_f64(PATIENCE);
                names.push(name.clone());
            }
        }
        names
    }

    /// Rows of these chains are there.
    pub(super) fn seen(&self, chains: &[Chain], names: Vec<String>) {
        let (mut pages, now) = (held(&self.0), Instant::now());
        for name in names {
            for chain in chains {
                if let Some((number, _)) = pages.rows.remove(&(*chain, name.clone())) {
                    pages.arrived(number, now);
                }
            }
        }
    }
}

impl Pages {
    fn probe(&mut self, chain: Chain, due: Instant) -> usize {
        let due_s = due.saturating_duration_since(self.begun_at).as_secs_f64();
        self.probes.push(Probe { chain, due_s, after_s: None });
        self.probes.len() - 1
    }

    fn arrived(&mut self, number: usize, now: Instant) {
        let at_s = now.saturating_duration_since(self.begun_at).as_secs_f64();
        let probe = &mut self.probes[number];
        probe.after_s = Some((at_s - probe.due_s).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pipeline::probes::Timed;

    #[test]
    fn what_arrives_is_timed_from_when_it_was_due() {
        let book = Book::open();
        let due = book.begun_at();
        book.answers("p", due);
        assert!(!book.is_complete());
        assert_eq!(book.wanted(&[Chain::History]), ["p"]);
        book.seen(&[Chain::History], vec!["p".to_owned(), "other".to_owned()]);
        assert!(!book.is_complete());
        book.seen(&[Chain::Notice, Chain::AlarmNotice], vec!["p".to_owned()]);
        assert!(book.is_complete());
        let probes = book.into_probes();
        assert!(probes.iter().all(|probe| probe.after_s.is_some_and(|after_s| after_s < 60.0)));
        let timed = Timed::of(Chain::Notice, &probes).unwrap();
        assert_eq!((timed.delays.count, timed.missing), (1, 0));
    }
}
