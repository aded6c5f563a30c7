//! What all modes do: open connections, load them for a while, let everything arrive, and account
//! for it, while the processes under load are measured from outside.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::message::{Protocol, Qos};
use tokio::time::{Instant, sleep, sleep_until};

use crate::bench::figures::Delays;
use crate::bench::fleet::Close;
use crate::bench::report::Machine;
use crate::load::connection::{Connection, Ping};
use crate::load::crowd::{Crowd, Opening};
use crate::load::hello::Role;
use crate::load::look::{Look, Memory, Resident, Watched};
use crate::load::reading::Reading;
use crate::load::report::{Messages, Phase, Report, Setup, Usage};
use crate::load::run::{Run, Settings};
use crate::load::schedule::Span;
use crate::load::tally::{Cause, Count, Delay, KINDS, Kind};

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Files that this process needs beside its connections.
const FILES_BESIDE: u64 = 64;

/// A run, and what is known of it so far.
pub struct Stage {
    /// The run.
    pub run: Arc<Run>,
    /// How often each message is received, by kind.
    pub receivers: [u64; KINDS.len()],
    /// What is done, as it was asked for.
    pub setup: Setup,
    mode: &'static str,
    seed: u64,
    machine: Machine,
    watched: Watched,
    phases: Vec<Phase>,
    _reading: Reading,
}

/// What a phase has added to the memory of the processes.
enum Growth<'a> {
    /// That means nothing.
    None,
    /// Since then, by so many connections.
    Of(&'a [Resident], usize),
}

impl Stage {
    /// A run that begins now; the processes are there.
    pub fn new(mode: &'static str, settings: Settings, pids: &[u32], seed: u64) -> anyhow::Result<Self> {
        let run = Arc::new(Run::new(settings)?);
        Ok(Self {
            receivers: [0; KINDS.len()],
            setup: Setup::default(),
            mode,
            seed,
            machine: Machine::this()?,
            watched: Watched::of(pids)?,
            phases: Vec::new(),
            _reading: Reading::start(&run)?,
            run,
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
        let memory_before = self.watched.memory(memory).await?;
        let before = self.watched.look()?;
        let crowd = Crowd::open(&self.run, role, opening).await?;
        let after = self.watched.look()?;
        let memory = self.watched.memory(memory).await?;
        let count = crowd.members.len();
        self.note(name, count as u64, (&before, &after), &memory, Growth::Of(&memory_before, count));
        Ok(crowd)
    }

    /// Cuts locks and lets them come back, as a phase that has both.
    pub async fn come_back(
        &mut self,
        name: &str,
        locks: Crowd,
        close: Close,
        opening: Opening,
    ) -> anyhow::Result<Crowd> {
        let before = self.watched.look()?;
        locks.cut(close).await?;
        self.run.shift_sources(opening.count);
        let locks = Crowd::come_back(&self.run, Role::Lock, opening).await?;
        let after = self.watched.look()?;
        let memory = self.watched.memory(Memory::Now).await?;
        self.note(name, locks.members.len() as u64, (&before, &after), &memory, Growth::None);
        Ok(locks)
    }

    /// Waits for the span to begin and to end, and notes as a phase what `count` grew by meanwhile.
    pub async fn watch(&mut self, name: &str, span: Span, count: impl Fn() -> u64) -> anyhow::Result<()> {
        let (from, to) = (self.run.tally.at(span.from_us), self.run.tally.at(span.to_us));
        sleep_until(from.into()).await;
        let (before, counted) = (self.watched.look()?, count());
        sleep_until(to.into()).await;
        let (after, counted) = (self.watched.look()?, count() - counted);
        let memory = self.watched.memory(Memory::Now).await?;
        self.note(name, counted, (&before, &after), &memory, Growth::None);
        Ok(())
    }

    /// Waits until everything that was due is sent, acknowledged and received, and counts what is not.
    pub async fn drain(&self, senders: &[Arc<Connection>], deadline: Duration) {
        let until = Instant::now() + deadline;
        let is_out = || senders.iter().all(|sender| !sender.is_open() || sender.outstanding() == 0);
        let is_quiet = || is_out() && self.unacknowledged() == 0 && self.lost().all(|(_, lost)| lost == 0);
        let mut asked = Vec::new();
        // At QoS 0, the broker has read everything when it answers what came after it.
        if wait(until, is_quiet).await && self.run.settings.qos == Qos::AtMostOnce {
            asked = senders.iter().map(|sender| (sender, sender.ping())).collect();
            wait(until, || !asked.iter().any(is_silent) && is_quiet()).await;
        }

        let tally = &self.run.tally;
        let not_sent = senders.iter().map(|sender| sender.give_up()).sum();
        tally.wrong_often(Cause::NotSent, not_sent, || format!("the socket had no room within {deadline:?}"));
        tally.wrong_often(Cause::Unacknowledged, self.unacknowledged(), || {
            format!("within {deadline:?} of the last")
        });
        let silent = asked.iter().filter(|asked| is_silent(asked)).count() as u64;
        tally.wrong_often(Cause::Unacknowledged, silent, || {
            format!("no PINGRESP after messages of QoS 0 within {deadline:?}")
        });
        for (kind, lost) in self.lost() {
            let what = || format!("a {}, acknowledged and not received within {deadline:?}", kind.name());
            tally.wrong_often(Cause::Lost, lost, what);
        }
    }

    fn unacknowledged(&self) -> u64 {
        let tally = &self.run.tally;
        let settled = tally.of_all(Count::Acked)
            + tally.faults_of(Cause::MessageRefused)
            + tally.faults_of(Cause::NotSent);
        tally.of_all(Count::Due).saturating_sub(settled)
    }

    fn lost(&self) -> impl Iterator<Item = (Kind, u64)> {
        KINDS.into_iter().map(|kind| (kind, self.run.tally.lost(kind, self.receivers[kind as usize])))
    }

    fn note(
        &mut self,
        name: &str,
        count: u64,
        (before, after): (&Look, &Look),
        memory: &[Resident],
        growth: Growth<'_>,
    ) {
        let took = (after.at - before.at).as_secs_f64();
        let each = |cpu: Duration| (count > 0).then(|| cpu.as_secs_f64() * 1e6 / count as f64);
        let usage = |(at, (pid, name)): (usize, &(u32, String))| {
            let cpu = after.processes[at].since(&before.processes[at]);
            let bytes = memory[at].bytes;
            let memory_bytes_each = match growth {
                Growth::Of(before, grown) if grown > 0 => {
                    Some((bytes as f64 - before[at].bytes as f64) / grown as f64)
                }
                Growth::Of(..) | Growth::None => None,
            };
            Usage {
                pid: *pid,
                name: name.clone(),
                cpu_seconds: cpu.as_secs_f64(),
                cpu_us_each: each(cpu),
                memory_bytes: bytes,
                memory_quality: memory[at].quality,
                memory_bytes_each,
            }
        };
        self.phases.push(Phase {
            name: name.to_owned(),
            seconds: took,
            count,
            per_second: count as f64 / took.max(1e-6),
            load_cpu_us_each: each(after.load.since(&before.load)),
            load_threads: after.threads_since(before),
            processes: self.watched.processes().iter().enumerate().map(usage).collect(),
        });
    }

    /// Adds everything up.
    pub fn finish(self) -> Report {
        let (settings, tally) = (&self.run.settings, &self.run.tally);
        let delays = |delay| Delays::of(&tally.delays_us(delay));
        let is_open = self.setup.pacing.is_open();
        let messages = KINDS.map(|kind| {
            let (acked, received) = (delays(Delay::Acked(kind)), delays(Delay::Received(kind)));
            Messages {
                kind,
                due: tally.of(kind, Count::Due),
                acked: tally.of(kind, Count::Acked),
                received: tally.of(kind, Count::Received),
                double: tally.of(kind, Count::Double),
                acked_after: is_open.then_some(acked),
                received_after: is_open.then_some(received),
                closed_loop_round_trip: (!is_open).then_some(acked),
                closed_loop_delivery: (!is_open).then_some(received),
            }
        });
        Report {
            mode: self.mode,
            target: settings.target.to_string(),
            protocol: if settings.protocol == Protocol::V5 { "5" } else { "3.1.1" },
            tls: settings.security.is_some(),
            qos: settings.qos.level(),
            payload_bytes: settings.payload_bytes,
            setup: self.setup,
            seed: self.seed,
            machine: self.machine,
            phases: self.phases,
            connect: delays(Delay::Connect),
            messages: messages.into_iter().filter(|messages| messages.due > 0).collect(),
            pace: delays(Delay::Pace),
            reading: delays(Delay::Reading),
            retries: tally.retries(),
            faults: tally.faults(),
        }
    }
}

/// Waits for something until then; false if it has not come about.
async fn wait(until: Instant, is_done: impl Fn() -> bool) -> bool {
    while Instant::now() < until {
        if is_done() {
            return true;
        }
        sleep(LOOK_EVERY).await;
    }
    is_done()
}

fn is_silent((sender, ping): &(&Arc<Connection>, Ping)) -> bool {
    sender.is_open() && !sender.has_answered(*ping)
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
