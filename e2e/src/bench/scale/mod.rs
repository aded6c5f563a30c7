//! The broker with few locks and with a million: how fast they connect, what memory each takes, what
//! a message costs, how long its acknowledgement takes, and what a bystander feels when all leave at
//! once. None of it should grow with their number.
//!
//! On sockets, as many as one process may have open files; beyond that in the broker's own process
//! ([`crowd`]). Publishers and bystanders come through sockets in either case, so that the rows of
//! both kinds compare. All brokers run at once; the cost of a message and its delays are measured by
//! turns. Connecting and leaving is measured once each, one broker after the other.
//!
//! A broker that fails is a line with its reason, the others are measured all the same, and the run
//! fails after the table ([`Scale::check`]); so it does if Kafka lacks what was acknowledged.

pub mod crowd;
pub(crate) mod house;
mod picture;
mod stage;
mod table;

use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::bench::figures::{Delays, Spread};
use crate::bench::fleet::files_max;
use crate::bench::group::there_and_back;
use crate::bench::progress::Progress;
use crate::bench::report::Machine;
use crate::bench::sample::{Late, Paced, Sample};
use crate::bench::shares::Shares;
use crate::bench::stored::{Ends, Stored};
use crate::bench::target::{Kind, Surroundings, Target};
use stage::Stage;

/// Connections a second that must be taken, with authentication.
pub const CONNECTS_PER_SECOND_MIN: f64 = 5_000.0;
/// From so many on; fewer are there before it has begun.
pub const CONNECTS_FROM: u32 = 1_000;
/// Memory that each may take.
pub const BYTES_MAX: f64 = 4_096.0;
/// From so many on; the memory that the process has anyway is divided by more, then.
pub const BYTES_FROM: u32 = 19_500;
/// An acknowledgement at half the rate of the closed loop, all but one in a hundred.
pub const HALF_P99_MS_MAX: f64 = 20.0;

/// Of fewer pings, the longest says nothing.
pub const PINGS_MIN: u64 = 100;
/// Files that a broker keeps for itself, its publishers and bystanders.
const FILES_SPARE: u32 = 400;

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Connected locks on sockets, publishers included.
    pub sockets: Vec<u32>,
    /// Numbers of them for which a process may not have enough open files here.
    pub sockets_left_out: Vec<u32>,
    /// Sessions over streams in the broker's process, publishers included.
    pub sessions: Vec<u32>,
    /// Locks that publish.
    pub publishers: u32,
    /// Messages a second of all of them together, where the rate is fixed.
    pub rate_per_second: f64,
    /// Turns.
    pub rounds: u32,
    /// Length of a measurement of the cost of a message.
    pub cost_window: Duration,
    /// How long every session reports in turn.
    pub report_window: Duration,
    /// From the start of a load to the start of a measurement.
    pub warm_up: Duration,
    /// Pause between two PINGREQ of a bystander.
    pub probe_every: Duration,
}

impl Plan {
    /// What `docs/benchmarks.md` shows, and what else the machine gives.
    pub fn full() -> Self {
        Self {
            sockets: vec![100, 1_000, 10_000, 19_500, 100_000],
            sockets_left_out: Vec::new(),
            sessions: vec![100_000, 1_000_000],
            publishers: 50,
            rate_per_second: 5_000.0,
            rounds: 5,
            cost_window: Duration::from_secs(3),
            report_window: Duration::from_secs(10),
            warm_up: Duration::from_millis(500),
            probe_every: Duration::from_millis(2),
        }
    }

    /// To see that it works.
    pub fn small() -> Self {
        Self {
            sockets: vec![20, 40],
            sockets_left_out: Vec::new(),
            sessions: vec![100],
            publishers: 5,
            rate_per_second: 500.0,
            rounds: 2,
            cost_window: Duration::from_millis(300),
            report_window: Duration::from_millis(300),
            warm_up: Duration::from_millis(50),
            probe_every: Duration::from_millis(2),
        }
    }

    /// Leaves out what is more than a process may have open files.
    pub fn fit(mut self) -> anyhow::Result<Self> {
        let most = sockets_max()?;
        (self.sockets, self.sockets_left_out) = self.sockets.into_iter().partition(|&locks| locks <= most);
        Ok(self)
    }
}

/// Locks that one broker may have on sockets here.
fn sockets_max() -> anyhow::Result<u32> {
    Ok(files_max()?.saturating_sub(FILES_SPARE))
}

/// How clients reach the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// TCP over the loopback network.
    Sockets,
    /// A stream in the broker's process.
    InProcess,
}

impl Way {
    /// The name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::InProcess => "in process",
        }
    }
}

/// Everything about one number of locks.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// How they are connected.
    pub way: Way,
    /// How many, publishers included.
    pub locks: u32,
    /// Connections a second, from the first CONNECT to the last SUBACK.
    pub connects_per_second: f64,
    /// CPU time of the broker in microseconds for each; a busy machine changes it less than the rate.
    pub connect_cpu_us: f64,
    /// Bytes that the process has grown by, each; without the streams, if those are in it.
    pub bytes_each: f64,
    /// What a stream in the process takes, with the client at its other end.
    pub stream_bytes_each: Option<f64>,
    /// CPU time of a message in microseconds, at the fixed rate.
    pub open_cpu_us: Spread,
    /// The same in a closed loop.
    pub closed_cpu_us: Spread,
    /// Messages a second in the closed loop: the highest rate of broker, load and machine together.
    pub closed_per_second: Spread,
    /// Who had the processors then.
    pub shares: Shares,
    /// From when a message was due to its PUBACK, at the fixed rate.
    pub delays: Percentiles,
    /// The same at half the rate that the closed loop of the same turn had.
    pub half_delays: Percentiles,
    /// Turn by turn.
    pub turns: Vec<Turn>,
    /// When every session reports in turn, not only the publishers, at the fixed rate.
    pub everybody: Option<Everybody>,
    /// When all leave; nothing before they have.
    pub departure: Option<Departure>,
}

/// One turn of one broker.
#[derive(Debug, Clone, Serialize)]
pub struct Turn {
    /// At the fixed rate.
    pub open: Paced,
    /// In a closed loop.
    pub closed: Sample,
    /// At half its rate.
    pub half: Paced,
}

/// Delays of several turns.
#[derive(Debug, Clone, Serialize)]
pub struct Percentiles {
    /// Messages due per second.
    pub rate_per_second: Spread,
    /// How many there were.
    pub count: u64,
    /// Half were shorter, turn by turn.
    pub p50_ms: Spread,
    /// All but one in a hundred were shorter.
    pub p99_ms: Spread,
    /// How late the load itself was in its worst turn.
    pub late: Late,
}

/// All leave at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Departure {
    /// How long it takes until the broker has let go of everybody.
    pub seconds: f64,
    /// PING of a bystander meanwhile, and for a second at least.
    pub ping: Delays,
    /// PING at a broker that nobody leaves, at the same time.
    pub calm_ping: Delays,
}

/// Every session has reported in turn.
#[derive(Debug, Clone, Serialize)]
pub struct Everybody {
    /// CPU time of a message in microseconds, without that of the clients' thread.
    pub cpu_us: f64,
    /// From when a message was due to its PUBACK.
    pub delays: Delays,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Scale {
    /// Where.
    pub machine: Machine,
    /// Which Kafka.
    pub kafka: String,
    /// How much.
    pub plan: Plan,
    /// By number of locks.
    pub rows: Vec<Row>,
    /// What was to be measured and failed, and why.
    pub failed: Vec<String>,
    /// What was acknowledged, and Kafka's end of it.
    pub stored: Option<Stored>,
}

impl Scale {
    /// Fails if a broker has failed, or if Kafka lacks what was acknowledged.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(failed) = self.failed.first() {
            bail!("{failed}");
        }
        self.stored.iter().try_for_each(Stored::check)
    }
}

/// Measures; tells of each part that begins or has ended.
pub async fn measure(
    kafka: String,
    surroundings: &Surroundings,
    plan: Plan,
    mut tell: impl FnMut(Progress<'_, Scale>),
) -> anyhow::Result<Scale> {
    let (most, asked) = (sockets_max()?, plan.sockets.iter().max().copied().unwrap_or_default());
    ensure!(
        asked <= most,
        "{asked} locks on sockets: a broker has {} open files here, enough for {most}; more by ulimit -Hn",
        files_max()?
    );
    let (machine, ends) = (Machine::this()?, Ends::look(&surroundings.kafka).await?);
    let calm = Target::start(Kind::Bridge, surroundings).await?;
    let mut stages = connect(surroundings, &plan, &mut tell).await;
    for round in 0..plan.rounds {
        for number in there_and_back(stages.len(), round) {
            tell(Progress::Begins(&format!("turn {round}, {}", stages[number].name())));
            stages[number].cost(round, &plan).await;
        }
    }
    let rows = stages.iter().filter_map(Stage::row).collect();
    let mut scale = Scale { machine, kafka, plan, rows, failed: Vec::new(), stored: None };
    tell(Progress::Ended(&scale, &scale.costs_table()));
    let mut acknowledged = 0;
    for stage in stages {
        tell(Progress::Begins(&format!("all leave, {}", stage.name())));
        let (way, locks) = (stage.way, stage.locks);
        let end = stage.play(calm.address(), &scale.plan).await;
        acknowledged += end.acknowledged;
        scale.failed.extend(end.failed);
        if let Some(row) = scale.rows.iter_mut().find(|row| (row.way, row.locks) == (way, locks)) {
            (row.everybody, row.departure) = (end.everybody, end.departure);
        }
        tell(Progress::Ended(&scale, ""));
    }
    scale.stored = Some(ends.stored("all brokers".to_owned(), acknowledged).await?);
    calm.finish()?;
    Ok(scale)
}

/// One broker after the other, all of which stay.
async fn connect(
    surroundings: &Surroundings,
    plan: &Plan,
    tell: &mut impl FnMut(Progress<'_, Scale>),
) -> Vec<Stage> {
    let with = |way, numbers: &[u32]| numbers.iter().map(|&locks| (way, locks)).collect::<Vec<_>>();
    let mut stages = Vec::new();
    for (way, locks) in
        with(Way::Sockets, &plan.sockets).into_iter().chain(with(Way::InProcess, &plan.sessions))
    {
        tell(Progress::Begins(&format!("connecting {locks}, {}", way.name())));
        let stage = Stage::set(way, locks, surroundings, plan).await;
        tell(Progress::Begins(&stage.connected()));
        stages.push(stage);
    }
    stages
}
