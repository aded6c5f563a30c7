//! What a run of the load says in the end: a table for people, and JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::figures::Delays;
use crate::bench::report::Machine;
use crate::load::look::{Quality, Thread};
use crate::load::tally::{Fault, Kind};

/// A thread of the load that is as busy is the limit of what is measured.
const LIMIT_PERCENT: f64 = 90.0;

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
    /// What was asked for.
    pub setup: Setup,
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
    /// How late the load read what had come.
    pub reading: Delays,
    /// What did not work at once, and was tried again.
    pub retries: Vec<Fault>,
    /// What went wrong.
    pub faults: Vec<Fault>,
}

/// What a run was asked to do, so that two runs can be compared.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Setup {
    /// Locks.
    pub connections: u32,
    /// Connections beside them.
    pub beside: u32,
    /// Connections opened at once.
    pub at_once: u32,
    /// Connections opened per second, where they were not opened as fast as may be.
    pub connect_rate: Option<f64>,
    /// Keep alive of each.
    pub keep_alive_s: u16,
    /// Whether the broker keeps the locks' sessions.
    pub kept: bool,
    /// How many connections sent messages.
    pub senders: u32,
    /// When they sent them.
    pub pacing: Pacing,
    /// How long they did before it was measured.
    pub warm_up_s: f64,
    /// How long was measured.
    pub seconds: f64,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pacing {
    /// Never.
    #[default]
    None,
    /// At a rate, whatever comes back.
    OpenLoop {
        /// Of all senders together.
        per_second: f64,
    },
    /// When one before is acknowledged.
    ClosedLoop {
        /// Messages of each sender under way, if the broker allows as many.
        window: u16,
    },
    /// When the socket takes them (QoS 0).
    Flood,
    /// By each lock every so often, and to some of them.
    Fleet {
        /// Seconds between two reports of a lock.
        every_s: f64,
        /// By how much more or less.
        jitter_s: f64,
        /// Commands of all operators together.
        unlocks_per_second: f64,
    },
}

impl Pacing {
    /// Whether messages are due whatever became of those before them.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::ClosedLoop { .. } | Self::Flood)
    }
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no messages"),
            Self::OpenLoop { per_second } => write!(f, "open loop, {per_second} a second"),
            Self::ClosedLoop { window } => write!(f, "closed loop, {window} of each under way"),
            Self::Flood => f.write_str("as much as the sockets take"),
            Self::Fleet { every_s, jitter_s, unlocks_per_second } => write!(
                f,
                "open loop, each lock every {every_s} s, give or take {jitter_s}; {unlocks_per_second} unlocks a second"
            ),
        }
    }
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
    /// How busy its threads were.
    pub load_threads: Vec<Thread>,
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
    /// How exactly that is.
    pub memory_quality: Quality,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_after: Option<Delays>,
    /// From when they were due until they were received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_after: Option<Delays>,
    /// In a closed loop nothing is due, so a broker that stalls is asked for less: from when they were
    /// sent to their acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_loop_round_trip: Option<Delays>,
    /// In a closed loop: from when they were sent until they were received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_loop_delivery: Option<Delays>,
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
        self.write_setup(f)?;
        writeln!(f, "{processor}, {cores} cores, Linux {kernel}; load {load_before:.1} before")?;
        self.write_phases(f)?;
        self.write_delays(f)?;
        self.write_faults(f)
    }
}

impl Report {
    fn write_setup(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { connections, beside, at_once, connect_rate, keep_alive_s, kept, .. } = self.setup;
        let rate = connect_rate.map_or_else(String::new, |rate| format!(", {rate} a second"));
        let kept = if kept { ", sessions kept" } else { "" };
        writeln!(
            f,
            "{connections} locks, {beside} beside them; {at_once} opened at once{rate}; keep alive {keep_alive_s} s{kept}"
        )?;
        let Setup { senders, pacing, warm_up_s, seconds, .. } = self.setup;
        if pacing == Pacing::None {
            return Ok(());
        }
        writeln!(f, "{senders} senders: {pacing}; {warm_up_s} s of warm-up, {seconds} s measured")
    }

    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:36} {:>9} {:>8} {:>9} {:>12} {:>12}",
            "", "count", "s", "per s", "CPU µs each", "bytes each"
        )?;
        for phase in &self.phases {
            let Phase { name, seconds, count, per_second, load_cpu_us_each, load_threads, processes } = phase;
            writeln!(f, "{name:36} {count:9} {seconds:8.2} {per_second:9.0}")?;
            processes.iter().try_for_each(|usage| usage.write(f, *seconds))?;
            let cpu = figure(*load_cpu_us_each, 1);
            write!(f, "{:36} {:28} {cpu:>12} {:12}  ", "  the load itself", "", "")?;
            for Thread { name, percent } in load_threads {
                let limit = if *percent >= LIMIT_PERCENT { ", its limit" } else { "" };
                write!(f, " {name} {percent:.0} %{limit};")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_delays(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["count", "p50", "p95", "p99", "p99.9", "max"].map(|word| format!("{word:>9}")).join(" ");
        writeln!(f, "\n{:36} {head}", "from when it was due, ms")?;
        write_delay(f, "connected", &self.connect)?;
        for messages in &self.messages {
            let name = messages.kind.name();
            for (what, delays) in [
                ("acknowledged", &messages.acked_after),
                ("received", &messages.received_after),
                ("round trip, closed loop", &messages.closed_loop_round_trip),
                ("received, closed loop", &messages.closed_loop_delivery),
            ] {
                delays.iter().try_for_each(|delays| write_delay(f, &format!("{name} {what}"), delays))?;
            }
        }
        write_delay(f, "the load's own lateness: pacing", &self.pace)?;
        write_delay(f, "the load's own lateness: reading", &self.reading)?;
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
        for Fault { cause, count, first } in &self.retries {
            write!(f, "\n{count} {}, tried again; the first: {first}", cause.name())?;
        }
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

impl Usage {
    fn write(&self, f: &mut fmt::Formatter<'_>, seconds: f64) -> fmt::Result {
        let percent = 100.0 * self.cpu_seconds / seconds.max(1e-6);
        let name = format!("  {} ({})", self.name, self.pid);
        let (cpu, memory) = (figure(self.cpu_us_each, 1), figure(self.memory_bytes_each, 0));
        let mib = self.memory_bytes as f64 / f64::from(1 << 20);
        let quality = match self.memory_quality {
            Quality::Exact => "",
            Quality::Rough => " or so",
            Quality::Restless => ", not at rest",
        };
        writeln!(f, "{name:36} {:28} {cpu:>12} {memory:>12}   {mib:.1} MiB{quality}, {percent:.0} % CPU", "")
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
