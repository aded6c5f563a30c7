//! One run: everything that was measured, where and how, as a table for people and as JSON.

use std::fmt;

use anyhow::{Context, bail};
use latchline_shared::kit::clock;
use serde::Serialize;

use crate::bench::cost::{self, Cost, Ratio};
use crate::bench::idle::{self, Idle};
use crate::bench::latency::{self, Latency};
use crate::bench::plan::Plan;
use crate::bench::shares::Shares;
use crate::bench::storm::{self, Event, Storm};
use crate::bench::target::{Kind, Surroundings, mosquitto};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Memory of idle connections.
    Idle,
    /// CPU time of a message.
    Cost,
    /// Bystanders in a storm.
    Storm,
    /// Delays of acknowledgements.
    Latency,
}

/// All of it, in order.
pub const ALL: [Part; 4] = [Part::Idle, Part::Cost, Part::Storm, Part::Latency];

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Which Kafka.
    pub kafka: String,
    /// How much.
    pub plan: Plan,
    /// Memory.
    pub idle: Vec<Idle>,
    /// CPU time.
    pub cost: Vec<Cost>,
    /// CPU time compared.
    pub ratios: Vec<Ratio>,
    /// Storms.
    pub storms: Vec<Storm>,
    /// Delays.
    pub latency: Vec<Latency>,
}

/// The machine and how busy it was.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Programs that wanted to run on average in the minute before: what others did meanwhile.
    pub load_before: f64,
}

impl Machine {
    /// This one.
    pub fn this() -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
        let processors = read("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg")?;
        Ok(Self {
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().parse().context("/proc/loadavg")?,
        })
    }
}

/// Measures these parts.
pub async fn measure(
    parts: &[Part],
    kafka: String,
    surroundings: &Surroundings,
    plan: Plan,
) -> anyhow::Result<Report> {
    let mut report = Report {
        machine: Machine::this()?,
        kafka,
        idle: Vec::new(),
        cost: Vec::new(),
        ratios: Vec::new(),
        storms: Vec::new(),
        latency: Vec::new(),
        plan,
    };
    let plan = &report.plan;
    for part in parts {
        tracing::info!(?part, "measuring");
        match part {
            Part::Idle => {
                for kind in [Kind::Bridge].into_iter().chain(mosquitto().map(|_| Kind::Mosquitto)) {
                    let (measured, failed) = idle::measure(kind, surroundings, &plan.idle_connections).await;
                    if let Some(failed) = failed {
                        bail!("{failed}");
                    }
                    report.idle.extend(measured);
                }
            }
            Part::Cost => report.cost = cost::measure(surroundings, plan).await?,
            Part::Storm => report.storms = storm::measure(surroundings, plan).await?,
            Part::Latency => report.latency = latency::measure(surroundings, plan).await?,
        }
    }
    report.ratios = cost::ratios(&report.cost, &report.plan);
    Ok(report)
}

impl Machine {
    /// When and where, for a picture.
    pub(super) fn note(&self, kafka: &str) -> String {
        let today = jiff::Timestamp::from_millisecond(clock::unix_ms() as i64).unwrap_or_default();
        format!("{}; {self}; {kafka}", today.strftime("%F"))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, load_before } = self;
        write!(f, "{processor}, {cores} cores, Linux {kernel}, load {load_before} before")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.machine, self.kafka)?;
        self.write_idle(f)?;
        self.write_costs(f)?;
        self.write_storms(f)?;
        self.write_latency(f)
    }
}

impl Report {
    fn write_idle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.idle.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nmemory of an idle connection    connections   bytes each   empty broker")?;
        for Idle { kind, connections, empty_bytes, bytes_per_connection, .. } in &self.idle {
            let name = kind.name();
            let mib = *empty_bytes as f64 / f64::from(1 << 20);
            write!(f, "  {name:28} {connections:12} {bytes_per_connection:12.0} {mib:10.1} MiB")?;
            if (*kind, *connections) == (Kind::Bridge, idle::BOUND_AT) {
                write!(f, "   bound {}: {}", idle::BYTES_MAX, held(*bytes_per_connection, idle::BYTES_MAX))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cost.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nCPU time of a QoS 1 message             locks    µs, median (range)     messages/s    {}",
            Shares::HEAD
        )?;
        for Cost { kind, locks, load, cpu_us, per_second, shares, .. } in &self.cost {
            let name = format!("{}, {}", kind.name(), load.name());
            let cpu_us = cpu_us.to_string();
            let per_second = per_second.median;
            writeln!(f, "  {name:34} {locks:8}   {cpu_us:22} {per_second:12.0} {shares}")?;
        }
        writeln!(f, "\nCPU time compared                                           ratio, median (range)")?;
        for Ratio { name, ratio } in &self.ratios {
            writeln!(f, "  {name:56}  {ratio:.2}")?;
        }
        Ok(())
    }

    fn write_storms(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.storms.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nPING of a bystander in a storm (ms)        per s    CPU µs       p50       p99       max   elsewhere max"
        )?;
        for storm in &self.storms {
            let event = match storm.event {
                Event::Connect => "connect",
                Event::Fin => "FIN",
                Event::Rst => "RST",
            };
            let sessions = if storm.kept_sessions { "kept" } else { "clean" };
            let name = format!("{}, {} {event}, {sessions}", storm.kind.name(), storm.locks);
            let (rate, here, max) = (storm.per_second(), storm.bystander, storm.elsewhere.max_ms);
            write!(
                f,
                "  {name:38} {rate:8.0} {:9.1} {:9.2} {:9.2} {:9.1} {max:12.1}",
                storm.cpu_us, here.p50_ms, here.p99_ms, here.max_ms
            )?;
            if storm.kind != Kind::Mosquitto {
                write!(f, "   bound {}: {}", storm::MAX_MS, held(here.max_ms, storm::MAX_MS))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latency.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\ndelay of a PUBACK (ms)     locks   per s       p50       p99     p99.9       max   p99 of the load: sending   reading"
        )?;
        for Latency { kind, locks, paced } in &self.latency {
            let (name, per_second, d, late) = (kind.name(), paced.rate_per_second, paced.delays, paced.late);
            writeln!(
                f,
                "  {name:20} {locks:9} {per_second:7.0} {:9.2} {:9.2} {:9.2} {:9.1} {:26.2} {:9.2}",
                d.p50_ms, d.p99_ms, d.p999_ms, d.max_ms, late.sending_p99_ms, late.reading_p99_ms
            )?;
        }
        Ok(())
    }
}

/// Whether a figure is as low as it must be.
pub(super) fn held(figure: f64, bound: f64) -> &'static str {
    if figure <= bound { "held" } else { "MISSED" }
}
