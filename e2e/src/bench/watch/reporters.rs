//! A fleet that reports in turn, at a fixed rate: records as the bridge would write them.
//!
//! Records leave when they are due, whatever becomes of them (open loop), paced by a thread that
//! does nothing else. Each lock reports once a round; every so often one reports a fault instead,
//! another one in each round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use latchline_shared::kit::clock;

use crate::feed::{Feed, Report, Unsent};
use crate::stack::STATES;

/// One report in so many is of a fault. No divisor of a round, so that it is not always the same
/// locks.
const FAULT_EVERY: u64 = 401;
const PACE: Duration = Duration::from_millis(5);

/// A fleet at work; it stops when it is dropped.
pub struct Reporters {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// What was sent.
#[derive(Debug, Default)]
struct Tally {
    reports: AtomicU64,
    faults: AtomicU64,
    /// By how much the sender itself is late, in milliseconds.
    late_ms: AtomicU64,
}

impl Reporters {
    /// `locks` locks that report `per_second` times a second, all together.
    pub fn start(bootstrap: &str, locks: u64, per_second: f64) -> anyhow::Result<Self> {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
        let (stopped, counted, feed) = (Arc::clone(&stop), Arc::clone(&tally), Feed::open(bootstrap)?);
        let thread = thread::Builder::new()
            .name("reporters".to_owned())
            .spawn(move || pace(&feed, locks, per_second, &stopped, &counted))?;
        Ok(Self { stop, tally, thread: Some(thread) })
    }

    /// Reports so far.
    pub fn reports(&self) -> u64 {
        self.tally.reports.load(Ordering::Relaxed)
    }

    /// Of them, faults.
    pub fn faults(&self) -> u64 {
        self.tally.faults.load(Ordering::Relaxed)
    }

    /// How far behind its own pace the sender has been at most.
    pub fn late(&self) -> Duration {
        Duration::from_millis(self.tally.late_ms.load(Ordering::Relaxed))
    }

    /// Stops, and waits until all is in Kafka.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the sender panicked"))?
    }
}

impl Drop for Reporters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Name of a lock.
pub fn lock(number: u64) -> String {
    format!("{number:017}")
}

fn pace(feed: &Feed, locks: u64, per_second: f64, stop: &AtomicBool, tally: &Tally) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * per_second) as u64;
        let late_ms = due.saturating_sub(sent) as f64 / per_second * 1_000.0;
        tally.late_ms.fetch_max(late_ms as u64, Ordering::Relaxed);
        // A little at a time, so that what is counted as sent is.
        while sent < due {
            let is_fault = sent % FAULT_EVERY == FAULT_EVERY - 1;
            feed.send(STATES, &report(sent % locks, sent, is_fault))?;
            sent += 1;
            tally.reports.store(sent, Ordering::Relaxed);
            tally.faults.fetch_add(u64::from(is_fault), Ordering::Relaxed);
        }
        thread::sleep(PACE);
    }
    feed.flush()
}

fn report(number: u64, n: u64, is_fault: bool) -> Unsent {
    let (lock, process_id) = (lock(number), format!("{number:016}"));
    let report = Report {
        // As batteries are: different, and hardly different from one round to the next.
        battery: 30.0 + (number % 700) as f32 / 10.0,
        lock_state: if is_fault { 2 } else { 0 },
        process_id: &process_id,
        ..Report::of(&lock, clock::unix_ms())
    };
    Unsent { mid: u128::from(n), ..report.record() }
}
