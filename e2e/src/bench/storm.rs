//! What a bystander feels while everybody connects at once, and while everybody leaves at once.
//!
//! The bystander is a client that pings every few milliseconds. A second one does so at another
//! broker of the same make, to which nothing happens: its delays are those of the machine, which
//! has the crowd's work to do as well.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use latchline_shared::keys::MasterKey;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::bench::figures::Delays;
use crate::bench::fleet::{Close, Fleet, Order};
use crate::bench::lock::Session;
use crate::bench::meter::open_files;
use crate::bench::plan::Plan;
use crate::bench::probe::Probe;
use crate::bench::target::{Kind, Surroundings, Target, mosquitto};
use crate::process::Process;

/// Longest that a bystander may wait.
pub const MAX_MS: f64 = 200.0;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The bystander's number; the crowd's begin at 0.
const BYSTANDER: u32 = 1_000_000_000;

/// What happens to all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// They connect, log in and subscribe.
    Connect,
    /// They leave by FIN.
    Fin,
    /// They leave by RST.
    Rst,
}

/// One storm.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    /// Which broker.
    pub kind: Kind,
    /// What happened.
    pub event: Event,
    /// Whether the broker keeps the sessions.
    pub kept_sessions: bool,
    /// How many there were.
    pub locks: u32,
    /// From the first to when the broker was done with the last.
    pub seconds: f64,
    /// Microseconds of the broker's CPU time per connection that came or went.
    pub cpu_us: f64,
    /// Delays of the bystander's pings.
    pub bystander: Delays,
    /// Delays of pings to a broker without a storm at the same time.
    pub elsewhere: Delays,
}

impl Storm {
    /// Connections per second that came or went.
    pub fn per_second(&self) -> f64 {
        f64::from(self.locks) / self.seconds
    }
}

/// Measures all storms.
pub async fn measure(surroundings: &Surroundings, plan: &Plan) -> anyhow::Result<Vec<Storm>> {
    let mut storms = Vec::new();
    let mut variants = vec![
        (Kind::Bridge, Close::Rst, Session::Clean),
        (Kind::Bridge, Close::Fin, Session::Clean),
        (Kind::Bridge, Close::Rst, Session::Kept),
    ];
    variants.extend(mosquitto().map(|_| (Kind::Mosquitto, Close::Rst, Session::Clean)));
    for (kind, close, session) in variants {
        storms.extend(come_and_go(kind, close, session, surroundings, plan).await?);
    }
    Ok(storms)
}

async fn come_and_go(
    kind: Kind,
    close: Close,
    session: Session,
    surroundings: &Surroundings,
    plan: &Plan,
) -> anyhow::Result<[Storm; 2]> {
    let (target, calm) = (Target::start(kind, surroundings).await?, Target::start(kind, surroundings).await?);
    let master = MasterKey::from_hex(&surroundings.master_hex)?;
    let locks = plan.storm_locks;
    let storm = |event, took: Duration, cpu: Duration, (bystander, elsewhere)| Storm {
        kind,
        event,
        kept_sessions: session == Session::Kept,
        locks,
        seconds: took.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / f64::from(locks),
        bystander,
        elsewhere,
    };

    let cpu_before = target.process()?.cpu_time()?;
    let bystanders = Bystanders::start(target.address(), calm.address(), &master, plan.probe_every).await?;
    let order = Order { server: target.address(), first: 0, count: locks, session, close };
    let mut fleet = Fleet::start(order, &surroundings.master_hex)?;
    let took = fleet.connected().await?;
    let cpu_came = target.process()?.cpu_time()?;
    let came = storm(Event::Connect, took, cpu_came.saturating_sub(cpu_before), bystanders.finish().await?);

    let cpu_before = target.process()?.cpu_time()?;
    let bystanders = Bystanders::start(target.address(), calm.address(), &master, plan.probe_every).await?;
    let took = leave(fleet, target.process()?).await?;
    let cpu = target.process()?.cpu_time()?.saturating_sub(cpu_before);
    let event = if close == Close::Fin { Event::Fin } else { Event::Rst };
    let went = storm(event, took, cpu, bystanders.finish().await?);
    target.finish()?;
    calm.finish()?;
    Ok([came, went])
}

/// Closes all connections of a fleet; the answer is how long it takes the broker to be done with them.
pub(super) async fn leave(fleet: Fleet, broker: &Process) -> anyhow::Result<Duration> {
    // All but what somebody else may open meanwhile.
    let left = open_files(broker)?.saturating_sub(fleet.count() as usize) + 10;
    let deadline = departure_deadline(fleet.count());
    let begun_at = Instant::now();
    tokio::task::spawn_blocking(|| fleet.close()).await?;
    while open_files(broker)? > left {
        ensure!(begun_at.elapsed() < deadline, "after {deadline:?}, the broker still has who has gone");
        sleep(LOOK_EVERY).await;
    }
    Ok(begun_at.elapsed())
}

/// How long a broker may take until it has let go of so many, on a slow machine.
pub(super) fn departure_deadline(count: u32) -> Duration {
    Duration::from_secs(60) + count * Duration::from_micros(300)
}

/// Two clients that ping all the time.
pub(super) struct Bystanders {
    here: Probe,
    elsewhere: Probe,
}

impl Bystanders {
    /// One where the storm is, and one at a broker without.
    pub(super) async fn start(
        here: SocketAddr,
        elsewhere: SocketAddr,
        master: &MasterKey,
        every: Duration,
    ) -> anyhow::Result<Self> {
        let here = Probe::start(here, master, BYSTANDER, every).await?;
        let elsewhere = Probe::start(elsewhere, master, BYSTANDER, every).await?;
        Ok(Self { here, elsewhere })
    }

    /// The delays here and elsewhere.
    pub(super) async fn finish(self) -> anyhow::Result<(Delays, Delays)> {
        Ok((Delays::of(&self.here.finish().await?), Delays::of(&self.elsewhere.finish().await?)))
    }
}
