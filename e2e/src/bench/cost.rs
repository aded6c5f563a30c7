//! CPU time that the broker's process spends on a QoS 1 message, from PUBLISH to PUBACK, with few
//! and with many locks connected. It must not grow with their number.
//!
//! All brokers of a group run at once, each with its idle locks and the same publishers, and are
//! measured by turns, so that whatever else the machine does, it does to all of them. Ratios are
//! of measurements of the same turn.

use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::keys::MasterKey;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::bench::figures::Spread;
use crate::bench::fleet::{Close, Fleet, Order};
use crate::bench::lock::Session;
use crate::bench::plan::Plan;
use crate::bench::publishers::Publishers;
use crate::bench::target::{Kind, Surroundings, Target, mosquitto};
use crate::process::Process;

/// How messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// At a fixed rate.
    Open,
    /// As fast as acknowledgements come.
    Closed,
}

impl Loop {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "fixed rate",
            Self::Closed => "closed loop",
        }
    }
}

/// The cost of a message in one broker under one load.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Which broker.
    pub kind: Kind,
    /// How many locks are connected, publishers included.
    pub locks: u32,
    /// How messages come.
    #[serde(rename = "loop")]
    pub load: Loop,
    /// Microseconds of CPU time per message.
    pub cpu_us: Spread,
    /// Messages acknowledged per second.
    pub per_second: Spread,
    /// CPU time, turn by turn.
    pub samples_cpu_us: Vec<f64>,
    /// Messages per second, turn by turn.
    pub samples_per_second: Vec<f64>,
}

/// What each turn consists of.
#[derive(Debug, Clone, Serialize)]
pub struct Turns {
    /// In each, every broker is measured once.
    pub rounds: u32,
    /// Length of a measurement at a fixed rate, and of one in a closed loop.
    pub window: Duration,
    /// From the start of a load to the start of a measurement.
    pub warm_up: Duration,
    /// Locks that publish.
    pub publishers: u32,
    /// Messages per second of all of them together at the fixed rate; none, if only the closed loop
    /// is measured.
    pub rate_per_second: Option<f64>,
}

/// A quotient of two costs.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// Of what to what.
    pub name: String,
    /// The quotient.
    pub ratio: Spread,
}

/// Measures our broker with its bridge, then without, beside mosquitto where that is installed.
pub async fn measure(surroundings: &Surroundings, plan: &Plan) -> anyhow::Result<Vec<Cost>> {
    let with = |kind| plan.cost_locks.iter().map(move |&locks| (kind, locks));
    let turns = plan.turns();
    let mut costs = group(with(Kind::Bridge).collect(), surroundings, &turns).await?;
    let beside = mosquitto().map(|_| (Kind::Mosquitto, plan.cost_locks_mosquitto));
    costs.extend(group(with(Kind::Alone).chain(beside).collect(), surroundings, &turns).await?);
    Ok(costs)
}

/// How the cost grows from the fewest to the most locks, and what it is beside mosquitto's.
pub fn ratios(costs: &[Cost], plan: &Plan) -> Vec<Ratio> {
    let find = |kind, locks, load| {
        costs.iter().find(|cost| (cost.kind, cost.locks, cost.load) == (kind, locks, load))
    };
    let ratio = |name: String, upper: Option<&Cost>, lower: Option<&Cost>| {
        let ratio = Spread::of_ratios(&upper?.samples_cpu_us, &lower?.samples_cpu_us)?;
        Some(Ratio { name, ratio })
    };
    let (Some(&few), Some(&many)) = (plan.cost_locks.first(), plan.cost_locks.last()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for load in [Loop::Open, Loop::Closed] {
        for kind in [Kind::Bridge, Kind::Alone] {
            let name = format!("{many} locks to {few}, {}, {}", kind.name(), load.name());
            found.extend(ratio(name, find(kind, many, load), find(kind, few, load)));
        }
        let locks = plan.cost_locks_mosquitto;
        let name = format!("ours without bridge to mosquitto, {locks} locks, {}", load.name());
        found.extend(ratio(name, find(Kind::Alone, locks, load), find(Kind::Mosquitto, locks, load)));
    }
    found
}

/// A broker with its locks, and what was measured.
struct Seat {
    target: Target,
    locks: u32,
    _idle: Option<Fleet>,
    publishers: Publishers,
    /// Whether it is asked to take the fixed rate.
    is_fast: bool,
    open: Vec<Sample>,
    closed: Vec<Sample>,
}

/// A measurement of some seconds.
pub(super) struct Sample {
    /// Microseconds of CPU time per message.
    pub(super) cpu_us: f64,
    /// Messages acknowledged per second.
    pub(super) per_second: f64,
}

/// Measures brokers with this many locks each, by turns. rumqttd gets slow with many locks; where its
/// closed loop is slower than the fixed rate, it has no row for that: its backlog would only grow.
pub(crate) async fn group(
    members: Vec<(Kind, u32)>,
    surroundings: &Surroundings,
    turns: &Turns,
) -> anyhow::Result<Vec<Cost>> {
    let mut seats = Vec::new();
    for (kind, locks) in members {
        let seat = Seat::take(kind, locks, surroundings, turns).await;
        seats.push(seat.with_context(|| format!("{} with {locks} locks", kind.name()))?);
    }
    for round in 0..turns.rounds {
        for number in 0..seats.len() {
            // There and back, so that what changes steadily favours nobody.
            let number = if round % 2 == 0 { number } else { seats.len() - 1 - number };
            let seat = &mut seats[number];
            let name = seat.target.kind().name();
            seat.measure(turns).await.with_context(|| format!("{name}, turn {round}"))?;
        }
    }
    let mut costs = Vec::new();
    for seat in seats {
        for (load, samples) in [(Loop::Open, &seat.open), (Loop::Closed, &seat.closed)] {
            costs.extend(cost(&seat, load, samples));
        }
        drop(seat.publishers);
        seat.target.finish()?;
    }
    Ok(costs)
}

fn cost(seat: &Seat, load: Loop, samples: &[Sample]) -> Option<Cost> {
    let samples_cpu_us: Vec<f64> = samples.iter().map(|sample| sample.cpu_us).collect();
    let samples_per_second: Vec<f64> = samples.iter().map(|sample| sample.per_second).collect();
    Some(Cost {
        kind: seat.target.kind(),
        locks: seat.locks,
        load,
        cpu_us: Spread::of(samples_cpu_us.iter().copied())?,
        per_second: Spread::of(samples_per_second.iter().copied())?,
        samples_cpu_us,
        samples_per_second,
    })
}

impl Seat {
    async fn take(
        kind: Kind,
        locks: u32,
        surroundings: &Surroundings,
        turns: &Turns,
    ) -> anyhow::Result<Self> {
        let target = Target::start(kind, surroundings).await?;
        let (server, first) = (target.address(), turns.publishers);
        let idle = match locks.saturating_sub(first) {
            0 => None,
            count => {
                let order = Order { server, first, count, session: Session::Kept, close: Close::Rst };
                Some(Fleet::connect(order, &surroundings.master_hex).await?)
            }
        };
        let master = MasterKey::from_hex(&surroundings.master_hex)?;
        let publishers = Publishers::connect(server, &master, 0, first).await?;
        let (open, closed) = (Vec::new(), Vec::new());
        Ok(Self { target, locks, _idle: idle, publishers, is_fast: true, open, closed })
    }

    async fn measure(&mut self, turns: &Turns) -> anyhow::Result<()> {
        let (process, publishers) = (self.target.process()?, &self.publishers);
        let sample = closed(process, publishers, turns.warm_up, turns.window).await?;
        let is_slow = turns.rate_per_second.is_some_and(|rate| sample.per_second < rate);
        self.closed.push(sample);
        // Who has taken the rate once is asked in every turn.
        self.is_fast &= self.target.kind() != Kind::Rumqttd || !self.open.is_empty() || !is_slow;
        if let Some(rate) = turns.rate_per_second.filter(|_| self.is_fast) {
            self.open.push(open(process, publishers, rate, turns.warm_up, turns.window).await?);
        }
        Ok(())
    }
}

/// What was measured in one turn.
pub(super) struct Turn {
    /// At a fixed rate.
    pub(super) open: Sample,
    /// In a closed loop.
    pub(super) closed: Sample,
}

/// Measures a process under both loads.
pub(super) async fn turn(
    process: &Process,
    publishers: &Publishers,
    per_second: f64,
    warm_up: Duration,
    window: Duration,
) -> anyhow::Result<Turn> {
    let open = open(process, publishers, per_second, warm_up, window).await?;
    let closed = closed(process, publishers, warm_up, window).await?;
    Ok(Turn { open, closed })
}

async fn open(
    process: &Process,
    publishers: &Publishers,
    per_second: f64,
    warm_up: Duration,
    window: Duration,
) -> anyhow::Result<Sample> {
    let load = publishers.open_loop(per_second)?;
    let sample = sample(process, publishers, warm_up, window).await?;
    drop(load);
    publishers.drain().await?;
    Ok(sample)
}

async fn closed(
    process: &Process,
    publishers: &Publishers,
    warm_up: Duration,
    window: Duration,
) -> anyhow::Result<Sample> {
    publishers.closed_loop()?;
    let sample = sample(process, publishers, warm_up, window).await?;
    publishers.drain().await?;
    Ok(sample)
}

/// CPU time and acknowledgements between two moments under an even load.
async fn sample(
    process: &Process,
    publishers: &Publishers,
    warm_up: Duration,
    window: Duration,
) -> anyhow::Result<Sample> {
    sleep(warm_up).await;
    let look = || anyhow::Ok((process.cpu_time()?, publishers.acked()));
    let (begun_at, (cpu_before, acked_before)) = (Instant::now(), look()?);
    sleep(window).await;
    let (elapsed, (cpu, acked)) = (begun_at.elapsed(), look()?);
    publishers.check()?;
    let messages = acked - acked_before;
    ensure!(messages > 0, "no message is acknowledged in {window:?}");
    Ok(Sample {
        cpu_us: cpu.saturating_sub(cpu_before).as_secs_f64() * 1e6 / messages as f64,
        per_second: messages as f64 / elapsed.as_secs_f64(),
    })
}
