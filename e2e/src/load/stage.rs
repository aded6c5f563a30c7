//! What all modes do: open connections, load them for a while, let everything arrive, and account
//! for it, while the processes under load are measured from outside.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::message::{Protocol, Qos};
use tokio::time::{Instant, sleep, sleep_until};

use crate::bench::figures::Delays;
use crate::bench::idle::calm_bytes_of;
use crate::bench::meter::memory_bytes_of;
use crate::bench::report::Machine;
use crate::client::packet::PING_REQUEST;
use crate::load::connection::Connection;
use crate::load::crowd::{Crowd, Opening, keep_alive};
use crate::load::hello::Role;
use crate::load::report::{Messages, Phase, Report, Usage};
use crate::load::run::{Run, Settings};
use crate::load::schedule::Span;
use crate::load::tally::{Cause, Count, Delay, KINDS, Kind};
use crate::process::cpu_time;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Files that this process needs beside its connections.
const FILES_BESIDE: u64 = 64;

/// Whether memory is read as it is, or once it has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// As it is.
    Now,
    /// Once it does not change any more.
    Calm,
}

/// How long the load goes on.
#[derive(Debug, Clone, Copy)]
pub struct Spans {
    /// All of it.
    pub load: Span,
    /// The part of it that is measured, after the warm-up.
    pub measured: Span,
}

/// A run, and what is known of it so far.
pub struct Stage {
    /// The run.
    pub run: Arc<Run>,
    /// How often each message is received, by kind.
    pub receivers: [u64; KINDS.len()],
    mode: &'static str,
    seed: u64,
    machine: Machine,
    processes: Vec<(u32, String)>,
    phases: Vec<Phase>,
}

/// The processes at one moment.
struct Look {
    at: Instant,
    load_cpu: Duration,
    cpu: Vec<Duration>,
    memory_bytes: Vec<u64>,
}

impl Stage {
    /// A run that begins now; the processes are there.
    pub fn new(mode: &'static str, settings: Settings, pids: &[u32], seed: u64) -> anyhow::Result<Self> {
        let name = |&pid: &u32| {
            let path = format!("/proc/{pid}/comm");
            let name = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            anyhow::Ok((pid, name.trim().to_owned()))
        };
        Ok(Self {
            run: Arc::new(Run::new(settings)?),
            receivers: [0; KINDS.len()],
            mode,
            seed,
            machine: Machine::this()?,
            processes: pids.iter().map(name).collect::<Result<_, _>>()?,
            phases: Vec::new(),
        })
    }

    /// Opens connections, as a phase.
    pub async fn open(
        &mut self,
        name: &str,
        role: Role,
        opening: Opening,
        memory: Memory,
    ) -> anyhow::Result<Crowd> {
        let before = self.look(memory).await?;
        let begun = Instant::now();
        let crowd = Crowd::open(&self.run, role, opening).await?;
        let seconds = begun.elapsed();
        let after = self.look(memory).await?;
        self.note(name, crowd.members.len() as u64, seconds, (&before, &after), crowd.members.len());
        Ok(crowd)
    }

    /// Waits for the span to begin and to end, and notes as a phase what `count` grew by meanwhile.
    /// All connections are kept alive.
    pub async fn watch(
        &mut self,
        name: &str,
        span: Span,
        members: &[Arc<Connection>],
        count: impl Fn() -> u64,
    ) -> anyhow::Result<()> {
        let (from, to) = (self.run.tally.at(span.from_us), self.run.tally.at(span.to_us));
        let keep_alive_s = self.run.settings.keep_alive_s;
        let watch = async {
            sleep_until(from.into()).await;
            let (before, counted) = (self.look(Memory::Now).await?, count());
            sleep_until(to.into()).await;
            let (after, counted) = (self.look(Memory::Now).await?, count() - counted);
            self.note(name, counted, after.at - before.at, (&before, &after), 0);
            anyhow::Ok(())
        };
        tokio::select! {
            outcome = watch => outcome,
            () = keep_alive(members, keep_alive_s) => Ok(()),
        }
    }

    /// The span of the load, which begins now, and that which is measured, after the warm-up.
    pub fn spans(&self, warm_up: Duration, length: Duration) -> Spans {
        let from_us = self.run.tally.now_us();
        let warm_us = from_us + warm_up.as_micros() as u64;
        let to_us = warm_us + length.as_micros() as u64;
        self.run.tally.set_window(warm_us, to_us);
        Spans { load: Span { from_us, to_us }, measured: Span { from_us: warm_us, to_us } }
    }

    /// Waits until everything that was sent is acknowledged and received, and counts what is not.
    pub async fn drain(&self, senders: &[Arc<Connection>], deadline: Duration) {
        let until = Instant::now() + deadline;
        let asked = self.ask(senders);
        while Instant::now() < until {
            let answered = asked
                .iter()
                .all(|(sender, pongs)| !sender.is_open() || sender.pongs.load(Ordering::Relaxed) > *pongs);
            if answered && self.unacknowledged() == 0 && self.lost().iter().all(|&(_, lost)| lost == 0) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        let tally = &self.run.tally;
        tally.wrong_often(Cause::Unacknowledged, self.unacknowledged(), || {
            format!("within {deadline:?} of the last")
        });
        for (kind, lost) in self.lost() {
            let what = || format!("a {}, acknowledged and not received within {deadline:?}", kind.name());
            tally.wrong_often(Cause::Lost, lost, what);
        }
    }

    /// Messages of QoS 0 are behind a broker that has answered what came after them.
    fn ask<'a>(&self, senders: &'a [Arc<Connection>]) -> Vec<(&'a Arc<Connection>, u32)> {
        if self.run.settings.qos > Qos::AtMostOnce {
            return Vec::new();
        }
        let ask = |sender: &'a Arc<Connection>| {
            let pongs = sender.pongs.load(Ordering::Relaxed);
            // Whether it has ended is its reader's to say.
            let _ = sender.put(&PING_REQUEST);
            (sender, pongs)
        };
        senders.iter().map(ask).collect()
    }

    fn unacknowledged(&self) -> u64 {
        let tally = &self.run.tally;
        let settled = tally.of_all(Count::Acked)
            + tally.faults_of(Cause::MessageRefused)
            + tally.faults_of(Cause::NotSent);
        tally.of_all(Count::Due).saturating_sub(settled)
    }

    fn lost(&self) -> [(Kind, u64); KINDS.len()] {
        KINDS.map(|kind| {
            let expected = self.run.tally.of(kind, Count::Acked) * self.receivers[kind as usize];
            (kind, expected.saturating_sub(self.run.tally.of(kind, Count::Received)))
        })
    }

    /// Notes a phase; `grown` connections have come meanwhile.
    fn note(
        &mut self,
        name: &str,
        count: u64,
        took: Duration,
        (before, after): (&Look, &Look),
        grown: usize,
    ) {
        let each = |cpu: Duration| (count > 0).then(|| cpu.as_secs_f64() * 1e6 / count as f64);
        let usage = |(at, (pid, name)): (usize, &(u32, String))| {
            let cpu = after.cpu[at].saturating_sub(before.cpu[at]);
            let grown_bytes = after.memory_bytes[at] as f64 - before.memory_bytes[at] as f64;
            Usage {
                pid: *pid,
                name: name.clone(),
                cpu_seconds: cpu.as_secs_f64(),
                cpu_us_each: each(cpu),
                memory_bytes: after.memory_bytes[at],
                memory_bytes_each: (grown > 0).then(|| grown_bytes / grown as f64),
            }
        };
        self.phases.push(Phase {
            name: name.to_owned(),
            seconds: took.as_secs_f64(),
            count,
            per_second: count as f64 / took.as_secs_f64().max(1e-6),
            load_cpu_us_each: each(after.load_cpu.saturating_sub(before.load_cpu)),
            processes: self.processes.iter().enumerate().map(usage).collect(),
        });
    }

    async fn look(&self, memory: Memory) -> anyhow::Result<Look> {
        let (mut cpu, mut memory_bytes) = (Vec::new(), Vec::new());
        for (pid, name) in &self.processes {
            let bytes = match memory {
                Memory::Now => memory_bytes_of(*pid),
                Memory::Calm => calm_bytes_of(*pid).await,
            };
            memory_bytes.push(bytes.with_context(|| format!("measure {name} ({pid})"))?);
        }
        for (pid, _) in &self.processes {
            cpu.push(cpu_time(*pid)?);
        }
        Ok(Look { at: Instant::now(), load_cpu: cpu_time(std::process::id())?, cpu, memory_bytes })
    }

    /// Adds everything up.
    pub fn finish(self) -> Report {
        let (settings, tally) = (&self.run.settings, &self.run.tally);
        let delays = |delay| Delays::of(&tally.delays_us(delay));
        let messages = KINDS.map(|kind| Messages {
            kind,
            due: tally.of(kind, Count::Due),
            acked: tally.of(kind, Count::Acked),
            received: tally.of(kind, Count::Received),
            double: tally.of(kind, Count::Double),
            acked_after: delays(Delay::Acked(kind)),
            received_after: delays(Delay::Received(kind)),
        });
        Report {
            mode: self.mode,
            target: settings.target.to_string(),
            protocol: if settings.protocol == Protocol::V5 { "5" } else { "3.1.1" },
            tls: settings.security.is_some(),
            qos: settings.qos.level(),
            payload_bytes: settings.payload_bytes,
            seed: self.seed,
            machine: self.machine,
            phases: self.phases,
            connect: delays(Delay::Connect),
            messages: messages.into_iter().filter(|messages| messages.due > 0).collect(),
            pace: delays(Delay::Pace),
            faults: tally.faults(),
        }
    }
}

/// Raises the limit of open files, and fails if it does not suffice for so many connections.
pub fn make_room(connections: u64) -> anyhow::Result<()> {
    let needed = connections + FILES_BESIDE;
    let limit = rlimit::increase_nofile_limit(u64::MAX).context("raise the limit of open files")?;
    ensure!(
        needed <= limit,
        "{connections} connections need {needed} open files, but one process may have {limit} here \
         (RLIMIT_NOFILE, `ulimit -Hn`): start several with less each, and --first"
    );
    Ok(())
}
