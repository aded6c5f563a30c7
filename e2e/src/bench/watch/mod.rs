//! The monitor under the reports of a whole fleet, with its Postgres and the development Kafka on
//! the same machine: whether it keeps up, how far its present state is behind, how long a fault
//! takes to become an alarm, and what it costs.
//!
//! All locks report once to become known; then the measured window begins. How far it is behind is
//! taken from the tables, lane by lane, the worst counts; the time of an alarm is from the record's
//! `ts` to when a second connection sees the committed row.

mod follow;
pub mod reporters;

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::bench::figures::Delays;
use crate::bench::meter::memory_bytes;
use crate::bench::report::Machine;
use crate::kafka::{Choice, Kafka};
use crate::process::{self, free_port};
use crate::stack::monitor::Monitor;
use crate::stack::{ALARMS, STATES};
use follow::Follow;
use reporters::Reporters;

/// Partitions, and so lanes: the development Kafka keeps 5 MiB of each.
const PARTITIONS: i32 = 12;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const KNOWN_DEADLINE: Duration = Duration::from_secs(600);
/// Longest time that the present state may be behind (`bounds` in the table).
const BEHIND_S_MAX: f64 = 5.0;
const ALARM_P99_MS_MAX: f64 = 2_000.0;
const MEMORY_BYTES_MAX: u64 = 1_500_000_000;

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Locks that report.
    pub locks: u64,
    /// Reports a second of all together.
    pub per_second: f64,
    /// How long it is measured.
    pub window: Duration,
}

impl Plan {
    /// What `docs/benchmarks.md` shows.
    pub fn full() -> Self {
        Self { locks: 1_000_000, per_second: 20_000.0, window: Duration::from_secs(180) }
    }

    /// To see that it works.
    pub fn small() -> Self {
        Self { locks: 2_000, per_second: 1_000.0, window: Duration::from_secs(3) }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Watch {
    machine: Machine,
    kafka: String,
    plan: Plan,
    /// Reports stored in the window, per second of it.
    pub per_second: f64,
    /// The worst lane, in seconds, each second of the window.
    pub behind_s_median: f64,
    /// The same, at its worst.
    pub behind_s_max: f64,
    /// By how much the sender was late, in seconds.
    pub sender_late_s: f64,
    /// From a fault's report to its alarm.
    pub alarms: Delays,
    /// Resident memory of the monitor at the end.
    pub memory_bytes: u64,
    /// CPU time of a report.
    pub monitor_cpu_us: f64,
    /// The same, of all processes of Postgres.
    pub postgres_cpu_us: f64,
}

/// Measures.
pub async fn measure(plan: Plan) -> anyhow::Result<Watch> {
    let machine = Machine::this()?;
    let kafka = Kafka::start(Choice::Development).await?;
    for stream in [STATES, ALARMS] {
        kafka.create_stream(stream, PARTITIONS).await?;
    }
    let folder = tempfile::Builder::new().prefix("latchline-watch-").tempdir()?;
    let data = folder.path().join("postgres");
    // A server that waits for its disk, as in production.
    let start = move || DevelopmentPostgres::start_in(&data, free_port()?);
    let postgres = tokio::task::spawn_blocking(start).await??;
    let monitor = Monitor::start_on(postgres, &kafka, "", &[("streams.findings", "")]).await?;
    let client = monitor.connect().await?;

    let reporters = Reporters::start(&kafka.bootstrap(), plan.locks, plan.per_second)?;
    let until = Instant::now() + KNOWN_DEADLINE;
    while reporters.reports() < plan.locks || follow::stored(&client).await? < plan.locks {
        ensure!(Instant::now() < until, "only {} reports are stored", follow::stored(&client).await?);
        sleep(LOOK_EVERY).await;
    }

    let cpu = || -> anyhow::Result<(Duration, Duration)> {
        let postgres = monitor.postgres.process_id()?;
        Ok((monitor.monitor.process()?.cpu_time()?, process::family_cpu_time(postgres)?))
    };
    let mut follow = Follow::begin(&client).await?;
    let (begun, stored, before) = (Instant::now(), follow::stored(&client).await?, cpu()?);
    while begun.elapsed() < plan.window {
        sleep(LOOK_EVERY).await;
        follow.look(&client).await?;
    }
    let (seconds, after) = (begun.elapsed().as_secs_f64(), cpu()?);
    let reports = follow::stored(&client).await? - stored;
    let memory_bytes = memory_bytes(monitor.monitor.process()?)?;
    let (faults, sender_late_s) = (reporters.faults(), reporters.late().as_secs_f64());
    reporters.finish()?;
    ensure!(faults > 0, "no fault was reported");
    let (behind_s_median, behind_s_max) = follow.behind()?;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / reports as f64;
    Ok(Watch {
        machine,
        kafka: kafka.choice().name(),
        plan,
        per_second: reports as f64 / seconds,
        behind_s_median,
        behind_s_max,
        sender_late_s,
        alarms: follow.alarms(),
        memory_bytes,
        monitor_cpu_us: each(after.0 - before.0),
        postgres_cpu_us: each(after.1.saturating_sub(before.1)),
    })
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, kernel, load_before } = &self.machine;
        let Plan { locks, per_second, window } = &self.plan;
        let held = |is_held: bool| if is_held { "held" } else { "NOT HELD" };
        let is_full = self.per_second >= per_second * 0.99;
        writeln!(f, "{processor}, {cores} cores, Linux {kernel}, load {load_before} before; {}", self.kafka)?;
        writeln!(f, "{locks} locks, {per_second:.0} reports a second for {} s\n", window.as_secs())?;
        writeln!(f, "  stored                      {:.0} a second: {}", self.per_second, held(is_full))?;
        writeln!(
            f,
            "  present state behind        {:.1} s, at most {:.1} s (the sender {:.1} s); bound {BEHIND_S_MAX}: {}",
            self.behind_s_median,
            self.behind_s_max,
            self.sender_late_s,
            held(self.behind_s_max <= BEHIND_S_MAX)
        )?;
        let Delays { count, p50_ms, p99_ms, max_ms, .. } = self.alarms;
        writeln!(
            f,
            "  fault to alarm              p50 {p50_ms:.0} ms, p99 {p99_ms:.0} ms, max {max_ms:.0} ms of {count}; bound {ALARM_P99_MS_MAX:.0}: {}",
            held(p99_ms <= ALARM_P99_MS_MAX)
        )?;
        writeln!(
            f,
            "  memory of the monitor       {} MB; bound {}: {}",
            self.memory_bytes / 1_000_000,
            MEMORY_BYTES_MAX / 1_000_000,
            held(self.memory_bytes <= MEMORY_BYTES_MAX)
        )?;
        writeln!(
            f,
            "  CPU time of a report        {:.0} µs monitor, {:.0} µs Postgres",
            self.monitor_cpu_us, self.postgres_cpu_us
        )
    }
}
