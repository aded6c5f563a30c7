//! Ours beside others, in one run and by turns: with and without the bridge, mosquitto, rumqttd, and
//! a bare echo on our runtime, which is no broker but the limit of what one could be.
//!
//! Memory of idle connections; CPU time and rate of messages with some and with very many locks
//! connected ([`crate::bench::cost`]); whether one subscriber gets what all locks report at once
//! ([`subscriber`]); and what becomes of it, and of those who publish, when it cannot keep up ([`slow`]).
//!
//! Bounds are printed beside the figures. A peer that is absent or fails is a line with its reason, and
//! the others are measured all the same. Only ours fails the run, after the table ([`Peers::check`]):
//! if it fails itself, or if anything that it has acknowledged is missing at the other end, in Kafka or
//! at the subscriber. The others do what their makers promise, and the table says what that is.

pub mod order;
pub mod slow;
pub mod subscriber;

mod table;

use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::bench::cost::{Cost, Loop, Turns};
use crate::bench::figures::Spread;
use crate::bench::group::{Heard, Outcome, group};
use crate::bench::idle::{self, Idle};
use crate::bench::progress::Progress;
use crate::bench::report::Machine;
use crate::bench::sample::Sample;
use crate::bench::stored::Stored;
use crate::bench::target::{Failed, Kind, Surroundings};
use slow::Slow;
use subscriber::Received;

/// All that is measured where it is there.
const KINDS: [Kind; 5] = [Kind::Bridge, Kind::Alone, Kind::Mosquitto, Kind::Rumqttd, Kind::Echo];
/// CPU time of a message that is stored, to mosquitto's that is not.
const TO_MOSQUITTO_MAX: f64 = 1.5;
/// CPU time of a message that is stored, to an echo of it.
const TO_ECHO_MAX: f64 = 3.0;
/// Rate with very many locks, to rumqttd's.
const TO_RUMQTTD_MIN: f64 = 100.0;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Memory of idle connections.
    Memory,
    /// CPU time and rates of messages.
    Cost,
    /// The same with very many locks.
    Many,
    /// Whether one subscriber gets everything.
    Subscriber,
    /// What becomes of one that cannot keep up.
    Slow,
}

/// All of it, in order.
const PARTS: [Part; 5] = [Part::Memory, Part::Cost, Part::Many, Part::Subscriber, Part::Slow];

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What is measured.
    pub parts: Vec<Part>,
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
    /// What is published to one that does not keep up.
    pub slow: slow::Plan,
}

impl Plan {
    /// What the figures in `docs/benchmarks.md` come from.
    pub fn full() -> Self {
        let turns = Turns {
            rounds: 5,
            window: Duration::from_secs(3),
            warm_up: Duration::from_millis(500),
            publishers: 500,
            // One message each is how locks report; with ten, one write and one read take several.
            loads: vec![Loop::Closed(1), Loop::Closed(10), Loop::Open(20_000), Loop::Open(5_000)],
            rounds_heard: 0,
        };
        // Only the closed loop, and much longer: as long as nobody listens, rumqttd acknowledges all that
        // is under way at once, every eight seconds or so, and nothing between.
        let turns_many = Turns {
            rounds: 3,
            window: Duration::from_secs(20),
            loads: vec![Loop::Closed(1)],
            rounds_heard: 3,
            ..turns
        };
        Self {
            parts: PARTS.to_vec(),
            idle_connections: vec![5_000, 19_500],
            locks: 5_000,
            turns,
            locks_many: 19_500,
            turns_many,
            burst: subscriber::Plan { rounds: 3, locks: 100, each: 600 },
            // The queues of ours and of mosquitto are full after the first tenth of a second.
            slow: slow::Plan {
                locks: 50,
                reads_per_second: 500,
                warm_up: Duration::from_secs(3),
                window: Duration::from_secs(10),
                wait: Duration::from_secs(1),
            },
        }
    }

    /// Enough to see that something sensible is measured.
    pub fn small() -> Self {
        let turns = Turns {
            rounds: 2,
            window: Duration::from_millis(300),
            warm_up: Duration::from_millis(50),
            publishers: 5,
            loads: vec![Loop::Closed(1), Loop::Closed(10), Loop::Open(1_000), Loop::Open(500)],
            rounds_heard: 0,
        };
        Self {
            parts: PARTS.to_vec(),
            idle_connections: vec![50, 100],
            locks: 20,
            turns_many: Turns { loads: vec![Loop::Closed(1)], rounds_heard: 2, ..turns },
            turns,
            locks_many: 40,
            burst: subscriber::Plan { rounds: 1, locks: 10, each: 100 },
            slow: slow::Plan {
                locks: 10,
                reads_per_second: 500,
                warm_up: Duration::from_secs(1),
                window: Duration::from_secs(1),
                wait: Duration::from_millis(100),
            },
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
    /// What was to be measured and failed.
    pub failed: Vec<Failed>,
    /// Memory.
    pub idle: Vec<Idle>,
    /// Of ours to others.
    pub idle_ratios: Vec<IdleRatio>,
    /// CPU time and rates.
    pub cost: Vec<Cost>,
    /// The same with very many locks.
    pub many: Vec<Cost>,
    /// Then, what the subscriber to everything got.
    pub heard: Vec<Heard>,
    /// What the bridge acknowledged, and Kafka's end of it.
    pub stored: Vec<Stored>,
    /// Compared.
    pub ratios: Vec<Judged>,
    /// What one subscriber got.
    pub received: Vec<Received>,
    /// What became of one that did not keep up, and of its publishers.
    pub slow: Vec<Slow>,
}

/// The memory of an idle connection, of two that were each started once.
#[derive(Debug, Clone, Serialize)]
pub struct IdleRatio {
    /// Of ours.
    pub ours: Kind,
    /// To what.
    pub peer: Kind,
    /// Idle connections of each.
    pub connections: u32,
    /// The quotient.
    pub ratio: f64,
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
    /// Nothing in particular.
    None,
}

impl Peers {
    /// Fails if our broker has failed, or has acknowledged a message that is not at its other end, is
    /// there twice, or out of order.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(failed) = self.failed.iter().find(|failed| failed.kind.is_ours()) {
            bail!("{failed}");
        }
        let is_heard = self.plan.parts.contains(&Part::Subscriber);
        for kind in [Kind::Bridge, Kind::Alone].into_iter().filter(|_| is_heard) {
            let received = self.received.iter().filter(|received| received.kind == kind);
            ensure!(received.clone().count() == 1, "{} has no subscriber", kind.name());
            for Received { lost_max, duplicates, disordered, .. } in received {
                let name = kind.name();
                ensure!(*lost_max == 0, "{name} lost {lost_max} messages");
                ensure!(*duplicates == 0, "{name} delivered {duplicates} messages twice");
                ensure!(*disordered == 0, "{name}: {disordered} out of order");
            }
        }
        for heard in self.heard.iter().filter(|heard| heard.kind.is_ours()) {
            let Heard { kind, acknowledged, received, duplicates, disordered } = heard;
            let name = kind.name();
            ensure!(acknowledged == received, "{name}: {acknowledged} acknowledged, {received} received");
            ensure!(*duplicates == 0, "{name} delivered {duplicates} messages twice");
            ensure!(*disordered == 0, "{name}: {disordered} out of order");
        }
        self.slow.iter().try_for_each(Slow::check)?;
        let of_subscribers = self.received.iter().filter_map(|received| received.stored.as_ref());
        self.stored.iter().chain(of_subscribers).try_for_each(Stored::check)
    }
}

/// Measures all that is there; tells of each part that begins or has ended, and notes each turn.
pub async fn measure(
    kafka: String,
    surroundings: &Surroundings,
    plan: Plan,
    mut tell: impl FnMut(Progress<'_, Peers>),
) -> anyhow::Result<Peers> {
    let here: Vec<Kind> = KINDS.into_iter().filter(|kind| kind.absence().is_none()).collect();
    let absent = KINDS.into_iter().filter_map(|kind| Some(Absent { kind, why: kind.absence()? })).collect();
    let mut peers = Peers {
        machine: Machine::this()?,
        kafka,
        absent,
        failed: Vec::new(),
        idle: Vec::new(),
        idle_ratios: Vec::new(),
        cost: Vec::new(),
        many: Vec::new(),
        heard: Vec::new(),
        stored: Vec::new(),
        ratios: Vec::new(),
        received: Vec::new(),
        slow: Vec::new(),
        plan,
    };
    // An echo has no subscribers.
    let brokers: Vec<Kind> = here.iter().copied().filter(|&kind| kind != Kind::Echo).collect();
    for part in peers.plan.parts.clone() {
        let table = match part {
            Part::Memory => peers.measure_memory(&here, surroundings, &mut tell).await,
            Part::Cost => {
                let (locks, turns) = (peers.plan.locks, peers.plan.turns.clone());
                peers.cost = peers.measure_costs(&here, locks, &turns, surroundings, &mut tell).await?;
                table::costs(&peers.cost)
            }
            Part::Many => {
                let (locks, turns) = (peers.plan.locks_many, peers.plan.turns_many.clone());
                peers.many = peers.measure_costs(&here, locks, &turns, surroundings, &mut tell).await?;
                table::costs(&peers.many)
            }
            Part::Subscriber => peers.measure_subscriber(&brokers, surroundings, &mut tell).await,
            Part::Slow => peers.measure_slow(&brokers, surroundings, &mut tell).await,
        };
        peers.ratios = ratios(&peers.cost, &peers.many, &peers.plan);
        tell(Progress::Ended(&peers, &table));
    }
    Ok(peers)
}

/// Each measures a part; the answer is its table, or what it has cost.
impl Peers {
    async fn measure_memory(
        &mut self,
        kinds: &[Kind],
        surroundings: &Surroundings,
        tell: &mut impl FnMut(Progress<'_, Self>),
    ) -> String {
        for &kind in kinds {
            tell(Progress::Begins(&format!("memory, {}", kind.name())));
            let (measured, failed) = idle::measure(kind, surroundings, &self.plan.idle_connections).await;
            self.idle.extend(measured);
            self.failed.extend(failed);
        }
        self.idle_ratios = idle_ratios(&self.idle);
        self.idle_table()
    }

    async fn measure_costs(
        &mut self,
        kinds: &[Kind],
        locks: u32,
        turns: &Turns,
        surroundings: &Surroundings,
        tell: &mut impl FnMut(Progress<'_, Self>),
    ) -> anyhow::Result<Vec<Cost>> {
        tell(Progress::Begins(&format!("CPU time, {locks} locks")));
        let members = kinds.iter().map(|&kind| (kind, locks)).collect();
        let outcome = group(members, surroundings, turns, &mut |note| tell(Progress::Begins(note))).await?;
        let Outcome { costs, heard, failed, stored } = outcome;
        self.heard.extend(heard);
        self.failed.extend(failed);
        self.stored.extend(stored);
        Ok(costs)
    }

    async fn measure_subscriber(
        &mut self,
        brokers: &[Kind],
        surroundings: &Surroundings,
        tell: &mut impl FnMut(Progress<'_, Self>),
    ) -> String {
        tell(Progress::Begins("one subscriber"));
        let mut note = |note: &str| tell(Progress::Begins(note));
        let plan = &self.plan.burst;
        let (received, failed) = subscriber::measure(brokers, surroundings, plan, &mut note).await;
        self.received = received;
        self.failed.extend(failed);
        self.received_table()
    }

    async fn measure_slow(
        &mut self,
        brokers: &[Kind],
        surroundings: &Surroundings,
        tell: &mut impl FnMut(Progress<'_, Self>),
    ) -> String {
        tell(Progress::Begins("one subscriber that does not keep up"));
        let mut note = |note: &str| tell(Progress::Begins(note));
        let (slow, failed) = slow::measure(brokers, surroundings, &self.plan.slow, &mut note).await;
        self.slow = slow;
        self.failed.extend(failed);
        self.slow_subscriber_table()
    }
}

fn idle_ratios(idle: &[Idle]) -> Vec<IdleRatio> {
    let mut ratios = Vec::new();
    for own in idle.iter().filter(|own| own.kind.is_ours()) {
        let same = |peer: &&Idle| !peer.kind.is_ours() && peer.connections == own.connections;
        for peer in idle.iter().filter(same) {
            let (ours, connections) = (own.kind, own.connections);
            let ratio = own.bytes_per_connection / peer.bytes_per_connection;
            ratios.push(IdleRatio { ours, peer: peer.kind, connections, ratio });
        }
    }
    // A small plan's connections may take nothing that can be seen.
    ratios.retain(|ratio| ratio.ratio.is_finite());
    ratios
}

fn ratios(cost: &[Cost], many: &[Cost], plan: &Plan) -> Vec<Judged> {
    let cpu_us = |sample: &Sample| sample.cpu_us;
    let per_second = |sample: &Sample| sample.per_second;
    let mut judged = Vec::new();
    for &load in &plan.turns.loads {
        for (ours, word) in [(Kind::Bridge, "stored"), (Kind::Alone, "without bridge")] {
            let peers = [
                (Kind::Mosquitto, Bound::AtMost(TO_MOSQUITTO_MAX)),
                (Kind::Echo, Bound::AtMost(TO_ECHO_MAX)),
                (Kind::Rumqttd, Bound::None),
            ];
            for (peer, bound) in peers {
                let ratio = ratio(cost, (ours, peer), load, cpu_us);
                let (peer, load, locks) = (peer.name(), load.name(), plan.locks);
                let name = format!("CPU time, {word}, to {peer}, {locks} locks, {load}");
                let bound = if ours == Kind::Bridge { bound } else { Bound::None };
                judged.extend(ratio.map(|ratio| Judged { name, ratio, bound }));
            }
        }
    }
    for &load in plan.turns_many.loads.iter().chain([&Loop::Heard]) {
        for ours in [Kind::Bridge, Kind::Alone] {
            let ratio = ratio(many, (ours, Kind::Rumqttd), load, per_second);
            let (ours, load_name, locks) = (ours.name(), load.name(), plan.locks_many);
            let name = format!("rate, {ours}, to rumqttd, {locks} locks, {load_name}");
            let bound =
                if matches!(load, Loop::Closed(_)) { Bound::AtLeast(TO_RUMQTTD_MIN) } else { Bound::None };
            judged.extend(ratio.map(|ratio| Judged { name, ratio, bound }));
        }
    }
    judged
}

fn ratio(costs: &[Cost], (ours, theirs): (Kind, Kind), load: Loop, of: fn(&Sample) -> f64) -> Option<Spread> {
    let find = |kind| costs.iter().find(|cost| (cost.kind, cost.load) == (kind, load));
    find(ours)?.ratio(find(theirs)?, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_at_the_same_number_of_connections() {
        let row = |(kind, connections, bytes_per_connection)| Idle {
            kind,
            connections,
            empty_bytes: 1,
            bytes_per_connection,
            is_at_rest: true,
        };
        let idle = [
            (Kind::Bridge, 10, 3_000.0),
            (Kind::Alone, 20, 4_000.0),
            (Kind::Mosquitto, 10, 1_500.0),
            (Kind::Mosquitto, 20, 1_000.0),
            (Kind::Echo, 10, 0.0),
        ];
        let ratios = idle_ratios(&idle.map(row));
        let ratios: Vec<_> = ratios.iter().map(|of| (of.ours, of.peer, of.connections, of.ratio)).collect();
        let expected = [(Kind::Bridge, Kind::Mosquitto, 10, 2.0), (Kind::Alone, Kind::Mosquitto, 20, 4.0)];
        assert_eq!(ratios, expected);
    }
}
