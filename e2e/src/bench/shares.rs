//! Who had the processors while something was measured: the target, the load, or somebody else; and
//! so which of them a rate is that of.
//!
//! A closed loop is as fast as the slowest of those that it goes through. Its rate is the target's
//! only if it was the target that could do no more ([`Limit`]); on a machine with few cores the load
//! is as often what it is.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::load::look::Look;

/// From so much of a core on, a thread has no time left.
const BUSY: f64 = 0.9;

/// Cores that each of them took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shares {
    /// The target's process.
    pub target: f64,
    /// The busiest thread of it.
    pub target_thread: f64,
    /// This process, which is the load, with the development Kafka in it.
    pub load: f64,
    /// The busiest thread of it.
    pub load_thread: f64,
    /// Everybody and the kernel, what a neighbour on the same host has taken away included.
    pub machine: f64,
    /// Cores that there are.
    pub cores: f64,
}

/// What could do no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// A thread of the load: the target might take more.
    Load,
    /// A thread of the target.
    Target,
    /// All cores together, none of the two by itself: they share them.
    Machine,
    /// Nobody: those that wait for each other's answers.
    Waiting,
}

impl Limit {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Target => "target",
            Self::Machine => "machine",
            Self::Waiting => "waiting",
        }
    }
}

impl Shares {
    /// What they took between two looks, of which the target is the first process.
    pub(super) fn between(before: &Look, after: &Look) -> anyhow::Result<Self> {
        let seconds = (after.at - before.at).as_secs_f64();
        let cores = |time: Duration| time.as_secs_f64() / seconds;
        let target = after.processes.first().zip(before.processes.first());
        let (target, target_before) = target.context("no process is looked at")?;
        Ok(Self {
            target: cores(target.since(target_before)),
            target_thread: cores(target.busiest_since(target_before)),
            load: cores(after.load.since(&before.load)),
            load_thread: cores(after.load.busiest_since(&before.load)),
            machine: cores(after.machine.saturating_sub(before.machine)),
            cores: std::thread::available_parallelism()?.get() as f64,
        })
    }

    /// The medians of several turns, each by itself.
    pub fn medians(turns: &[Self]) -> Option<Self> {
        let median = |of: fn(&Self) -> f64| Some(super::figures::Spread::of(turns.iter().map(of))?.median);
        Some(Self {
            target: median(|shares| shares.target)?,
            target_thread: median(|shares| shares.target_thread)?,
            load: median(|shares| shares.load)?,
            load_thread: median(|shares| shares.load_thread)?,
            machine: median(|shares| shares.machine)?,
            cores: median(|shares| shares.cores)?,
        })
    }

    /// What could do no more; the load before all others, since then nothing is known of them.
    pub fn limit(&self) -> Limit {
        if self.load_thread >= BUSY {
            Limit::Load
        } else if self.target_thread >= BUSY {
            Limit::Target
        } else if self.machine >= BUSY * self.cores {
            Limit::Machine
        } else {
            Limit::Waiting
        }
    }

    /// The names of the columns.
    pub const HEAD: &str = "cores: target  (thread)    load  (thread)  machine  limit";
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, target_thread, load, load_thread, machine, .. } = self;
        write!(f, "{target:13.2} {target_thread:9.2} {load:7.2} {load_thread:9.2} {machine:8.2}  ")?;
        write!(f, "{}", self.limit().name())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::load::look::Watched;

    const IDLE: Shares =
        Shares { target: 0.0, target_thread: 0.0, load: 0.0, load_thread: 0.0, machine: 0.0, cores: 2.0 };

    #[test]
    fn the_limit_is_who_can_do_no_more() {
        for (shares, limit) in [
            (IDLE, Limit::Waiting),
            (Shares { target_thread: 0.95, load_thread: 0.95, ..IDLE }, Limit::Load),
            (Shares { target_thread: 0.95, machine: 2.0, ..IDLE }, Limit::Target),
            (Shares { target_thread: 0.6, load_thread: 0.6, machine: 1.9, ..IDLE }, Limit::Machine),
            (Shares { target_thread: 0.6, load_thread: 0.6, machine: 1.5, ..IDLE }, Limit::Waiting),
        ] {
            assert_eq!(shares.limit(), limit, "{shares:?}");
        }
    }

    #[test]
    fn what_is_busy_has_its_share() {
        // This process stands for both.
        let watched = Watched::of(&[std::process::id()]).unwrap();
        let before = watched.look().unwrap();
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        let shares = Shares::between(&before, &watched.look().unwrap()).unwrap();
        assert!(shares.target_thread > 0.0 && shares.load_thread > 0.0 && shares.machine > 0.0, "{shares:?}");
        assert!(shares.load_thread <= 1.1 && shares.cores >= 1.0, "{shares:?}");
        let nobody = Watched::of(&[]).unwrap().look().unwrap();
        assert!(Shares::between(&nobody, &nobody).is_err());
    }
}
