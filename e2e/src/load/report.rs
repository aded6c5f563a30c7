//! What a run of the load says in the end: a table for people, and JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::figures::Delays;
use crate::bench::report::Machine;
use crate::load::tally::{Fault, Kind};

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which mode.
    pub mode: &'static str,
    /// Which broker.
    pub target: String,
    /// MQTT 3.1.1 or 5.
    pub protocol: &'static str,
    /// Whether through TLS.
    pub tls: bool,
    /// Quality of service of the messages.
    pub qos: u8,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Where the randomness began.
    pub seed: u64,
    /// Where, and how busy the machine was.
    pub machine: Machine,
    /// What was done, one after the other.
    pub phases: Vec<Phase>,
    /// Delays of connections, subscriptions included.
    pub connect: Delays,
    /// Messages, by kind; only those that there were.
    pub messages: Vec<Messages>,
    /// How late the load's own thread was, where it paced.
    pub pace: Delays,
    /// What went wrong.
    pub faults: Vec<Fault>,
}

/// Something that took a while, for so many connections or messages.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// To how many, or how often.
    pub count: u64,
    /// How many a second.
    pub per_second: f64,
    /// What the load itself needed: microseconds of CPU time each.
    pub load_cpu_us_each: Option<f64>,
    /// What the processes needed.
    pub processes: Vec<Usage>,
}

/// What a process needed in a phase.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// CPU time, children not counted.
    pub cpu_seconds: f64,
    /// Microseconds of CPU time each.
    pub cpu_us_each: Option<f64>,
    /// Resident memory at the end.
    pub memory_bytes: u64,
    /// What it has grown by, each, where that means something.
    pub memory_bytes_each: Option<f64>,
}

/// Messages of a kind.
#[derive(Debug, Clone, Serialize)]
pub struct Messages {
    /// Which kind.
    pub kind: Kind,
    /// How many were due.
    pub due: u64,
    /// How many were acknowledged; at QoS 0, sent.
    pub acked: u64,
    /// How many were received, by all receivers.
    pub received: u64,
    /// How many of those came again.
    pub double: u64,
    /// From when they were due to their acknowledgement.
    pub acked_after: Delays,
    /// From when they were due until they were received.
    pub received_after: Delays,
}

impl Report {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, kernel, load_before } = &self.machine;
        let Self { mode, target, protocol, qos, payload_bytes, seed, .. } = self;
        let tls = if self.tls { ", TLS" } else { "" };
        writeln!(
            f,
            "load {mode} of {target}: MQTT {protocol}{tls}, QoS {qos}, {payload_bytes} bytes, seed {seed}"
        )?;
        writeln!(f, "{processor}, {cores} cores, Linux {kernel}; load {load_before:.1} before")?;
        self.write_phases(f)?;
        self.write_delays(f)?;
        self.write_faults(f)
    }
}

impl Report {
    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:36} {:>9} {:>8} {:>9} {:>12} {:>12}",
            "", "count", "s", "per s", "CPU µs each", "bytes each"
        )?;
        for phase in &self.phases {
            let Phase { name, seconds, count, per_second, load_cpu_us_each, processes } = phase;
            writeln!(f, "{name:36} {count:9} {seconds:8.2} {per_second:9.0}")?;
            for Usage { pid, name, cpu_seconds, cpu_us_each, memory_bytes, memory_bytes_each } in processes {
                let percent = 100.0 * cpu_seconds / seconds.max(1e-6);
                let name = format!("  {name} ({pid})");
                let (cpu, memory) = (figure(*cpu_us_each, 1), figure(*memory_bytes_each, 0));
                let mib = *memory_bytes as f64 / f64::from(1 << 20);
                writeln!(f, "{name:36} {:28} {cpu:>12} {memory:>12}   {mib:.1} MiB, {percent:.0} % CPU", "")?;
            }
            writeln!(f, "{:36} {:28} {:>12}", "  the load itself", "", figure(*load_cpu_us_each, 1))?;
        }
        Ok(())
    }

    fn write_delays(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["count", "p50", "p95", "p99", "p99.9", "max"].map(|word| format!("{word:>9}")).join(" ");
        writeln!(f, "\n{:36} {head}", "from when it was due, ms")?;
        write_delay(f, "connected", &self.connect)?;
        for messages in &self.messages {
            let name = messages.kind.name();
            write_delay(f, &format!("{name} acknowledged"), &messages.acked_after)?;
            write_delay(f, &format!("{name} received"), &messages.received_after)?;
        }
        write_delay(f, "the load's own lateness", &self.pace)?;
        if self.messages.is_empty() {
            return Ok(());
        }
        let head = ["due", "acked", "received", "double"].map(|word| format!("{word:>9}")).join(" ");
        writeln!(f, "\n{:36} {head}", "from first to last")?;
        for Messages { kind, due, acked, received, double, .. } in &self.messages {
            writeln!(f, "{:36} {due:9} {acked:9} {received:9} {double:9}", kind.name())?;
        }
        Ok(())
    }

    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return writeln!(f, "\nnothing lost, refused or disconnected");
        }
        writeln!(f)?;
        for Fault { cause, count, first } in &self.faults {
            writeln!(f, "{count} {}; the first: {first}", cause.name())?;
        }
        Ok(())
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn write_delay(f: &mut fmt::Formatter<'_>, name: &str, delays: &Delays) -> fmt::Result {
    let Delays { count, p50_ms, p95_ms, p99_ms, p999_ms, max_ms } = delays;
    if *count == 0 {
        return Ok(());
    }
    writeln!(f, "{name:36} {count:9} {p50_ms:9.2} {p95_ms:9.2} {p99_ms:9.2} {p999_ms:9.2} {max_ms:9.1}")
}
