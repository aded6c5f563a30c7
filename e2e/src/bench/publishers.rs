//! A fixed number of locks that report with QoS 1, at a fixed rate, as fast as they may, or all at
//! once.
//!
//! At a fixed rate, messages leave when they are due, whatever comes back (open loop), paced by a
//! thread that does nothing else ([`OpenLoop`]); a delay counts from when its message was due, so that
//! a broker that stalls cannot hide the delays of the messages that it held up (coordinated omission).
//! The load is as many messages as fit its time, and all of them are sent, however late: those that
//! were due in the window are those that are counted.
//!
//! Invariant: acknowledgements arrive in the order of the messages, each once; anything else fails
//! the benchmark.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::{Buf, Bytes, BytesMut};
use hdrhistogram::Histogram;
use latchline_shared::keys::MasterKey;
use latchline_shared::message::{Protocol, Qos};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bench::lock::{self, Session};
use crate::client::packet::{self, Ack, Packet, Publish};
use crate::stack::state_topic;

/// Bytes of a report.
pub const PAYLOAD_BYTES: usize = 300;
/// Messages of a lock under way in a closed loop.
pub const WINDOW: usize = 10;
/// Delays from 1 µs to a minute, with three digits.
const DELAY_US_MAX: u64 = 60_000_000;
/// Not all brokers are quick at it.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const READ_BYTES: usize = 4096;

/// A histogram of delays in microseconds.
pub fn delays() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, DELAY_US_MAX, 3).context("a histogram")
}

/// The same of delays up to a day, for what may take hours.
pub fn long_delays() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 24 * 60 * DELAY_US_MAX, 3).context("a histogram")
}

/// Connected locks that publish when told to.
pub struct Publishers {
    locks: Vec<Arc<Lock>>,
    tally: Arc<Tally>,
    _readers: JoinSet<()>,
}

/// What they have in common.
struct Tally {
    acked: AtomicU64,
    delays: Mutex<Delays>,
    /// Whether an acknowledgement calls for the next message.
    closed: AtomicBool,
    /// The first thing that went wrong.
    failure: Mutex<Option<anyhow::Error>>,
}

/// Of acknowledged messages, those that were due at certain times.
struct Delays {
    delays_us: Histogram<u64>,
    due: Range<Instant>,
}

struct Lock {
    stream: TcpStream,
    topic: String,
    outbox: Mutex<Outbox>,
}

#[derive(Default)]
struct Outbox {
    last_id: u16,
    /// Messages that are not acknowledged, and when they were due.
    flights: VecDeque<(u16, Instant)>,
    /// What the socket has not taken yet.
    unsent: BytesMut,
}

impl Publishers {
    /// Connects locks number `first` to `first + count - 1`.
    pub async fn connect(
        server: SocketAddr,
        master: &MasterKey,
        first: u32,
        count: u32,
    ) -> anyhow::Result<Self> {
        let tally = Arc::new(Tally {
            acked: AtomicU64::new(0),
            delays: Mutex::new(Delays { delays_us: delays()?, due: Instant::now()..Instant::now() }),
            closed: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let (mut locks, mut readers) = (Vec::new(), JoinSet::new());
        for number in first..first + count {
            let stream = lock::open(server, master, number, Session::Clean).await?;
            let topic = state_topic(&lock::id(number));
            let lock = Arc::new(Lock { stream, topic, outbox: Mutex::default() });
            readers.spawn(read(Arc::clone(&lock), Arc::clone(&tally)));
            locks.push(lock);
        }
        Ok(Self { locks, tally, _readers: readers })
    }

    /// Starts to publish `per_second` messages, all locks in turn, for the time of the warm-up and of
    /// the window; delays are those of messages that are due in the window.
    pub fn open_loop(
        &self,
        per_second: f64,
        warm_up: Duration,
        window: Duration,
    ) -> anyhow::Result<OpenLoop> {
        let started_at = Instant::now();
        let measured = started_at + warm_up..started_at + warm_up + window;
        let mut delays = lock_of(&self.tally.delays);
        delays.delays_us.reset();
        delays.due = measured.clone();
        drop(delays);
        let stop = Arc::new(AtomicBool::new(false));
        let (locks, stopped, until) = (self.locks.clone(), Arc::clone(&stop), measured.clone());
        let thread = thread::Builder::new()
            .name("pace".to_owned())
            .spawn(move || pace(&locks, per_second, started_at, &until, &stopped))?;
        Ok(OpenLoop { measured, stop, thread: Some(thread) })
    }

    /// Each lock publishes [`WINDOW`] messages, and one more for each acknowledgement.
    pub fn closed_loop(&self) -> anyhow::Result<()> {
        self.tally.closed.store(true, Ordering::Relaxed);
        let now = Instant::now();
        self.locks.iter().try_for_each(|lock| (0..WINDOW).try_for_each(|_| lock.publish(now)))
    }

    /// Each lock publishes `each` messages, numbered from 1 ([`number`]), and waits for nothing but
    /// its socket: the highest rate there is.
    pub fn burst(&self, each: u16) -> anyhow::Result<()> {
        for n in 1..=each {
            for lock in &self.locks {
                lock.publish_this(Instant::now(), numbered(n))?;
            }
        }
        Ok(())
    }

    /// Ends the closed loop and waits for what is under way.
    pub async fn drain(&self) -> anyhow::Result<()> {
        self.tally.closed.store(false, Ordering::Relaxed);
        let until = Instant::now() + DRAIN_DEADLINE;
        for lock in &self.locks {
            while !lock.is_done()? {
                self.check()?;
                ensure!(Instant::now() < until, "no acknowledgement within {DRAIN_DEADLINE:?}");
                sleep(LOOK_EVERY).await;
            }
        }
        self.check()
    }

    /// Messages acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.tally.acked.load(Ordering::Relaxed)
    }

    /// Messages under way in a closed loop.
    pub fn under_way(&self) -> usize {
        self.locks.len() * WINDOW
    }

    /// The delays of the last open loop.
    pub fn delays(&self) -> Histogram<u64> {
        lock_of(&self.tally.delays).delays_us.clone()
    }

    /// Fails if anything went wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        lock_of(&self.tally.failure).take().map_or(Ok(()), Err)
    }
}

/// A running open loop; it stops when dropped.
pub struct OpenLoop {
    /// When the messages are due that are measured.
    pub measured: Range<Instant>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Sent>>>,
}

/// What an open loop has sent.
pub struct Sent {
    /// Messages that were due in the window.
    pub measured: u64,
    /// By how much they left later than due.
    pub late_us: Histogram<u64>,
}

impl OpenLoop {
    /// Waits until everything that was due has been sent, also what is late.
    pub async fn finish(mut self) -> anyhow::Result<Sent> {
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            sleep(LOOK_EVERY).await;
        }
        let thread = self.thread.take().context("the load has ended before")?;
        thread.join().map_err(|_| anyhow!("the pacing thread panicked"))?
    }
}

impl Drop for OpenLoop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Publishes all that is due until the end of the window.
fn pace(
    locks: &[Arc<Lock>],
    per_second: f64,
    started_at: Instant,
    measured: &Range<Instant>,
    stop: &AtomicBool,
) -> anyhow::Result<Sent> {
    let mut sent = Sent { measured: 0, late_us: delays()? };
    for (number, lock) in (0u32..).zip(locks.iter().cycle()) {
        let due = started_at + Duration::from_secs_f64(f64::from(number) / per_second);
        if due >= measured.end || stop.load(Ordering::Relaxed) {
            break;
        }
        // Nothing, if it is late: then messages follow each other until the time is made good.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if measured.contains(&due) {
            sent.measured += 1;
            sent.late_us.saturating_record(due.elapsed().as_micros() as u64);
        }
        lock.publish(due)?;
    }
    Ok(sent)
}

/// Counts acknowledgements until the connection ends.
async fn read(lock: Arc<Lock>, tally: Arc<Tally>) {
    if let Err(error) = lock.read(&tally).await {
        tally.fail(error.context(format!("publisher on {}", lock.topic)));
    }
}

impl Lock {
    /// Sends a message, or keeps it if the socket takes nothing now.
    fn publish(&self, due: Instant) -> anyhow::Result<()> {
        self.publish_this(due, payload())
    }

    fn publish_this(&self, due: Instant, payload: Bytes) -> anyhow::Result<()> {
        self.put(&mut lock_of(&self.outbox), due, payload)
    }

    fn put(&self, outbox: &mut Outbox, due: Instant, payload: Bytes) -> anyhow::Result<()> {
        outbox.last_id = outbox.last_id.checked_add(1).unwrap_or(1);
        let id = outbox.last_id;
        outbox.flights.push_back((id, due));
        outbox.unsent.extend_from_slice(&publish(self.topic.clone(), id, payload));
        self.flush(outbox)
    }

    fn flush(&self, outbox: &mut Outbox) -> anyhow::Result<()> {
        while !outbox.unsent.is_empty() {
            match self.stream.try_write(&outbox.unsent) {
                Ok(written) => outbox.unsent.advance(written),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("publish"),
            }
        }
        Ok(())
    }

    /// Whether everything has been sent and acknowledged; sends what is left.
    fn is_done(&self) -> anyhow::Result<bool> {
        let mut outbox = lock_of(&self.outbox);
        self.flush(&mut outbox)?;
        Ok(outbox.flights.is_empty())
    }

    async fn read(&self, tally: &Tally) -> anyhow::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            self.stream.readable().await?;
            buffer.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut buffer) {
                Ok(0) => return Err(anyhow!("the broker has closed the connection")),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("read"),
            }
            let now = Instant::now();
            while let Some(packet) = packet::decode(Protocol::V3, &mut buffer)? {
                self.acked(&packet, now, tally)?;
            }
            // What the socket did not take before.
            self.flush(&mut lock_of(&self.outbox))?;
        }
    }

    fn acked(&self, packet: &Packet, now: Instant, tally: &Tally) -> anyhow::Result<()> {
        // Held to the end, so that whoever finds nothing under way finds everything counted, and
        // nothing that follows.
        let mut outbox = lock_of(&self.outbox);
        let (id, due) =
            outbox.flights.pop_front().with_context(|| format!("{packet:?} without a message"))?;
        ensure!(*packet == Packet::Ack { kind: Ack::PubAck, id, code: 0 }, "{packet:?}, not PUBACK {id}");
        let mut delays = lock_of(&tally.delays);
        if delays.due.contains(&due) {
            let delay_us = now.saturating_duration_since(due).as_micros() as u64;
            delays.delays_us.saturating_record(delay_us);
        }
        drop(delays);
        tally.acked.fetch_add(1, Ordering::Relaxed);
        if tally.closed.load(Ordering::Relaxed) {
            self.put(&mut outbox, now, payload())?;
        }
        Ok(())
    }
}

impl Tally {
    fn fail(&self, error: anyhow::Error) {
        lock_of(&self.failure).get_or_insert(error);
    }
}

/// PUBLISH of a report.
pub(super) fn report(topic: String, id: u16) -> Bytes {
    publish(topic, id, payload())
}

fn publish(topic: String, id: u16, payload: Bytes) -> Bytes {
    let qos = Qos::AtLeastOnce;
    packet::publish(Protocol::V3, &Publish { topic, payload, qos, dup: false, retain: false, id })
}

const REPORT: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171","note":""#;
const REPORT_END: &str = "\"}";
const NOTE_BYTES: usize = PAYLOAD_BYTES - REPORT.len() - REPORT_END.len();

/// A report as the contract has it, with as much beside it as makes it long enough.
pub fn payload() -> Bytes {
    static PLAIN: LazyLock<Bytes> = LazyLock::new(|| with_note(""));
    PLAIN.clone()
}

/// The same with a number.
fn numbered(n: u16) -> Bytes {
    with_note(&n.to_string())
}

/// The number of a report.
pub fn number(report: &[u8]) -> Option<u16> {
    let note = report.strip_prefix(REPORT.as_bytes())?;
    let digits = note.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&note[..digits]).ok()?.parse().ok()
}

fn with_note(note: &str) -> Bytes {
    format!("{REPORT}{note:.<NOTE_BYTES$}{REPORT_END}").into()
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_json_of_the_right_length() {
        for payload in [payload(), numbered(1), numbered(u16::MAX)] {
            let parsed: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(parsed["lock_state"], 1);
            assert_eq!(payload.len(), PAYLOAD_BYTES);
        }
        assert_eq!(
            [payload(), numbered(1), numbered(65_535)].map(|report| number(&report)),
            [None, Some(1), Some(65_535)]
        );
    }
}
