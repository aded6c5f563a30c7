//! Brokers that run at once and are measured by turns, there and back, each with its idle locks and the
//! same publishers.
//!
//! A broker that fails is no longer measured, and what it failed in is said beside what was measured
//! before ([`Outcome::failed`]); the others go on. One that is slower than a fixed rate in its closed loops
//! is not asked to take that: its backlog would only grow.
//!
//! Of those with a bridge, what was acknowledged is counted at Kafka's end, too ([`Outcome::stored`]).

use std::time::Duration;

use anyhow::ensure;
use latchline_shared::keys::MasterKey;
use serde::Serialize;
use tokio::time::Instant;

use crate::bench::cost::{Cost, Loop, Turns};
use crate::bench::fleet::{Close, Fleet, Order};
use crate::bench::lock::{KEEP_ALIVE_S, Session};
use crate::bench::peers::order::Order as Received;
use crate::bench::peers::subscriber::Subscriber;
use crate::bench::publishers::Publishers;
use crate::bench::sample::{Measuring, Sample};
use crate::bench::stored::{Ends, Stored};
use crate::bench::target::{Failed, Kind, Surroundings, Target};

/// What was measured.
pub(crate) struct Outcome {
    pub(crate) costs: Vec<Cost>,
    pub(crate) heard: Vec<Heard>,
    pub(crate) failed: Vec<Failed>,
    /// Nothing, if none of them has a bridge.
    pub(crate) stored: Option<Stored>,
}

/// What the subscriber to everything has got.
#[derive(Debug, Clone, Serialize)]
pub struct Heard {
    /// Of which broker.
    pub kind: Kind,
    /// Messages acknowledged to their publishers meanwhile.
    pub acknowledged: u64,
    /// Of these, different messages that it got.
    pub received: u64,
    /// Messages that it got again.
    pub duplicates: u64,
    /// Messages that a later one of their publisher has overtaken.
    pub disordered: u64,
}

/// A broker, and what was measured.
struct Member {
    kind: Kind,
    locks: u32,
    /// None when it has failed.
    seat: Option<Seat>,
    /// By how messages came, in the order of the tables.
    samples: Vec<(Loop, Vec<Sample>)>,
    /// Messages acknowledged before it failed.
    acked: u64,
    failed: Option<Failed>,
}

/// A running broker with its locks.
struct Seat {
    target: Target,
    _idle: Option<Fleet>,
    publishers: Publishers,
    connected_at: Instant,
    /// What takes everything, and what had been acknowledged before it came.
    subscriber: Option<(Subscriber, u64)>,
}

/// Measures brokers with this many locks each; `note` is told of each measurement.
pub(crate) async fn group(
    members: Vec<(Kind, u32)>,
    surroundings: &Surroundings,
    turns: &Turns,
    note: &mut impl FnMut(&str),
) -> anyhow::Result<Outcome> {
    let locks_max = members.iter().map(|(_, locks)| *locks).max().unwrap_or_default();
    let has_bridge = members.iter().any(|(kind, _)| *kind == Kind::Bridge);
    let ends = match has_bridge {
        true => Some(Ends::look(&surroundings.kafka).await?),
        false => None,
    };
    let mut seated = Vec::new();
    for (kind, locks) in members {
        seated.push(Member::seated(kind, locks, surroundings, turns).await);
    }
    let mut members = seated;
    for round in 0..turns.rounds {
        for number in there_and_back(members.len(), round) {
            members[number].measure(round, turns, note).await;
        }
    }
    if turns.rounds_heard > 0 {
        for member in &mut members {
            member.hear(surroundings).await;
        }
    }
    for round in 0..turns.rounds_heard {
        for number in there_and_back(members.len(), round) {
            members[number].measure_heard(round, turns, note).await;
        }
    }
    let mut outcome = Outcome { costs: Vec::new(), heard: Vec::new(), failed: Vec::new(), stored: None };
    let mut acknowledged = 0;
    for member in members {
        let is_stored = member.kind == Kind::Bridge;
        let acked = member.finish(&mut outcome).await;
        acknowledged += if is_stored { acked } else { 0 };
    }
    if let Some(ends) = ends {
        let part = format!("CPU time, {locks_max} locks");
        outcome.stored = Some(ends.stored(part, acknowledged).await?);
    }
    Ok(outcome)
}

/// There in even rounds and back in odd ones, so that what changes steadily favours nobody.
pub(super) fn there_and_back(count: usize, round: u32) -> impl Iterator<Item = usize> {
    (0..count).map(move |number| if round.is_multiple_of(2) { number } else { count - 1 - number })
}

impl Member {
    async fn seated(kind: Kind, locks: u32, surroundings: &Surroundings, turns: &Turns) -> Self {
        let seat = Seat::take(kind, locks, surroundings, turns).await;
        let loads = turns.loads.iter().copied().chain([Loop::Heard]);
        let samples = loads.map(|load| (load, Vec::new())).collect();
        let mut member = Self { kind, locks, seat: None, samples, acked: 0, failed: None };
        match seat {
            Ok(seat) => member.seat = Some(seat),
            Err(error) => member.fail("connecting", &error),
        }
        member
    }

    fn fail(&mut self, part: &str, error: &anyhow::Error) {
        self.acked = self.acked();
        self.seat = None;
        self.failed = Some(Failed::new(self.kind, &format!("{} locks, {part}", self.locks), error));
    }

    fn acked(&self) -> u64 {
        self.seat.as_ref().map_or(self.acked, |seat| seat.publishers.acked())
    }

    /// All loads, there in even rounds and back in odd ones.
    async fn measure(&mut self, round: u32, turns: &Turns, note: &mut impl FnMut(&str)) {
        for number in there_and_back(turns.loads.len(), round) {
            let load = turns.loads[number];
            if self.takes(load) {
                self.sample(load, round, turns, note).await;
            }
        }
    }

    /// Whether one of its last closed loops was as fast as that.
    fn takes(&self, load: Loop) -> bool {
        let Loop::Open(per_second) = load else { return true };
        let closed = self.samples.iter().filter(|(load, _)| matches!(load, Loop::Closed(_)));
        closed.filter_map(|(_, samples)| samples.last()).any(|last| last.per_second >= f64::from(per_second))
    }

    async fn measure_heard(&mut self, round: u32, turns: &Turns, note: &mut impl FnMut(&str)) {
        if self.seat.as_ref().is_some_and(|seat| seat.subscriber.is_some()) {
            self.sample(Loop::Heard, round, turns, note).await;
        }
    }

    async fn sample(&mut self, load: Loop, round: u32, turns: &Turns, note: &mut impl FnMut(&str)) {
        let Some(seat) = &self.seat else { return };
        let (kind, name) = (self.kind.name(), load.name());
        match seat.sample(load, round, turns).await {
            Ok(sample) => {
                let Sample { cpu_us, per_second, .. } = sample;
                note(&format!("turn {round}, {kind}, {name}: {cpu_us:.1} µs, {per_second:.0}/s"));
                if let Some((_, samples)) = self.samples.iter_mut().find(|(of, _)| *of == load) {
                    samples.push(sample);
                }
            }
            Err(error) => {
                note(&format!("turn {round}, {kind}, {name}: FAILED: {error:#}"));
                self.fail(&format!("{name}, turn {round}"), &error);
            }
        }
    }

    /// From now on, one subscriber takes everything. An echo has none.
    async fn hear(&mut self, surroundings: &Surroundings) {
        let Some(seat) = self.seat.as_mut().filter(|_| self.kind != Kind::Echo) else { return };
        match Subscriber::connect(seat.target.address(), &surroundings.operator).await {
            Ok(subscriber) => seat.subscriber = Some((subscriber, seat.publishers.acked())),
            Err(error) => self.fail("a subscriber", &error),
        }
    }

    /// Ends it, and says what was measured; the answer is how many messages it has acknowledged.
    async fn finish(mut self, outcome: &mut Outcome) -> u64 {
        let acked = self.acked();
        if let Some(seat) = self.seat.take() {
            match seat.finish().await {
                Ok(heard) => outcome.heard.extend(heard),
                Err(error) => self.fail("the end", &error),
            }
        }
        for (load, samples) in &self.samples {
            outcome.costs.extend(Cost::of(self.kind, self.locks, *load, samples));
        }
        outcome.failed.extend(self.failed);
        acked
    }
}

impl Seat {
    async fn take(
        kind: Kind,
        locks: u32,
        surroundings: &Surroundings,
        turns: &Turns,
    ) -> anyhow::Result<Self> {
        let target = Target::start(kind, surroundings).await?;
        let (server, first, connected_at) = (target.address(), turns.publishers, Instant::now());
        let idle = match locks.saturating_sub(first) {
            0 => None,
            count => {
                let order = Order { server, first, count, session: Session::Kept, close: Close::Rst };
                Some(Fleet::connect(order, &surroundings.master_hex).await?)
            }
        };
        let master = MasterKey::from_hex(&surroundings.master_hex)?;
        let publishers = Publishers::connect(server, &master, 0, first).await?;
        Ok(Self { target, _idle: idle, publishers, connected_at, subscriber: None })
    }

    async fn sample(&self, load: Loop, turn: u32, turns: &Turns) -> anyhow::Result<Sample> {
        // Idle locks say nothing, and a broker rightly ends those that have been silent for longer.
        let alive = Duration::from_secs(u64::from(KEEP_ALIVE_S));
        ensure!(self.connected_at.elapsed() < alive, "the idle locks have been silent for {alive:?}");
        let Turns { warm_up, window, .. } = *turns;
        let process = self.target.process()?;
        let measuring = Measuring { process, publishers: &self.publishers, turn, warm_up, window };
        match load {
            Loop::Open(per_second) => Ok(measuring.open(per_second.into()).await?.sample),
            Loop::Closed(under_way) => measuring.closed(under_way).await,
            Loop::Heard => measuring.closed(1).await,
        }
    }

    async fn finish(self) -> anyhow::Result<Option<Heard>> {
        let kind = self.target.kind();
        let heard = match self.subscriber {
            None => None,
            Some((subscriber, before)) => {
                let acknowledged = self.publishers.acked() - before;
                let (order, _) = subscriber.finish(acknowledged).await?;
                let Received { received, duplicates, disordered, .. } = order;
                Some(Heard { kind, acknowledged, received, duplicates, disordered })
            }
        };
        drop(self.publishers);
        self.target.finish()?;
        Ok(heard)
    }
}
