//! One broker with its locks, and what is done to it, in order: they connect, they rest, some
//! publish, all leave.

use std::net::SocketAddr;

use anyhow::Context;
use latchline_shared::keys::MasterKey;

use super::house::House;
use super::{Plan, Row, Way};
use crate::bench::cost::{Turn, turn};
use crate::bench::figures::Spread;
use crate::bench::latency;
use crate::bench::publishers::Publishers;
use crate::bench::storm::Bystanders;
use crate::bench::target::Surroundings;

/// A broker with connected locks.
pub(super) struct Stage {
    house: House,
    way: Way,
    master: MasterKey,
    publishers: Publishers,
    locks: u32,
    connects_per_second: f64,
    connect_cpu_us: f64,
    bytes_each: f64,
    stream_bytes_each: Option<f64>,
    turns: Vec<Turn>,
}

impl Stage {
    /// Starts a broker, and connects the locks.
    pub(super) async fn set(
        way: Way,
        locks: u32,
        surroundings: &Surroundings,
        plan: &Plan,
    ) -> anyhow::Result<Self> {
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
            way,
            locks,
            connects_per_second: f64::from(count) / filling.seconds,
            connect_cpu_us: filling.cpu_s * 1e6 / f64::from(count),
            bytes_each: each(filling.bytes),
            stream_bytes_each: filling.stream_bytes.map(each),
            turns: Vec::new(),
        })
    }

    /// Measures the cost of a message once more.
    pub(super) async fn cost(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let process = self.house.process()?;
        let (rate, window) = (plan.rate_per_second, plan.cost_window);
        self.turns.push(turn(process, &self.publishers, rate, plan.warm_up, window).await?);
        Ok(())
    }

    /// Everything else. Nothing is left of it in the end.
    pub(super) async fn play(mut self, calm: SocketAddr, plan: &Plan) -> anyhow::Result<Row> {
        let spread = |of: fn(&Turn) -> f64| Spread::of(self.turns.iter().map(of)).context("no turn");
        let open_cpu_us = spread(|turn| turn.open.cpu_us)?;
        let closed_cpu_us = spread(|turn| turn.closed.cpu_us)?;
        let closed_per_second = spread(|turn| turn.closed.per_second)?;

        let [delays, half_delays] = {
            let at = |rate| latency::delays(&self.publishers, rate, plan.warm_up, plan.delay_window);
            [at(plan.rate_per_second).await?, at(closed_per_second.median / 2.0).await?]
        };
        let everybody = self.house.report(plan).await?;
        let bystanders =
            Bystanders::start(self.house.address(), calm, &self.master, plan.probe_every).await?;
        let leave_seconds = self.house.empty().await?;
        let (ping, calm_ping) = bystanders.finish().await?;
        drop(self.publishers);
        self.house.finish()?;
        Ok(Row {
            way: self.way,
            locks: self.locks,
            connects_per_second: self.connects_per_second,
            connect_cpu_us: self.connect_cpu_us,
            bytes_each: self.bytes_each,
            stream_bytes_each: self.stream_bytes_each,
            open_cpu_us,
            closed_cpu_us,
            closed_per_second,
            delays,
            half_delays,
            everybody,
            leave_seconds,
            ping,
            calm_ping,
        })
    }
}
