//! The broker with few locks and with a million: how fast they connect, what memory each takes, what
//! a message costs, how long its acknowledgement takes, and what a bystander feels when all leave at
//! once. None of it should grow with their number.
//!
//! On sockets, as many as one process may have open files; beyond that in the broker's own process
//! ([`crowd`]). Publishers and bystanders come through sockets in either case, so that the rows of
//! both kinds compare. All brokers run at once, and the cost of a message is measured by turns.

pub mod crowd;
pub(crate) mod house;
mod picture;
mod stage;
mod table;

use std::time::Duration;

use serde::Serialize;

use crate::bench::figures::{Delays, Spread};
use crate::bench::report::Machine;
use crate::bench::target::{Kind, Surroundings, Target};
use stage::Stage;

/// Connections a second that must be taken, with authentication.
pub const CONNECTS_PER_SECOND_MIN: f64 = 5_000.0;
/// Memory that each may take.
pub const BYTES_MAX: f64 = 4_096.0;
/// From so many on; the memory that the process has anyway is divided by more, then.
pub const BYTES_FROM: u32 = 19_500;
/// An acknowledgement at half the highest rate, all but one in a hundred.
pub const HALF_P99_MS_MAX: f64 = 20.0;

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Connected locks on sockets, publishers included.
    pub sockets: Vec<u32>,
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
    /// How long delays are measured.
    pub delay_window: Duration,
    /// From the start of a load to the start of a measurement.
    pub warm_up: Duration,
    /// Pause between two PINGREQ of a bystander.
    pub probe_every: Duration,
}

impl Plan {
    /// What `docs/benchmarks.md` shows.
    pub fn full() -> Self {
        Self {
            sockets: vec![100, 1_000, 10_000, 19_500],
            sessions: vec![100_000, 1_000_000],
            publishers: 50,
            rate_per_second: 5_000.0,
            rounds: 5,
            cost_window: Duration::from_secs(3),
            delay_window: Duration::from_secs(10),
            warm_up: Duration::from_millis(500),
            probe_every: Duration::from_millis(2),
        }
    }

    /// To see that it works.
    pub fn small() -> Self {
        Self {
            sockets: vec![20, 40],
            sessions: vec![100],
            publishers: 5,
            rate_per_second: 500.0,
            rounds: 2,
            cost_window: Duration::from_millis(300),
            delay_window: Duration::from_millis(300),
            warm_up: Duration::from_millis(50),
            probe_every: Duration::from_millis(2),
        }
    }
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
    /// Messages a second in the closed loop: the highest rate.
    pub closed_per_second: Spread,
    /// From when a message was due to its PUBACK, at the fixed rate.
    pub delays: Delays,
    /// The same at half the highest rate.
    pub half_delays: Delays,
    /// When every session reports in turn, not only the publishers, at the fixed rate.
    pub everybody: Option<Everybody>,
    /// How long it takes until the broker has let go of everybody.
    pub leave_seconds: f64,
    /// PING of a bystander meanwhile.
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
}

/// Measures.
pub async fn measure(kafka: String, surroundings: &Surroundings, plan: Plan) -> anyhow::Result<Scale> {
    let machine = Machine::this()?;
    let calm = Target::start(Kind::Bridge, surroundings).await?;
    let with = |way, numbers: &[u32]| numbers.iter().map(|&locks| (way, locks)).collect::<Vec<_>>();
    let mut stages = Vec::new();
    for (way, locks) in
        with(Way::Sockets, &plan.sockets).into_iter().chain(with(Way::InProcess, &plan.sessions))
    {
        tracing::info!(way = way.name(), locks, "connecting");
        stages.push(Stage::set(way, locks, surroundings, &plan).await?);
    }
    for round in 0..plan.rounds {
        tracing::info!(round, "measuring the cost of a message");
        for number in 0..stages.len() {
            // There and back, so that what changes steadily favours nobody.
            let number = if round % 2 == 0 { number } else { stages.len() - 1 - number };
            stages[number].cost(&plan).await?;
        }
    }
    let mut rows = Vec::new();
    for stage in stages {
        rows.push(stage.play(calm.address(), &plan).await?);
    }
    calm.finish()?;
    Ok(Scale { machine, kafka, plan, rows })
}
