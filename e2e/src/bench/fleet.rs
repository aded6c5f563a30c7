//! Many idle locks, connected by a process of their own: open files are bounded per process, and
//! when the process is killed, the kernel closes all of its connections at once.
//!
//! [`hold`] is that process (`bench hold`); [`Fleet`] starts and ends it.
//!
//! Why it does not stand on [`crate::load::crowd`]: those connections can send and say PINGREQ. Opening
//! one took half as much processor time again, which the broker lacks when connects are counted, and
//! their PINGREQ would be among what idle connections cost.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use latchline_shared::keys::MasterKey;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::arguments::Key;
use crate::bench::lock::{self, Session};
use crate::load::stage::make_room;
use crate::process::Process;

/// Connections that are being opened at once.
const OPENING: u32 = 256;
/// Files that a process needs beside one for each lock.
const FILES_SPARE: u32 = 100;
/// Not all brokers are quick at it, and many locks take longer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(240);
const CONNECT_DEADLINE_EACH: Duration = Duration::from_millis(3);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const READY: &str = "connected in ";
const MASTER_KEY_VARIABLE: &str = "LATCHLINE_MASTER_KEY";

/// How connections end when their process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Close {
    /// In order, by FIN.
    Fin,
    /// Abruptly, by RST.
    Rst,
}

/// Which locks, and how.
#[derive(Debug, Clone, Copy, Args)]
pub struct Order {
    /// Broker, IP:port
    #[arg(long)]
    pub server: SocketAddr,
    /// Number of the first lock
    #[arg(long)]
    pub first: u32,
    /// How many locks
    #[arg(long)]
    pub count: u32,
    /// Whether the broker keeps their sessions
    #[arg(long)]
    pub session: Session,
    /// How the connections end
    #[arg(long)]
    pub close: Close,
}

/// Connects the locks, says so, and holds the connections until the process is killed or its parent
/// has ended.
#[expect(clippy::disallowed_macros, reason = "the parent process reads standard output")]
pub async fn hold(order: Order, key: &Key) -> anyhow::Result<()> {
    let parent = std::os::unix::process::parent_id();
    make_room(u64::from(order.count))?;
    let begun = Instant::now();
    let locks = open_all(order, key.read()?).await?;
    println!("{READY}{}", begun.elapsed().as_secs_f64());
    // Runs until it is killed, or forsaken.
    while std::os::unix::process::parent_id() == parent {
        sleep(Duration::from_secs(1)).await;
    }
    drop(locks);
    Ok(())
}

async fn open_all(order: Order, master: MasterKey) -> anyhow::Result<Vec<TcpStream>> {
    let next = Arc::new(AtomicU32::new(0));
    let mut openers = JoinSet::new();
    for _ in 0..OPENING.min(order.count) {
        let (master, next) = (master.clone(), Arc::clone(&next));
        openers.spawn(async move {
            let mut opened = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= order.count {
                    return anyhow::Ok(opened);
                }
                let stream = lock::open(order.server, &master, order.first + number, order.session).await?;
                if order.close == Close::Rst {
                    stream.set_zero_linger()?;
                }
                opened.push(stream);
            }
        });
    }
    let mut locks = Vec::with_capacity(order.count as usize);
    while let Some(opened) = openers.join_next().await {
        locks.append(&mut opened.context("an opener died")??);
    }
    Ok(locks)
}

/// Connected locks, in as many processes of their own as they need open files; they are gone when it is
/// dropped.
#[derive(Debug)]
pub struct Fleet {
    processes: Vec<Process>,
    begun_at: Instant,
    count: u32,
}

/// Files that a process may have open here.
pub fn files_max() -> anyhow::Result<u32> {
    let limit = rlimit::Resource::NOFILE.get_hard().context("the limit of open files")?;
    Ok(u32::try_from(limit).unwrap_or(u32::MAX))
}

impl Fleet {
    /// Starts to connect locks.
    pub fn start(order: Order, master_hex: &str) -> anyhow::Result<Self> {
        let each = files_max()?.saturating_sub(FILES_SPARE);
        ensure!(each > 0, "a process may have no more than {FILES_SPARE} open files");
        let (binary, begun_at, mut processes) = (binary()?, Instant::now(), Vec::new());
        for part in order.parts(each) {
            let mut command = part.command(&binary)?;
            processes.push(Process::start("bench hold", command.env(MASTER_KEY_VARIABLE, master_hex))?);
        }
        Ok(Self { processes, begun_at, count: order.count })
    }

    /// Connects locks and waits until all of them are.
    pub async fn connect(order: Order, master_hex: &str) -> anyhow::Result<Self> {
        let mut fleet = Self::start(order, master_hex)?;
        fleet.connected().await?;
        Ok(fleet)
    }

    /// Waits until all are connected and subscribed; the answer is how long they took.
    pub async fn connected(&mut self) -> anyhow::Result<Duration> {
        let until = self.begun_at + CONNECT_DEADLINE + self.count * CONNECT_DEADLINE_EACH;
        let mut took = Duration::ZERO;
        for process in &mut self.processes {
            loop {
                let lines = process.output().lines();
                if let Some(seconds) = lines.iter().find_map(|line| line.strip_prefix(READY)) {
                    // Begun at the same time, and done when the slowest is.
                    took = took.max(Duration::from_secs_f64(seconds.parse()?));
                    break;
                }
                if let Some(status) = process.ended() {
                    bail!("bench hold ended ({status}):\n{}", lines.join("\n"));
                }
                ensure!(Instant::now() < until, "{} locks are not connected in time", self.count);
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(took)
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Closes all connections at once.
    pub fn close(self) {
        drop(self);
    }
}

impl Order {
    /// The same locks, at most `each` of them in a part.
    fn parts(self, each: u32) -> impl Iterator<Item = Self> {
        let part =
            move |begin| Self { first: self.first + begin, count: each.min(self.count - begin), ..self };
        (0..self.count).step_by(each as usize).map(part)
    }

    fn command(&self, binary: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(binary);
        command
            .arg("hold")
            .args(["--server", &self.server.to_string()])
            .args(["--first", &self.first.to_string()])
            .args(["--count", &self.count.to_string()])
            .args(["--session", &word(self.session)?])
            .args(["--close", &word(self.close)?]);
        Ok(command)
    }
}

/// A choice as it stands on the command line.
fn word(choice: impl ValueEnum) -> anyhow::Result<String> {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).context("a choice without a name")
}

/// The benchmark's own binary, which is this process or was built with it.
pub(crate) fn binary() -> anyhow::Result<std::path::PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    // Tests are in a folder below the binaries.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("bench"));
    found
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no bench beside {}: cargo build --workspace --bins", own.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lock_is_in_one_part() {
        let server = SocketAddr::from(([127, 0, 0, 1], 1));
        for (count, each, expected) in [
            (7, 3, &[(10, 3), (13, 3), (16, 1)][..]),
            (6, 3, &[(10, 3), (13, 3)]),
            (2, 3, &[(10, 2)]),
            (0, 3, &[]),
        ] {
            let order = Order { server, first: 10, count, session: Session::Clean, close: Close::Fin };
            let parts: Vec<_> = order.parts(each).map(|part| (part.first, part.count)).collect();
            assert_eq!(parts, expected, "{count} in parts of {each}");
        }
    }
}
