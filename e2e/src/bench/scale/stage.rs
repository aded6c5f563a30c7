//! One broker with its locks, and what is done to it, in order: they connect, they rest, some
//! publish, all leave. Once something has failed, nothing more is done to it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use latchline_shared::keys::MasterKey;
use tokio::time::{Instant, sleep_until};

use super::house::House;
use super::{Departure, Everybody, Percentiles, Plan, Row, Turn, Way};
use crate::bench::figures::Spread;
use crate::bench::publishers::{Publishers, WINDOW};
use crate::bench::sample::{Late, Measuring, Paced, Sample};
use crate::bench::shares::Shares;
use crate::bench::storm::Bystanders;
use crate::bench::target::Surroundings;

/// Bystanders ping for so long, also where all have left sooner.
const PING_FOR: Duration = Duration::from_secs(1);

/// A broker with connected locks.
pub(super) struct Stage {
    pub(super) way: Way,
    pub(super) locks: u32,
    running: Option<Running>,
    turns: Vec<Turn>,
    /// Messages acknowledged before it failed.
    acknowledged: u64,
    failed: Option<String>,
}

struct Running {
    house: House,
    master: MasterKey,
    publishers: Publishers,
    connects_per_second: f64,
    connect_cpu_us: f64,
    bytes_each: f64,
    stream_bytes_each: Option<f64>,
}

/// What is known when all have left.
pub(super) struct End {
    pub(super) everybody: Option<Everybody>,
    pub(super) departure: Option<Departure>,
    pub(super) acknowledged: u64,
    pub(super) failed: Option<String>,
}

impl Stage {
    /// Starts a broker, and connects the locks.
    pub(super) async fn set(way: Way, locks: u32, surroundings: &Surroundings, plan: &Plan) -> Self {
        let mut stage = Self { way, locks, running: None, turns: Vec::new(), acknowledged: 0, failed: None };
        match Running::set(way, locks, surroundings, plan).await {
            Ok(running) => stage.running = Some(running),
            Err(error) => stage.fail("connecting", &error),
        }
        stage
    }

    /// How it is called.
    pub(super) fn name(&self) -> String {
        format!("{} locks, {}", self.locks, self.way.name())
    }

    /// What connecting came to, as a line.
    pub(super) fn connected(&self) -> String {
        match (&self.running, &self.failed) {
            (Some(running), _) => format!(
                "{}: {:.0} connects/s, {:.0} bytes each",
                self.name(),
                running.connects_per_second,
                running.bytes_each
            ),
            (None, failed) => failed.clone().unwrap_or_default(),
        }
    }

    fn fail(&mut self, part: &str, error: &anyhow::Error) {
        self.acknowledged = self.acked();
        self.running = None;
        let why = format!("{error:#}").lines().collect::<Vec<_>>().join("; ");
        self.failed = Some(format!("FAILED: {}, {part}: {why}", self.name()));
    }

    fn acked(&self) -> u64 {
        self.acknowledged + self.running.as_ref().map_or(0, |running| running.publishers.acked())
    }

    /// Measures the cost of a message once more.
    pub(super) async fn cost(&mut self, round: u32, plan: &Plan) {
        let Some(running) = &self.running else { return };
        match running.turn(round, plan).await {
            Ok(turn) => self.turns.push(turn),
            Err(error) => self.fail(&format!("turn {round}"), &error),
        }
    }

    /// What is known before all leave; nothing, if it has failed.
    pub(super) fn row(&self) -> Option<Row> {
        let (running, turns) = (self.running.as_ref()?, &self.turns);
        let spread = |of: fn(&Turn) -> f64| Spread::of(turns.iter().map(of));
        let shares: Vec<Shares> = turns.iter().map(|turn| turn.closed.shares).collect();
        Some(Row {
            way: self.way,
            locks: self.locks,
            connects_per_second: running.connects_per_second,
            connect_cpu_us: running.connect_cpu_us,
            bytes_each: running.bytes_each,
            stream_bytes_each: running.stream_bytes_each,
            open_cpu_us: spread(|turn| turn.open.sample.cpu_us)?,
            closed_cpu_us: spread(|turn| turn.closed.cpu_us)?,
            closed_per_second: spread(|turn| turn.closed.per_second)?,
            shares: Shares::medians(&shares)?,
            delays: Percentiles::of(turns.iter().map(|turn| &turn.open))?,
            half_delays: Percentiles::of(turns.iter().map(|turn| &turn.half))?,
            turns: turns.clone(),
            everybody: None,
            departure: None,
        })
    }

    /// Everything else. Nothing is left of it in the end.
    pub(super) async fn play(mut self, calm: SocketAddr, plan: &Plan) -> End {
        let (mut everybody, mut departure) = (None, None);
        let outcome = match &mut self.running {
            Some(running) => running.play(calm, plan, &mut everybody, &mut departure).await,
            None => Ok(()),
        };
        // What the sessions in the process reported does not come from the publishers.
        self.acknowledged += everybody.as_ref().map_or(0, |everybody| everybody.delays.count);
        if let Err(error) = outcome {
            self.fail("all leave", &error);
        }
        let acknowledged = self.acked();
        if let Some(Running { house, publishers, .. }) = self.running.take() {
            drop(publishers);
            if let Err(error) = house.finish() {
                self.fail("the end", &error);
            }
        }
        End { everybody, departure, acknowledged, failed: self.failed }
    }
}

impl Running {
    async fn set(way: Way, locks: u32, surroundings: &Surroundings, plan: &Plan) -> anyhow::Result<Self> {
        let first = plan.publishers;
        let count = locks.checked_sub(first).filter(|&count| count > 0);
        let count = count.with_context(|| format!("{locks} locks, of which {first} publish"))?;
        let (house, filling) = match way {
            Way::Sockets => House::on_sockets(first, count, surroundings).await?,
            Way::InProcess => House::in_process(first, count, surroundings).await?,
        };
        let each = |bytes: u64| bytes as f64 / f64::from(count);
        let master = MasterKey::from_hex(&surroundings.master_hex)?;
        let publishers = Publishers::connect(house.address(), &master, 0, first).await?;
        Ok(Self {
            house,
            master,
            publishers,
            connects_per_second: f64::from(count) / filling.seconds,
            connect_cpu_us: filling.cpu_s * 1e6 / f64::from(count),
            bytes_each: each(filling.bytes),
            stream_bytes_each: filling.stream_bytes.map(each),
        })
    }

    /// The closed loop and half of its rate, and the fixed rate: that last in even rounds, first in
    /// odd ones.
    async fn turn(&self, round: u32, plan: &Plan) -> anyhow::Result<Turn> {
        let measuring = Measuring {
            process: self.house.process()?,
            publishers: &self.publishers,
            turn: round,
            warm_up: plan.warm_up,
            window: plan.cost_window,
        };
        let rate = plan.rate_per_second;
        if round.is_multiple_of(2) {
            let (closed, half) = both(&measuring).await?;
            Ok(Turn { open: measuring.open(rate).await?, closed, half })
        } else {
            let open = measuring.open(rate).await?;
            let (closed, half) = both(&measuring).await?;
            Ok(Turn { open, closed, half })
        }
    }

    async fn play(
        &mut self,
        calm: SocketAddr,
        plan: &Plan,
        everybody: &mut Option<Everybody>,
        departure: &mut Option<Departure>,
    ) -> anyhow::Result<()> {
        *everybody = self.house.report(plan).await?;
        let address = self.house.address();
        let begun_at = Instant::now();
        let bystanders = Bystanders::start(address, calm, &self.master, plan.probe_every).await?;
        let seconds = self.house.empty().await?;
        sleep_until(begun_at + PING_FOR).await;
        let (ping, calm_ping) = bystanders.finish().await?;
        *departure = Some(Departure { seconds, ping, calm_ping });
        Ok(())
    }
}

async fn both(measuring: &Measuring<'_>) -> anyhow::Result<(Sample, Paced)> {
    let closed = measuring.closed(WINDOW).await?;
    let half = measuring.open(closed.per_second / 2.0).await?;
    Ok((closed, half))
}

impl Percentiles {
    fn of<'a>(turns: impl Iterator<Item = &'a Paced> + Clone) -> Option<Self> {
        let spread = |of: fn(&Paced) -> f64| Spread::of(turns.clone().map(of));
        Some(Self {
            rate_per_second: spread(|paced| paced.rate_per_second)?,
            count: turns.clone().map(|paced| paced.delays.count).sum(),
            p50_ms: spread(|paced| paced.delays.p50_ms)?,
            p99_ms: spread(|paced| paced.delays.p99_ms)?,
            late: Late {
                sending_p99_ms: spread(|paced| paced.late.sending_p99_ms)?.high,
                reading_p99_ms: spread(|paced| paced.late.reading_p99_ms)?.high,
            },
        })
    }
}
