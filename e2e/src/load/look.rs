//! What is seen of the processes under load, of the load itself and of the machine, from outside: CPU
//! time and memory, as /proc has them.
//!
//! CPU time is read at the edges of what is measured, memory before and after, since that takes
//! longer and may even wait.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::bench::idle::settle;
use crate::bench::meter::memory_bytes_of;
use crate::process::{cpu_time, cpu_times_of_threads};

/// Whether memory is read as it is, or once it has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// As it is.
    Now,
    /// Once it does not change any more, or after a while.
    Calm,
}

/// How a figure of memory is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Exact, to the page.
    Exact,
    /// Give or take a MiB: the exact figure is for the process's own user alone.
    Rough,
    /// It had not come to rest when it was read.
    Restless,
}

/// Resident memory of a process.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    /// How much.
    pub bytes: u64,
    /// How exactly.
    pub quality: Quality,
}

/// The processes under load.
pub struct Watched(Vec<(u32, String)>);

/// CPU time so far.
pub struct Look {
    /// When.
    pub at: Instant,
    /// Of the load.
    pub load: Times,
    /// Of the processes, in their order.
    pub processes: Vec<Times>,
    /// Time that all cores together were not idle.
    pub machine: Duration,
}

/// CPU time of a process.
pub struct Times {
    all: Duration,
    threads: BTreeMap<u32, (String, Duration)>,
}

/// How busy a thread of the load was.
#[derive(Debug, Clone, Serialize)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Percent of a core.
    pub percent: f64,
}

impl Watched {
    /// These processes, which are there.
    pub fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let name = |&pid: &u32| {
            let path = format!("/proc/{pid}/comm");
            let name = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            anyhow::Ok((pid, name.trim().to_owned()))
        };
        Ok(Self(pids.iter().map(name).collect::<Result<_, _>>()?))
    }

    /// Ids and names.
    pub fn processes(&self) -> &[(u32, String)] {
        &self.0
    }

    /// Looks at their CPU time, and at the load's.
    pub fn look(&self) -> anyhow::Result<Look> {
        Ok(Look {
            at: Instant::now(),
            processes: self.0.iter().map(|(pid, _)| Times::of(*pid)).collect::<Result<_, _>>()?,
            load: Times::of(std::process::id())?,
            machine: busy_time()?,
        })
    }

    /// Their memory.
    pub async fn memory(&self, memory: Memory) -> anyhow::Result<Vec<Resident>> {
        let mut all = Vec::with_capacity(self.0.len());
        for (pid, name) in &self.0 {
            let resident = match memory {
                // The kernel walks through all of a large process; acknowledgements are read meanwhile.
                Memory::Now => {
                    let pid = *pid;
                    spawn_blocking(move || resident(pid)).await.context("look at memory")?
                }
                Memory::Calm => calm(*pid).await,
            };
            all.push(resident.with_context(|| format!("measure {name} ({pid})"))?);
        }
        Ok(all)
    }
}

impl Look {
    /// How busy each thread of the load was since an earlier look, the busiest first. Those that have
    /// ended since are left out, and those that did next to nothing.
    pub fn threads_since(&self, before: &Self) -> Vec<Thread> {
        let took = (self.at - before.at).as_secs_f64().max(1e-6);
        let busy = |(name, time): (&str, Duration)| {
            let percent = 100.0 * time.as_secs_f64() / took;
            (percent >= 1.0).then(|| Thread { name: name.to_owned(), percent })
        };
        let mut threads: Vec<_> = self.load.of_threads_since(&before.load).filter_map(busy).collect();
        threads.sort_by(|one, other| other.percent.total_cmp(&one.percent));
        threads
    }
}

impl Times {
    fn of(id: u32) -> anyhow::Result<Self> {
        Ok(Self { threads: cpu_times_of_threads(id)?, all: cpu_time(id)? })
    }

    /// Of all of it since then, of threads that have ended as well.
    pub fn since(&self, before: &Self) -> Duration {
        self.all.saturating_sub(before.all)
    }

    /// Of the thread that took the most since then.
    pub fn busiest_since(&self, before: &Self) -> Duration {
        self.of_threads_since(before).map(|(_, time)| time).max().unwrap_or_default()
    }

    /// Of those threads that are there.
    fn of_threads_since(&self, before: &Self) -> impl Iterator<Item = (&str, Duration)> {
        self.threads.iter().map(|(id, (name, time))| {
            let earlier = before.threads.get(id).map_or(Duration::ZERO, |(_, time)| *time);
            (name.as_str(), time.saturating_sub(earlier))
        })
    }
}

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

fn resident(pid: u32) -> anyhow::Result<Resident> {
    match memory_bytes_of(pid) {
        Ok(bytes) => Ok(Resident { bytes, quality: Quality::Exact }),
        Err(_) => Ok(Resident { bytes: rough_bytes(pid)?, quality: Quality::Rough }),
    }
}

async fn calm(pid: u32) -> anyhow::Result<Resident> {
    let quality = resident(pid)?.quality;
    let settled = settle(|| Ok(resident(pid)?.bytes)).await?;
    Ok(Resident { bytes: settled.bytes, quality: if settled.is_calm { quality } else { Quality::Restless } })
}

/// Resident memory as everybody may read it.
fn rough_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.with_context(|| format!("no VmRSS in {path}"))?.trim().parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rough_figure_is_near_the_exact_one() {
        let own = std::process::id();
        let (rough, exact) = (rough_bytes(own).unwrap(), resident(own).unwrap());
        assert_eq!(exact.quality, Quality::Exact);
        assert!(rough.abs_diff(exact.bytes) < 64 << 20, "{rough} and {}", exact.bytes);
        assert!(rough_bytes(u32::MAX).is_err() && resident(u32::MAX).is_err());
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 1 2 4\n";
        assert_eq!(busy_ticks(stat), Some(1 + 2 + 4 + 8 + 16 + 32));
        assert_eq!(busy_ticks("cpu0 1 2"), None);
    }

    #[tokio::test]
    async fn a_busy_thread_is_seen() {
        let watched = Watched::of(&[std::process::id()]).unwrap();
        let before = watched.look().unwrap();
        let busy = std::thread::Builder::new().name("busy".to_owned()).spawn(move || {
            let (until, mut looks) = (before.at + Duration::from_secs(20), Vec::new());
            while Instant::now() < until
                && looks.last().is_none_or(|threads: &Vec<Thread>| threads.is_empty())
            {
                let after = watched.look().unwrap();
                let busy = after.threads_since(&before).into_iter().filter(|thread| thread.name == "busy");
                looks.push(busy.collect());
            }
            looks.pop().unwrap()
        });
        assert!(!busy.unwrap().join().unwrap().is_empty());
    }
}
