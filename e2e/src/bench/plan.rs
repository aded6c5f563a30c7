//! How much of everything is measured. `make bench` carries out [`Plan::full`]; the tests carry out
//! [`Plan::small`], which measures the same in the same way, but too little to mean anything.

use std::time::Duration;

use serde::Serialize;

use crate::bench::cost::{Loop, Turns};
use crate::bench::publishers::WINDOW;

/// How much of everything.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Connections at which the memory of an idle one is measured, rising.
    pub idle_connections: Vec<u32>,
    /// Connected locks at which the cost of a message is measured, rising.
    pub cost_locks: Vec<u32>,
    /// At how many of them mosquitto is measured beside us.
    pub cost_locks_mosquitto: u32,
    /// Turns; in each, every broker is measured once.
    pub cost_rounds: u32,
    /// Length of a measurement at a fixed rate, and of one in a closed loop.
    pub cost_window: Duration,
    /// Locks that publish.
    pub publishers: u32,
    /// Messages per second of all of them together, where the rate is fixed.
    pub rate_per_second: u32,
    /// Locks that come and go at once.
    pub storm_locks: u32,
    /// Pause between two PINGREQ of the bystander.
    pub probe_every: Duration,
    /// Connected locks while delays are measured.
    pub latency_locks: u32,
    /// How long delays are measured.
    pub latency_window: Duration,
    /// From the start of a load to the start of a measurement.
    pub warm_up: Duration,
}

impl Plan {
    /// What the figures in `docs/benchmarks.md` come from.
    pub fn full() -> Self {
        Self {
            idle_connections: vec![10_000, 19_500],
            cost_locks: vec![100, 1_000, 10_000, 19_500],
            cost_locks_mosquitto: 10_000,
            cost_rounds: 5,
            cost_window: Duration::from_secs(3),
            publishers: 50,
            rate_per_second: 5_000,
            storm_locks: 19_500,
            probe_every: Duration::from_millis(2),
            latency_locks: 10_000,
            latency_window: Duration::from_secs(15),
            warm_up: Duration::from_millis(500),
        }
    }

    /// Enough to see that something sensible is measured.
    pub fn small() -> Self {
        Self {
            idle_connections: vec![100, 200],
            cost_locks: vec![10, 20],
            cost_locks_mosquitto: 20,
            cost_rounds: 2,
            cost_window: Duration::from_millis(300),
            publishers: 5,
            rate_per_second: 500,
            storm_locks: 100,
            probe_every: Duration::from_millis(2),
            latency_locks: 20,
            latency_window: Duration::from_millis(300),
            warm_up: Duration::from_millis(50),
        }
    }
    /// The turns in which the cost of a message is measured.
    pub fn turns(&self) -> Turns {
        Turns {
            rounds: self.cost_rounds,
            window: self.cost_window,
            warm_up: self.warm_up,
            publishers: self.publishers,
            loads: vec![Loop::Closed(WINDOW), Loop::Open(self.rate_per_second)],
            rounds_heard: 0,
        }
    }
}
