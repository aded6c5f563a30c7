//! What all connections of a run count together: messages, delays, and what went wrong by cause.
//!
//! Delays are those of messages that were due within the window of measurement, and count from when
//! they were due. Everything else is counted from first to last: what is lost before or after the
//! window is lost all the same.
//!
//! What is acknowledged and received is also counted lock by lock, so that a message that came
//! without an acknowledgement does not stand for another's that was lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench::figures::delays;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A lock's state.
    Report,
    /// What an operator sends to a lock.
    Command,
    /// A lock's state that answers a command; its delay counts from when the command was due.
    Answer,
}

impl Kind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Command => "command",
            Self::Answer => "answer",
        }
    }
}

/// All of them.
pub const KINDS: [Kind; 3] = [Kind::Report, Kind::Command, Kind::Answer];

/// What can be counted of the messages of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Due: sent, or waiting to be.
    Due,
    /// Acknowledged; at QoS 0, taken by the socket.
    Acked,
    /// Received, each once per receiver.
    Received,
    /// Received again.
    Double,
}

/// What can take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// From when a lock's connection was due until it is there, subscription included.
    Connect,
    /// From when a message was due to its acknowledgement.
    Acked(Kind),
    /// From when a message was due until it is received.
    Received(Kind),
    /// From when a message was due until the pacing thread came to it: the load's own part.
    Pace,
    /// How late the load reads what has come: its own part, too.
    Reading,
}

/// Kinds of delays.
const DELAYS: usize = 3 + 2 * KINDS.len();

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connection by TCP or TLS.
    Unreachable,
    /// CONNACK says no.
    Refused,
    /// The connection was closed instead of an answer to CONNECT or SUBSCRIBE.
    Closed,
    /// SUBACK says no.
    NotGranted,
    /// No answer in time while connecting.
    Silent,
    /// The connection ended though nobody wanted it to.
    Disconnected,
    /// The acknowledgement says no.
    MessageRefused,
    /// A message found no place in its connection's queue, or its connection was gone.
    NotSent,
    /// No acknowledgement by the end.
    Unacknowledged,
    /// Acknowledged, but not received by the end.
    Lost,
    /// An acknowledgement or a message out of turn.
    OutOfOrder,
    /// Received again, where nothing allows it: the load sends nothing twice, so only a message that was
    /// published and is delivered at QoS 1, and says so by its DUP flag, may come again.
    Repeated,
    /// Something that does not belong there.
    Protocol,
}

impl Cause {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "not reached",
            Self::Refused => "connections refused",
            Self::Closed => "connections closed without an answer",
            Self::NotGranted => "subscriptions not granted",
            Self::Silent => "without an answer to a connection",
            Self::Disconnected => "disconnected",
            Self::MessageRefused => "messages refused",
            Self::NotSent => "messages not sent",
            Self::Unacknowledged => "messages not acknowledged",
            Self::Lost => "messages lost",
            Self::OutOfOrder => "out of order",
            Self::Repeated => "messages repeated where none may be",
            Self::Protocol => "breaches of the protocol",
        }
    }
}

/// How often something went wrong, and what it was the first time.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// Which kind of wrong.
    pub cause: Cause,
    /// How often.
    pub count: u64,
    /// The first of them.
    pub first: String,
}

/// Counters and delays.
#[derive(Debug)]
pub struct Tally {
    began_at: Instant,
    counts: [[AtomicU64; 4]; KINDS.len()],
    /// Of each lock: how many were acknowledged, and how many received.
    of_locks: [Mutex<Vec<[u64; 2]>>; KINDS.len()],
    delays: Mutex<[Histogram<u64>; DELAYS]>,
    faults: Mutex<BTreeMap<Cause, Fault>>,
    retries: Mutex<BTreeMap<Cause, Fault>>,
    window_from_us: AtomicU64,
    window_to_us: AtomicU64,
}

impl Tally {
    /// Everything at zero; time begins now.
    pub fn new() -> anyhow::Result<Self> {
        let histogram = delays()?;
        Ok(Self {
            began_at: Instant::now(),
            counts: Default::default(),
            of_locks: Default::default(),
            delays: Mutex::new(std::array::from_fn(|_| histogram.clone())),
            faults: Mutex::default(),
            retries: Mutex::default(),
            window_from_us: AtomicU64::new(0),
            window_to_us: AtomicU64::new(u64::MAX),
        })
    }

    /// Microseconds since the run began.
    pub fn now_us(&self) -> u64 {
        self.began_at.elapsed().as_micros() as u64
    }

    /// When this moment of the run is.
    pub fn at(&self, us: u64) -> Instant {
        self.began_at + std::time::Duration::from_micros(us)
    }

    /// Measures delays of what is due from here to there, and no others.
    pub fn set_window(&self, from_us: u64, to_us: u64) {
        self.window_from_us.store(from_us, Ordering::Relaxed);
        self.window_to_us.store(to_us, Ordering::Relaxed);
    }

    /// Counts one.
    pub fn count(&self, kind: Kind, count: Count) {
        self.counts[kind as usize][count as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message, from or to this lock, that is acknowledged; at QoS 0, sent.
    pub fn acked(&self, kind: Kind, lock: u32) {
        self.count(kind, Count::Acked);
        self.count_of_lock(kind, lock, 0);
    }

    /// Counts a message, from or to this lock, that is received.
    pub fn received(&self, kind: Kind, lock: u32) {
        self.count(kind, Count::Received);
        self.count_of_lock(kind, lock, 1);
    }

    fn count_of_lock(&self, kind: Kind, lock: u32, what: usize) {
        let (mut of_locks, lock) = (held(&self.of_locks[kind as usize]), lock as usize);
        if of_locks.len() <= lock {
            of_locks.resize(lock + 1, [0; 2]);
        }
        of_locks[lock][what] += 1;
    }

    /// How many were acknowledged and not received, by so many receivers each.
    pub fn lost(&self, kind: Kind, receivers: u64) -> u64 {
        let of_locks = held(&self.of_locks[kind as usize]);
        of_locks.iter().map(|[acked, received]| (acked * receivers).saturating_sub(*received)).sum()
    }

    /// How many there are.
    pub fn of(&self, kind: Kind, count: Count) -> u64 {
        self.counts[kind as usize][count as usize].load(Ordering::Relaxed)
    }

    /// How many there are of all kinds.
    pub fn of_all(&self, count: Count) -> u64 {
        KINDS.iter().map(|&kind| self.of(kind, count)).sum()
    }

    /// Notes how long something took that was due then and is done now.
    pub fn took(&self, delay: Delay, due_us: u64, now_us: u64) {
        let window = self.window_from_us.load(Ordering::Relaxed)..self.window_to_us.load(Ordering::Relaxed);
        if window.contains(&due_us) {
            held(&self.delays)[index(delay)].saturating_record(now_us.saturating_sub(due_us));
        }
    }

    /// Forgets the delays so far.
    pub fn forget(&self, delay: Delay) {
        held(&self.delays)[index(delay)].reset();
    }

    /// Forgets all delays so far but those of connections.
    pub fn forget_messages(&self) {
        held(&self.delays)[1 + index(Delay::Connect)..].iter_mut().for_each(Histogram::reset);
    }

    /// The delays so far, in microseconds.
    pub fn delays_us(&self, delay: Delay) -> Histogram<u64> {
        held(&self.delays)[index(delay)].clone()
    }

    /// Notes what went wrong.
    pub fn wrong(&self, cause: Cause, what: impl FnOnce() -> String) {
        self.wrong_often(cause, 1, what);
    }

    /// Notes what went wrong `count` times.
    pub fn wrong_often(&self, cause: Cause, count: u64, what: impl FnOnce() -> String) {
        if count > 0 {
            let mut faults = held(&self.faults);
            faults.entry(cause).or_insert_with(|| Fault { cause, count: 0, first: what() }).count += count;
        }
    }

    /// Notes what did not work and is tried again.
    pub fn tried_again(&self, cause: Cause, what: impl FnOnce() -> String) {
        let mut retries = held(&self.retries);
        retries.entry(cause).or_insert_with(|| Fault { cause, count: 0, first: what() }).count += 1;
    }

    /// Everything that was tried again.
    pub fn retries(&self) -> Vec<Fault> {
        held(&self.retries).values().cloned().collect()
    }

    /// Everything that went wrong.
    pub fn faults(&self) -> Vec<Fault> {
        held(&self.faults).values().cloned().collect()
    }

    /// How often this went wrong.
    pub fn faults_of(&self, cause: Cause) -> u64 {
        held(&self.faults).get(&cause).map_or(0, |fault| fault.count)
    }
}

fn index(delay: Delay) -> usize {
    match delay {
        Delay::Connect => 0,
        Delay::Pace => 1,
        Delay::Reading => 2,
        Delay::Acked(kind) => 3 + kind as usize,
        Delay::Received(kind) => 3 + KINDS.len() + kind as usize,
    }
}

/// What a mutex holds, whatever became of those who held it before.
pub fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_of_what_was_due_in_the_window() {
        let tally = Tally::new().unwrap();
        tally.set_window(1_000, 2_000);
        for (due_us, now_us) in [(999, 1_500), (1_000, 1_500), (1_999, 9_999), (2_000, 2_001)] {
            tally.took(Delay::Acked(Kind::Answer), due_us, now_us);
        }
        let delays_us = tally.delays_us(Delay::Acked(Kind::Answer));
        assert_eq!((delays_us.len(), delays_us.min(), delays_us.max() / 10), (2, 500, 800));
        for other in [Delay::Connect, Delay::Pace, Delay::Acked(Kind::Report), Delay::Received(Kind::Answer)]
        {
            assert_eq!(tally.delays_us(other).len(), 0, "{other:?}");
        }
    }

    #[test]
    fn what_came_without_an_acknowledgement_does_not_stand_for_what_was_lost() {
        let tally = Tally::new().unwrap();
        (0..3).for_each(|_| tally.acked(Kind::Command, 7));
        (0..2).for_each(|_| tally.received(Kind::Command, 7));
        (0..4).for_each(|_| tally.received(Kind::Command, 2));
        assert_eq!((tally.of(Kind::Command, Count::Acked), tally.of(Kind::Command, Count::Received)), (3, 6));
        assert_eq!([0, 1, 2].map(|receivers| tally.lost(Kind::Command, receivers)), [0, 1, 4]);
        assert_eq!(tally.lost(Kind::Report, 1), 0);
    }

    #[test]
    fn what_is_tried_again_is_no_fault() {
        let tally = Tally::new().unwrap();
        (0..2).for_each(|n| tally.tried_again(Cause::Refused, || n.to_string()));
        let retries = tally.retries();
        assert_eq!((retries.len(), retries[0].count, retries[0].first.as_str()), (1, 2, "0"));
        assert!(tally.faults().is_empty());
    }

    #[test]
    fn faults_are_counted_by_cause_and_the_first_is_kept() {
        let tally = Tally::new().unwrap();
        tally.wrong_often(Cause::Lost, 0, || panic!("nothing went wrong"));
        tally.wrong(Cause::Refused, || "first".to_owned());
        tally.wrong_often(Cause::Refused, 2, || panic!("there is a first"));
        let faults = tally.faults();
        assert_eq!((faults.len(), faults[0].count, faults[0].first.as_str()), (1, 3, "first"));
        assert_eq!((tally.faults_of(Cause::Refused), tally.faults_of(Cause::Lost)), (3, 0));
    }
}
