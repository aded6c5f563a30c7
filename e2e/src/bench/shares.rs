//! Who had the processors while something was measured: the target, the load, or somebody else; and
//! so which of them a rate is that of.
//!
//! A closed loop is as fast as the slowest of those that it goes through. Its rate is the target's
//! only if it was the target that could do no more ([`Limit`]); on a machine with few cores the load
//! is as often what it is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::process;

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

/// A look at all counters.
pub(super) struct Look {
    at: Instant,
    target: Times,
    load: Times,
    machine: Duration,
}

/// CPU time of a process.
struct Times {
    all: Duration,
    threads: BTreeMap<String, Duration>,
}

impl Look {
    /// Looks at the target's process, this one, and the machine.
    pub(super) fn at(target: u32) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            target: Times::of(target)?,
            load: Times::of(std::process::id())?,
            machine: busy_time()?,
        })
    }

    /// CPU time of the target since an earlier look.
    pub(super) fn target_since(&self, before: &Self) -> Duration {
        self.target.all.saturating_sub(before.target.all)
    }

    /// Since an earlier look.
    pub(super) fn since(&self, before: &Self) -> anyhow::Result<Shares> {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let cores = |time: Duration| time.as_secs_f64() / seconds;
        let all = |now: &Times, before: &Times| cores(now.all.saturating_sub(before.all));
        Ok(Shares {
            target: all(&self.target, &before.target),
            target_thread: cores(self.target.busiest_since(&before.target)),
            load: all(&self.load, &before.load),
            load_thread: cores(self.load.busiest_since(&before.load)),
            machine: cores(self.machine.saturating_sub(before.machine)),
            cores: std::thread::available_parallelism()?.get() as f64,
        })
    }
}

impl Times {
    fn of(id: u32) -> anyhow::Result<Self> {
        let folder = format!("/proc/{id}/task");
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
            let thread = thread?;
            // A thread that has ended meanwhile is not the busiest.
            let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let nanoseconds = text.split(' ').next().and_then(|time| time.parse().ok());
            let time = Duration::from_nanos(nanoseconds.with_context(|| format!("{folder}: {text}"))?);
            threads.insert(thread.file_name().to_string_lossy().into_owned(), time);
        }
        Ok(Self { all: process::cpu_time(id)?, threads })
    }

    fn busiest_since(&self, before: &Self) -> Duration {
        let spent = |(id, now): (&String, &Duration)| {
            now.saturating_sub(before.threads.get(id).copied().unwrap_or_default())
        };
        self.threads.iter().map(spent).max().unwrap_or_default()
    }
}

/// Time that all cores together were not idle.
fn busy_time() -> anyhow::Result<Duration> {
    const PATH: &str = "/proc/stat";
    let text = std::fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    let ticks = busy_ticks(&text).with_context(|| format!("no times in {PATH}"))?;
    Ok(Duration::from_millis(ticks * 10))
}

/// All but idle and iowait, the fourth and fifth; guests, behind the eighth, are in the first already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().take(8);
    let times: Vec<u64> = times.filter_map(|time| time.parse().ok()).collect();
    (times.len() == 8).then(|| times.iter().sum::<u64>() - times[3] - times[4])
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 2 4\n";
        assert_eq!(busy_ticks(stat), Some(1 + 2 + 4 + 8 + 16 + 32));
        assert_eq!(busy_ticks("cpu0 1 2"), None);
    }

    #[test]
    fn a_busy_thread_is_seen() {
        let own = std::process::id();
        let before = Look::at(own).unwrap();
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        let look = Look::at(own).unwrap();
        let shares = look.since(&before).unwrap();
        assert!(shares.load_thread > 0.0 && shares.machine > 0.0 && shares.cores >= 1.0, "{shares:?}");
        assert!(shares.load_thread <= 1.1, "{shares:?}");
    }
}
