//! Ours beside others, in one run and by turns: with and without the bridge, mosquitto, rumqttd, and
//! a bare echo on our runtime, which is no broker but the limit of what one could be.
//!
//! Memory of idle connections; CPU time and rate of messages with some and with very many locks
//! connected ([`crate::bench::cost`]); and whether one subscriber gets what all locks report at once
//! ([`subscriber`]).
//!
//! Bounds are printed beside the figures. Only a loss of ours fails the run: the others do what
//! their makers promise, and the table says what that is.

pub mod order;
pub mod subscriber;

mod table;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::bench::cost::{self, Cost, Loop, Turns};
use crate::bench::figures::Spread;
use crate::bench::idle::{self, Idle};
use crate::bench::report::Machine;
use crate::bench::target::{Kind, Surroundings};
use subscriber::Received;

/// All that is measured where it is there.
const KINDS: [Kind; 5] = [Kind::Bridge, Kind::Alone, Kind::Mosquitto, Kind::Rumqttd, Kind::Echo];
/// CPU time of a message that is stored, to mosquitto's that is not.
const TO_MOSQUITTO_MAX: f64 = 1.5;
/// CPU time of a message that is stored, to an echo of it.
const TO_ECHO_MAX: f64 = 3.0;
/// Rate with very many locks, to rumqttd's.
const TO_RUMQTTD_MIN: f64 = 100.0;

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Connections at which the memory of an idle one is measured, rising.
    pub idle_connections: Vec<u32>,
    /// Connected locks at which CPU time is compared.
    pub locks: u32,
    /// The turns with them.
    pub turns: Turns,
    /// Connected locks at which rates are compared.
    pub locks_many: u32,
    /// The turns with them.
    pub turns_many: Turns,
    /// What is published to one subscriber.
    pub burst: subscriber::Plan,
}

impl Plan {
    /// What the figures in `docs/benchmarks.md` come from.
    pub fn full() -> Self {
        let turns = Turns {
            rounds: 5,
            window: Duration::from_secs(3),
            warm_up: Duration::from_millis(500),
            publishers: 50,
            rate_per_second: Some(5_000.0),
        };
        // Only the closed loop, and longer, because one of them is slow.
        let turns_many = Turns { rounds: 3, window: Duration::from_secs(5), rate_per_second: None, ..turns };
        Self {
            idle_connections: vec![5_000, 19_500],
            locks: 5_000,
            turns,
            locks_many: 19_500,
            turns_many,
            burst: subscriber::Plan { rounds: 3, locks: 100, each: 600 },
        }
    }

    /// Enough to see that something sensible is measured.
    pub fn small() -> Self {
        let turns = Turns {
            rounds: 2,
            window: Duration::from_millis(300),
            warm_up: Duration::from_millis(50),
            publishers: 5,
            rate_per_second: Some(500.0),
        };
        Self {
            idle_connections: vec![50, 100],
            locks: 20,
            turns_many: Turns { rate_per_second: None, ..turns },
            turns,
            locks_many: 40,
            burst: subscriber::Plan { rounds: 1, locks: 10, each: 100 },
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Peers {
    /// Where.
    pub machine: Machine,
    /// Which Kafka stores what the bridge is given.
    pub kafka: String,
    /// How much.
    pub plan: Plan,
    /// What was not measured, and why.
    pub absent: Vec<Absent>,
    /// Memory.
    pub idle: Vec<Idle>,
    /// CPU time and rates.
    pub cost: Vec<Cost>,
    /// The same with very many locks.
    pub many: Vec<Cost>,
    /// Compared.
    pub ratios: Vec<Judged>,
    /// What one subscriber got.
    pub received: Vec<Received>,
}

/// What is not there.
#[derive(Debug, Clone, Serialize)]
pub struct Absent {
    /// What.
    pub kind: Kind,
    /// Why.
    pub why: &'static str,
}

/// A quotient and what it must not exceed, or fall below.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// Of what to what.
    pub name: String,
    /// Of measurements of the same turn.
    pub ratio: Spread,
    /// What the median should be.
    pub bound: Bound,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Peers {
    /// Fails if our broker acknowledged a message that its subscriber did not get, or got out of order.
    pub fn check(&self) -> anyhow::Result<()> {
        for received in self.received.iter().filter(|received| received.kind.is_ours()) {
            ensure!(received.lost_max == 0, "{} lost {} messages", received.kind.name(), received.lost_max);
            ensure!(
                received.disordered == 0,
                "{}: {} out of order",
                received.kind.name(),
                received.disordered
            );
        }
        Ok(())
    }
}

/// Measures all that is there; says at each part that it begins.
pub async fn measure(
    kafka: String,
    surroundings: &Surroundings,
    plan: Plan,
    begin: impl Fn(&str),
) -> anyhow::Result<Peers> {
    let machine = Machine::this()?;
    let here: Vec<Kind> = KINDS.into_iter().filter(|kind| kind.absence().is_none()).collect();
    let absent = KINDS.into_iter().filter_map(|kind| Some(Absent { kind, why: kind.absence()? })).collect();
    let mut idle = Vec::new();
    for &kind in &here {
        begin(&format!("memory, {}", kind.name()));
        let measured = idle::measure(kind, surroundings, &plan.idle_connections).await;
        idle.extend(measured.with_context(|| format!("memory, {}", kind.name()))?);
    }
    let with = |locks: u32| here.iter().map(|&kind| (kind, locks)).collect();
    begin("CPU time");
    let cost = cost::group(with(plan.locks), surroundings, &plan.turns).await?;
    begin("CPU time with very many locks");
    let many = cost::group(with(plan.locks_many), surroundings, &plan.turns_many).await?;
    let ratios = ratios(&cost, &many, &plan);
    begin("one subscriber");
    // An echo has no subscribers.
    let brokers: Vec<Kind> = here.into_iter().filter(|&kind| kind != Kind::Echo).collect();
    let received = subscriber::measure(&brokers, surroundings, &plan.burst).await?;
    Ok(Peers { machine, kafka, plan, absent, idle, cost, many, ratios, received })
}

fn ratios(cost: &[Cost], many: &[Cost], plan: &Plan) -> Vec<Judged> {
    let mut judged = Vec::new();
    for load in [Loop::Open, Loop::Closed] {
        for (peer, bound) in [(Kind::Mosquitto, TO_MOSQUITTO_MAX), (Kind::Echo, TO_ECHO_MAX)] {
            let (ours, theirs) = (find(cost, Kind::Bridge, load), find(cost, peer, load));
            let ratio = ours
                .zip(theirs)
                .and_then(|(ours, theirs)| Spread::of_ratios(&ours.samples_cpu_us, &theirs.samples_cpu_us));
            let name = format!("CPU time, stored, to {}, {} locks, {}", peer.name(), plan.locks, load.name());
            judged.extend(ratio.map(|ratio| Judged { name, ratio, bound: Bound::AtMost(bound) }));
        }
    }
    for kind in [Kind::Bridge, Kind::Alone] {
        let (ours, theirs) = (find(many, kind, Loop::Closed), find(many, Kind::Rumqttd, Loop::Closed));
        let ratio = ours.zip(theirs).and_then(|(ours, theirs)| {
            Spread::of_ratios(&ours.samples_per_second, &theirs.samples_per_second)
        });
        let name = format!("rate, {}, to rumqttd, {} locks", kind.name(), plan.locks_many);
        judged.extend(ratio.map(|ratio| Judged { name, ratio, bound: Bound::AtLeast(TO_RUMQTTD_MIN) }));
    }
    judged
}

fn find(costs: &[Cost], kind: Kind, load: Loop) -> Option<&Cost> {
    costs.iter().find(|cost| (cost.kind, cost.load) == (kind, load))
}
