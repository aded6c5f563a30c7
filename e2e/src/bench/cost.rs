//! CPU time that the broker's process spends on a QoS 1 message, from PUBLISH to PUBACK, with few
//! and with many locks connected. It must not grow with their number.
//!
//! All brokers of a group run at once ([`crate::bench::group`]), each with its idle locks and the same
//! publishers, and are measured by turns, so that whatever else the machine does, it does to all of
//! them. Ratios are of measurements of the same turn.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use crate::bench::figures::Spread;
use crate::bench::group::{Outcome, group};
use crate::bench::plan::Plan;
use crate::bench::sample::Sample;
use crate::bench::shares::Shares;
use crate::bench::stored::Stored;
use crate::bench::target::{Kind, Surroundings, mosquitto};

/// How messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// At a fixed rate, messages a second.
    Open(u32),
    /// As fast as acknowledgements come, so many messages of each lock under way.
    Closed(u16),
    /// The same with one message each, while one subscriber takes everything.
    Heard,
}

impl Loop {
    /// The name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Open(per_second) => format!("{per_second}/s"),
            Self::Closed(under_way) => format!("closed loop, {under_way} each"),
            Self::Heard => "one subscriber".to_owned(),
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
    /// Who had the processors: medians.
    pub shares: Shares,
    /// Turn by turn.
    pub samples: Vec<Sample>,
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
    /// How messages come, each measured in every turn. Closed loops come first: who is slower in all of
    /// them than a fixed rate is not asked to take that.
    pub loads: Vec<Loop>,
    /// Turns after these in which one subscriber takes everything ([`Loop::Heard`]).
    pub rounds_heard: u32,
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
    let bridges = group(with(Kind::Bridge).collect(), surroundings, &turns, &mut |_| {}).await?;
    let beside = mosquitto().map(|_| (Kind::Mosquitto, plan.cost_locks_mosquitto));
    let others = with(Kind::Alone).chain(beside).collect();
    let others = group(others, surroundings, &turns, &mut |_| {}).await?;
    let mut costs = Vec::new();
    for Outcome { costs: measured, failed, stored, .. } in [bridges, others] {
        if let Some(failed) = failed.first() {
            bail!("{failed}");
        }
        stored.iter().try_for_each(Stored::check)?;
        costs.extend(measured);
    }
    Ok(costs)
}

/// How the cost grows from the fewest to the most locks, and what it is beside mosquitto's.
pub fn ratios(costs: &[Cost], plan: &Plan) -> Vec<Ratio> {
    let find = |kind, locks, load| {
        costs.iter().find(|cost| (cost.kind, cost.locks, cost.load) == (kind, locks, load))
    };
    let ratio = |name: String, upper: Option<&Cost>, lower: Option<&Cost>| {
        let ratio = upper?.ratio(lower?, |sample| sample.cpu_us)?;
        Some(Ratio { name, ratio })
    };
    let (Some(&few), Some(&many)) = (plan.cost_locks.first(), plan.cost_locks.last()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for &load in &plan.turns().loads {
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

impl Cost {
    /// Sums up what was measured; nothing, if nothing was.
    pub(super) fn of(kind: Kind, locks: u32, load: Loop, samples: &[Sample]) -> Option<Self> {
        let shares: Vec<Shares> = samples.iter().map(|sample| sample.shares).collect();
        Some(Self {
            kind,
            locks,
            load,
            cpu_us: Spread::of(samples.iter().map(|sample| sample.cpu_us))?,
            per_second: Spread::of(samples.iter().map(|sample| sample.per_second))?,
            shares: Shares::medians(&shares)?,
            samples: samples.to_vec(),
        })
    }

    /// The quotients of what was measured in the same turn.
    pub(super) fn ratio(&self, lower: &Self, of: fn(&Sample) -> f64) -> Option<Spread> {
        let same = |upper: &&Sample| lower.samples.iter().find(|sample| sample.turn == upper.turn);
        let pairs = self.samples.iter().filter_map(|upper| Some((of(upper), of(same(&upper)?))));
        let (upper, lower): (Vec<f64>, Vec<f64>) = pairs.unzip();
        Spread::of_ratios(&upper, &lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_is_of_the_same_turn() {
        let shares =
            Shares { target: 0.0, target_thread: 0.0, load: 0.0, load_thread: 0.0, machine: 0.0, cores: 2.0 };
        let cost = |samples: &[(u32, f64)]| {
            let samples: Vec<_> = samples
                .iter()
                .map(|&(turn, cpu_us)| Sample { turn, cpu_us, per_second: 1.0, shares })
                .collect();
            Cost::of(Kind::Echo, 1, Loop::Open(5), &samples).unwrap()
        };
        let ours = cost(&[(0, 10.0), (1, 20.0), (2, 90.0)]);
        // A turn that was left out does not shift the others.
        let theirs = cost(&[(0, 10.0), (2, 30.0)]);
        let ratio = ours.ratio(&theirs, |sample| sample.cpu_us).unwrap();
        assert_eq!(ratio, Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(ours.ratio(&cost(&[(7, 1.0)]), |sample| sample.cpu_us), None);
    }
}
