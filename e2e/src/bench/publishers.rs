//! A fixed number of locks that report with QoS 1, at a fixed rate, as fast as they may, or all at
//! once: the load ([`crate::load`]) as the benchmarks use it.
//!
//! At a fixed rate, messages leave when they are due, whatever comes back (open loop); a delay counts
//! from when its message was due, so that a broker that stalls cannot hide the delays of the messages
//! that it held up (coordinated omission). The load is as many messages as fit its time, and all of
//! them are sent, however late: those that were due in the window are those that are counted.
//!
//! Invariant: acknowledgements arrive in the order of the messages, each once; anything else fails
//! the benchmark, as does everything that the load counts as a fault.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use latchline_shared::keys::MasterKey;
use latchline_shared::message::{Protocol, Qos};
use tokio::time::sleep;

use crate::bench::lock::{KEEP_ALIVE_S, Session};
use crate::load::crowd::{Crowd, Due, Opening};
use crate::load::hello::Role;
use crate::load::pace::{Pace, closed_loop};
use crate::load::reading::Reading;
use crate::load::run::{Answers, ID, Login, Run, Settings};
use crate::load::stamp::Payloads;
use crate::load::tally::{Count, Delay, Kind};
use crate::stack::{command_topic, state_topic};

/// Bytes of a report.
const PAYLOAD_BYTES: usize = 300;
/// Messages of a lock under way in a closed loop that few locks keep up.
pub const WINDOW: u16 = 10;
/// Not all brokers are quick at it.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Connected locks that publish when told to.
pub struct Publishers {
    run: Arc<Run>,
    locks: Crowd,
}

impl Publishers {
    /// Connects locks number `first` to `first + count - 1`, one after the other.
    pub async fn connect(
        server: SocketAddr,
        master: &MasterKey,
        first: u32,
        count: u32,
    ) -> anyhow::Result<Self> {
        let run = Arc::new(Run::new(settings(server, master, first))?);
        // Delays are those of open loops.
        run.tally.set_window(0, 0);
        let locks = Crowd::open(&run, Role::Lock, Opening { count, at_once: 1, due: Due::OnTurn }).await?;
        let publishers = Self { run, locks };
        publishers.check()?;
        Ok(publishers)
    }

    /// Starts to publish `per_second` messages, all locks in turn, for the time of the warm-up and of
    /// the window; delays are those of messages that are due in the window.
    pub fn open_loop(
        &self,
        per_second: f64,
        warm_up: Duration,
        window: Duration,
    ) -> anyhow::Result<OpenLoop> {
        let (run, spans) = (Arc::clone(&self.run), self.run.spans(warm_up, window));
        let measured = run.tally.at(spans.measured.from_us)..run.tally.at(spans.measured.to_us);
        let pace = Pace::even(&run, self.locks.members.clone(), per_second, spans.load)?;
        Ok(OpenLoop { measured, run, pace })
    }

    /// Each lock publishes `under_way` messages, and one more for each acknowledgement.
    pub async fn closed_loop(&self, under_way: u16) {
        closed_loop(&self.run, &self.locks.members, under_way).await;
    }

    /// Each lock publishes `each` messages, numbered from 0, and waits for nothing but its socket: the
    /// highest rate there is.
    pub fn burst(&self, each: u16) {
        for _ in 0..each {
            self.locks.members.iter().for_each(|lock| lock.next(self.run.tally.now_us()));
        }
    }

    /// Ends the closed loop and waits for what is under way.
    pub async fn drain(&self) -> anyhow::Result<()> {
        self.run.set_closed(false);
        let until = Instant::now() + DRAIN_DEADLINE;
        for lock in &self.locks.members {
            while lock.outstanding() > 0 {
                self.check()?;
                ensure!(Instant::now() < until, "no acknowledgement within {DRAIN_DEADLINE:?}");
                sleep(LOOK_EVERY).await;
            }
        }
        self.check()
    }

    /// Messages acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.run.tally.of(Kind::Report, Count::Acked)
    }

    /// The delays of the last open loop.
    pub fn delays(&self) -> Histogram<u64> {
        self.run.tally.delays_us(Delay::Acked(Kind::Report))
    }

    /// Measures how late acknowledgements are read, until it is dropped.
    pub(super) fn watch_reading(&self) -> anyhow::Result<Reading> {
        Reading::start(&self.run)
    }

    /// How late they were read in the window of the last open loop.
    pub(super) fn reading_us(&self) -> Histogram<u64> {
        self.run.tally.delays_us(Delay::Reading)
    }

    /// Fails if anything went wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        let faults = self.run.tally.faults();
        if faults.is_empty() {
            return Ok(());
        }
        let faults = faults.iter().map(|fault| {
            let name = fault.cause.name();
            format!("{name}: {}, the first: {}", fault.count, fault.first)
        });
        bail!("{}", faults.collect::<Vec<_>>().join("; "))
    }
}

fn settings(server: SocketAddr, master: &MasterKey, first: u32) -> Settings {
    Settings {
        target: server,
        protocol: Protocol::V3,
        security: None,
        login: Login::Derived(master.clone()),
        operator: Login::Nobody,
        master: None,
        state_topic: state_topic(ID),
        command_topic: Some(command_topic(ID)),
        first,
        session: Session::Clean,
        keep_alive_s: KEEP_ALIVE_S,
        qos: Qos::AtLeastOnce,
        payload_bytes: PAYLOAD_BYTES,
        answers: Answers::None,
    }
}

/// A running open loop; it stops when dropped.
pub struct OpenLoop {
    /// When the messages are due that are measured.
    pub measured: Range<Instant>,
    run: Arc<Run>,
    pace: Pace,
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
    pub async fn finish(self) -> anyhow::Result<Sent> {
        self.pace.finish().await?;
        let late_us = self.run.tally.delays_us(Delay::Pace);
        Ok(Sent { measured: late_us.len(), late_us })
    }
}

/// A report as the contract has it, with as much beside it as makes it long enough.
pub fn payload() -> Bytes {
    static PLAIN: LazyLock<Bytes> = LazyLock::new(|| Payloads::of(PAYLOAD_BYTES).plain());
    PLAIN.clone()
}
