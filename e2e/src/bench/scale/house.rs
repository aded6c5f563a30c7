//! A broker with its locks but for those that publish, on sockets or in its own process: filled,
//! looked at from outside, and emptied.

use std::net::SocketAddr;

use anyhow::Context;

use super::crowd::reports::Reports;
use super::crowd::{Deed, Done, ORDERS, Orders};
use super::{Everybody, Plan};
use crate::bench::fleet::{Close, Fleet, Order};
use crate::bench::idle::calm_bytes;
use crate::bench::lock::Session;
use crate::bench::storm::leave;
use crate::bench::target::{Kind, Surroundings, Target, settings};
use crate::process::Process;
use crate::stack::program::{Name, Program};

/// A million sessions and some: the broker's default is a bound that this measurement is to exceed, and
/// fewer than `limits.connections_max` it does not take.
pub(crate) const SESSIONS_MAX: u32 = 1_100_000;
/// Sessions of publishers and bystanders, where there are still more.
const SESSIONS_SPARE: u32 = 1_000;

/// The broker and its locks.
pub(super) enum House {
    Sockets { target: Target, fleet: Option<Fleet> },
    InProcess { program: Program, orders: Orders },
}

/// What it took to connect the locks.
pub(super) struct Filling {
    pub(super) seconds: f64,
    /// CPU time of the broker's process, without that of clients in it.
    pub(super) cpu_s: f64,
    /// That the process has grown by, without the streams.
    pub(super) bytes: u64,
    /// The streams, if they are in the process.
    pub(super) stream_bytes: Option<u64>,
}

impl House {
    /// A broker whose locks are in another process.
    pub(super) async fn on_sockets(
        first: u32,
        count: u32,
        surroundings: &Surroundings,
    ) -> anyhow::Result<(Self, Filling)> {
        let target = Target::start(Kind::Bridge, surroundings).await?;
        let empty_bytes = calm_bytes(target.process()?).await?;
        let order =
            Order { server: target.address(), first, count, session: Session::Clean, close: Close::Fin };
        let cpu_before = target.process()?.cpu_time()?;
        let mut fleet = Fleet::start(order, &surroundings.master_hex)?;
        let seconds = fleet.connected().await?.as_secs_f64();
        let cpu_s = target.process()?.cpu_time()?.saturating_sub(cpu_before).as_secs_f64();
        let bytes = calm_bytes(target.process()?).await?.saturating_sub(empty_bytes);
        let filling = Filling { seconds, cpu_s, bytes, stream_bytes: None };
        Ok((Self::Sockets { target, fleet: Some(fleet) }, filling))
    }

    /// A broker whose locks are in its own process.
    pub(super) async fn in_process(
        first: u32,
        count: u32,
        surroundings: &Surroundings,
    ) -> anyhow::Result<(Self, Filling)> {
        let sessions_max = (first + count + SESSIONS_SPARE).max(SESSIONS_MAX);
        let sessions_max = ("limits.sessions_max", sessions_max.to_string());
        let settings = settings(Kind::Bridge, surroundings).into_iter().chain([sessions_max]);
        let mut program = Program::new(Name::Crowd, settings);
        program.start(&["tcp", ORDERS]).await?;
        let mut orders = Orders::connect(program.address(ORDERS)).await?;
        let empty_bytes = calm_bytes(program.process()?).await?;
        orders.carry_out(Deed::Gather { first, count }).await?;
        let gathered_bytes = calm_bytes(program.process()?).await?;
        let cpu_before = program.process()?.cpu_time()?;
        let Done { seconds, clients_cpu_s, .. } = orders.carry_out(Deed::Connect).await?;
        let cpu_s = program.process()?.cpu_time()?.saturating_sub(cpu_before).as_secs_f64();
        let cpu_s = (cpu_s - clients_cpu_s).max(0.0);
        let bytes = calm_bytes(program.process()?).await?.saturating_sub(gathered_bytes);
        let stream_bytes = Some(gathered_bytes.saturating_sub(empty_bytes));
        Ok((Self::InProcess { program, orders }, Filling { seconds, cpu_s, bytes, stream_bytes }))
    }

    /// Where the broker listens.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Sockets { target, .. } => target.address(),
            Self::InProcess { program, .. } => program.address("tcp"),
        }
    }

    /// The broker's process.
    pub(super) fn process(&self) -> anyhow::Result<&Process> {
        match self {
            Self::Sockets { target, .. } => target.process(),
            Self::InProcess { program, .. } => program.process(),
        }
    }

    /// All in the process report in turn.
    pub(super) async fn report(&mut self, plan: &Plan) -> anyhow::Result<Option<Everybody>> {
        let Self::InProcess { program, orders } = self else { return Ok(None) };
        let (per_second, seconds) = (plan.rate_per_second, plan.report_window.as_secs_f64());
        let cpu_before = program.process()?.cpu_time()?;
        let done = orders.carry_out(Deed::Report { per_second, seconds, reports: Reports::Sample }).await?;
        let cpu_s = program.process()?.cpu_time()?.saturating_sub(cpu_before).as_secs_f64();
        let delays = done.reported.context("reports without delays")?.delays;
        let cpu_us = (cpu_s - done.clients_cpu_s).max(0.0) * 1e6 / delays.count as f64;
        Ok(Some(Everybody { cpu_us, delays }))
    }

    /// All leave at once; the answer is how many seconds it takes the broker to be done with them.
    pub(super) async fn empty(&mut self) -> anyhow::Result<f64> {
        match self {
            Self::Sockets { target, fleet } => {
                let fleet = fleet.take().context("the locks have gone")?;
                Ok(leave(fleet, target.process()?).await?.as_secs_f64())
            }
            Self::InProcess { orders, .. } => Ok(orders.carry_out(Deed::Leave).await?.seconds),
        }
    }

    /// Ends the broker, which must not have warned of anything.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Sockets { target, .. } => target.finish(),
            Self::InProcess { mut program, .. } => {
                program.kill()?;
                let outcome = program.check_log();
                // It has been said, and need not be said by a panic.
                program.expect("");
                outcome
            }
        }
    }
}
